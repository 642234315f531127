import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import LossTables
import RiskControl
import Transformers

struct Calibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract:
      "Certify a threshold of exits or of drafts, from a model and documents or from a table of losses.",
    discussion: """
      With --data, the model is run on every document at full depth and at two dozen thresholds. NAME (--output) \
      begins the names of the files: NAME.runs.jsonl, the outputs, by which an interrupted or repeated command goes \
      on; NAME.losses.jsonl, the table of losses, for study and verify; NAME.certificate.json; and the certificate's \
      guard, NAME.guard.safetensors, which has to lie beside it.

      With --draft as well, what is certified is the rollback threshold of that draft model, by rising threshold from 0; with \
      --prompt-depth, the layer after which prompts stop, from the last down.

      TABLE is CSV, .npy, safetensors or JSON Lines, told by its first bytes, or - for standard input. A CSV table has \
      thresholds in its first column, safest first, and one column a sample. With several tables (one a policy) the \
      cheapest certified policy is chosen, delta divided among them.

      EXAMPLES
        egress calibrate --data docs.jsonl --metric rouge-l --confidence saturation --exit-layers 24,27 --epsilon 0.05
        egress summarize --certificate docs.certificate.json article.txt
        egress calibrate --model LARGE --draft SMALL --data docs.jsonl --epsilon 0.05
        egress summarize --model LARGE --draft SMALL --certificate docs.certificate.json article.txt
        egress calibrate --data docs.jsonl --prompt-depth --epsilon 0.02
        egress calibrate --data questions.jsonl --risk selective --metric exact-match --epsilon 0.1
        egress answer --certificate questions.certificate.json --question "When was it built?" bridge.txt
        egress calibrate losses.csv --epsilon 0.05
        egress calibrate --data docs.jsonl --epsilon 0.05 --prices prices.json --shard 3/8

      Exit status: 0 a threshold past the safest is certified; 3 only the safest (the full model) is; 2 nothing is; \
      1 the data are wrong; 64 the options are. With --shard 0 when the shard is done; see egress merge.
      """)

  @Argument(help: "Table of losses; several tables are several policies.")
  var tables: [String] = []

  @OptionGroup(title: "Running a Model") var documents: CalibrationDocuments
  @OptionGroup(title: "Running a Model") var guarding: CalibrationGuard
  @OptionGroup(title: "Early Exit Options") var exits: ExitPolicyOptions
  @OptionGroup(title: "Drafting") var drafting: CalibrationDraft
  @OptionGroup var rule: RuleArguments
  @OptionGroup var table: TableArguments

  @Option(help: "Another risk to hold at the same threshold, as TABLE:EPSILON or TABLE:EPSILON:B.")
  var also: [FurtherRiskArgument] = []

  @Option(help: "File of density ratios, one a sample, where deployment differs from calibration.")
  var weights: String?

  @Option(
    name: .customLong("weight-bound"), parsing: .unconditional, help: "Upper bound on any density ratio.")
  var weightBound: Double?

  @Option(
    name: [.customShort("o"), .long],
    help: "Certificate file. (default: TABLE.certificate.json; with --data, NAME.certificate.json)")
  var certificate: String?

  @Option(
    help: ArgumentHelp(
      "Sign the certificate with this Ed25519 key, a PEM file as openssl genpkey -algorithm ed25519 writes it.",
      valueName: "key.pem"))
  var sign: String?

  @Flag(help: "Replace a certificate of other settings.")
  var force = false

  @Option(
    help: """
      With --data gap, the loss against the references less that of the full model, or consistency, the loss against \
      the full model's output; or selective, the loss of the answers that are given, for which a confidence is \
      certified; with a table, any name for the certificate. (default: gap; with brier and hellinger consistency)
      """)
  var risk: String?

  @Option(
    help: """
      With --data, the loss: \(QualityMetric.names.joined(separator: ", ")), or several as rouge-l,repetition, which \
      then hold together at one threshold, each with the epsilon or with its own of as many; with a table, any name \
      for the certificate. (default: rouge-l; with a table loss)
      """)
  var metric: String?

  @Option(
    help: ArgumentHelp(
      "With --data, the model: a name, a .gguf file, or a Hugging Face directory; with a table, the file whose "
        + "SHA-256 goes "
        + "into the certificate. (default with --data: \(ModelManifest.defaultName))", valueName: "model"))
  var model: String?

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "With --data, how the model computes: quantized, 4-bit or float32; see summarize. (default: quantized)",
      valueName: "path"))
  var compute: ComputePath?

  @Option(
    help: ArgumentHelp(
      "With --data, a low-rank adapter to merge into the weights; see summarize.", valueName: "adapter"))
  var adapter: String?

  @Option(help: "With a table: file of the exit policy, whose SHA-256 goes into the certificate.")
  var policy: String?

  @Option(help: "Print text or json (the certificate).")
  var format = TableFormat.text

  func validate() throws {
    if tables.count > 1, !also.isEmpty || weights != nil || rule.epsilon.values.count > 1 {
      throw ValidationError("several policies take one epsilon, and neither --also nor --weights")
    }
    if !also.isEmpty, rule.epsilon.values.count > 1 || weights != nil {
      throw ValidationError("--also takes one epsilon a risk, and no --weights")
    }
    if (weights == nil) != (weightBound == nil) {
      throw ValidationError("--weights and --weight-bound belong together")
    }
    _ = try rule.settings(isGrowing: documents.data != nil && !isSelective)
    try documents.data == nil ? validateTables() : validateDocuments()
  }

  private func validateTables() throws {
    guard !tables.isEmpty else { throw ValidationError("Give a table of losses, or --data.") }
    let given =
      documents.given + guarding.given + exits.given + drafting.given + (threads == nil ? [] : ["threads"])
      + (compute == nil ? [] : ["compute"]) + (adapter == nil ? [] : ["adapter"])
    if let name = given.first { throw ValidationError("--\(name) has no effect without --data.") }
  }

  private func validateDocuments() throws {
    guard tables.isEmpty else { throw ValidationError("Give either a table of losses or --data, not both.") }
    if policy != nil { throw ValidationError("--policy has no effect with --data.") }
    if let name = table.given.first { throw ValidationError("--\(name) has no effect with --data.") }
    if documents.promptDepth, isSelective || drafting.draft != nil {
      throw ValidationError(
        "--prompt-depth certifies prompts alone, without \(isSelective ? "--risk selective" : "--draft").")
    }
    if isSelective { return try validateAnswers() }
    let (metric, _) = try quality()
    try validateFurtherMetrics()
    if drafting.draft != nil {
      if let fallback = drafting.fallback, fallback.values.count > 1, documents.sharding.shard != nil {
        throw ValidationError("several values of --fallback take no --shard")
      }
      if let fallback = drafting.fallback, fallback.values.count > 1, rule.epsilon.values.count > 1 {
        throw ValidationError("several values of --fallback take one epsilon")
      }
      if let fallback = drafting.fallback, fallback.values.count > 1, rule.rule == .crc {
        throw ValidationError(
          "several values of --fallback take --rule ucb or ltt: crc controls an expectation, which does not "
            + "hold for the best of several")
      }
      let sweep = [("lowest", documents.lowest != nil), ("every-threshold", documents.everyThreshold)]
      if let name = exits.given.first ?? sweep.first(where: { $0.1 })?.0 {
        throw ValidationError("--\(name) has no effect with --draft.")
      }
      guard metric.distance == nil else {
        throw ValidationError("--metric \(metric.name) compares exits; with --draft give one of texts.")
      }
    } else if documents.promptDepth {
      if let name = exits.given.first {
        throw ValidationError("--\(name) has no effect with --prompt-depth.")
      }
      guard metric.distance == nil else {
        throw ValidationError(
          "--metric \(metric.name) compares exits; with --prompt-depth give one of texts.")
      }
    } else if let grid = documents.grid, !grid.values.allSatisfy({ $0 < 1 }) {
      throw ValidationError("--grid must hold thresholds at least 0 and below 1.")
    }
  }

  /// The names that --metric gives.
  var metricNames: [String] {
    (metric ?? "rouge-l").split(separator: ",", omittingEmptySubsequences: false).map(String.init)
  }

  /// With --data, the metric and the risk; of several metrics, the first.
  func quality() throws -> (metric: QualityMetric, risk: QualityRisk) {
    guard let metric = QualityMetric(name: metricNames.first ?? "") else {
      throw ValidationError("--metric must be one of \(QualityMetric.names.joined(separator: ", ")).")
    }
    let usual = metric.distance == nil ? QualityRisk.gap : .consistency
    guard let risk = QualityRisk(rawValue: risk ?? usual.rawValue) else {
      throw ValidationError("--risk must be gap or consistency.")
    }
    if metric.distance != nil, risk == .gap {
      throw ValidationError(
        "--metric \(metric.name) compares with the full model: --risk must be consistency.")
    }
    if !metric.readsReferences, risk == .consistency {
      throw ValidationError("--metric \(metric.name) is a property of one text: --risk must be gap.")
    }
    if metric.distance != nil, exits.exitCache == .propagate {
      throw ValidationError("--metric \(metric.name) needs --exit-cache defer.")
    }
    return (metric, risk)
  }

  func run() throws {
    if let data = documents.data, isSelective { return try runOnAnswers(data) }
    let settings = try rule.settings(isGrowing: documents.data != nil)
    if documents.sharding.shard != nil {
      return try ShardFailure.classifying { try runOnDocuments(settings) }
    }
    if documents.data != nil { return try runOnDocuments(settings) }
    let subject = Certificate.Subject(
      risk: risk ?? "performance gap", metric: metric ?? "loss",
      modelDigest: try model.map(FileDigest.sha256(model:)),
      policyDigest: try policy.map(FileDigest.sha256(path:)))
    let certificates =
      try tables.count > 1
      ? [choosePolicy(settings, subject)]
      : calibrateOne(settings, subject, losses: table.read(tables[0]))
    let files = try certificates.map {
      try CertificateFile(path: path(for: $0.settings.epsilon), replacing: force)
    }
    try finish(certificates, files)
  }

  /// Writes and prints certificates and ends with the status of the best.
  func finish(_ unsigned: [Certificate], _ files: [CertificateFile], remarks: [String] = []) throws {
    let key = try sign.map { try CertificateSigningKey(path: $0) }
    let certificates = try unsigned.map { try key.map($0.signed(with:)) ?? $0 }
    for (certificate, file) in zip(certificates, files) {
      try file.check(
        settings: certificate.settings, subjects: [certificate.subject], sampleCount: certificate.sampleCount)
    }
    for (certificate, file) in zip(certificates, files) { try certificate.write(to: file.path) }
    try print(certificates)
    if format == .text { for remark in remarks { try TextOutput.standard.write(remark + "\n") } }
    throw ExitCode(Self.status(certificates))
  }

  func calibrateOne(
    _ settings: CalibrationSettings, _ subject: Certificate.Subject, losses: LossTable,
    further metrics: [(table: LossTable, epsilon: Double, metric: String)] = []
  ) throws -> [Certificate] {
    let calibration = try Calibration(settings)
    if !also.isEmpty || !metrics.isEmpty {
      let further =
        try also.map { (table: try table.read($0.path, lossBound: $0.lossBound), epsilon: $0.epsilon) }
        + metrics.map { (table: $0.table, epsilon: $0.epsilon) }
      let results = try calibration.calibrate(
        together: [(table: losses, epsilon: settings.epsilon)] + further)
      let others = zip(results.dropFirst(), further).map { (result: $0, table: $1.table) }
      return [
        Certificate(
          results[0], table: losses, settings: settings, further: others,
          furtherMetrics: metrics.map(\.metric), subject: subject, program: EgressVersion.program)
      ]
    }
    let ratios = try weights.map { path in
      try SampleWeights(try LossTable.numbers(path: path), bound: weightBound ?? 1)
    }
    return try calibration.calibrate(losses, epsilons: rule.epsilon.values, weights: ratios).map {
      Certificate(
        $0, table: losses, settings: settings, weights: ratios, subject: subject,
        program: EgressVersion.program)
    }
  }

  private func choosePolicy(
    _ settings: CalibrationSettings, _ subject: Certificate.Subject
  ) throws -> Certificate {
    let policies = try tables.map { Calibration.Policy(name: $0, table: try table.read($0)) }
    let choice = try choose(settings, among: policies)
    let index = choice.chosen ?? 0
    var named = subject
    named.metric += " (policy \(policies[index].name))"
    return Certificate(
      choice.results[index], table: policies[index].table, settings: settings,
      policiesCompared: policies.count,
      subject: named, program: EgressVersion.program)
  }

  /// Calibrates every policy and says how each came out.
  func choose(_ settings: CalibrationSettings, among policies: [Calibration.Policy]) throws
    -> Calibration.PolicyResult
  {
    let choice = try Calibration(settings).choose(among: policies)
    if format == .text {
      for (policy, result) in zip(policies, choice.results) {
        let cost = result.outcome.choice?.cost.map { ", cost \(TableText.short($0))" } ?? ""
        try TextOutput.standard.write("policy      \(policy.name): \(result.outcome.name)\(cost)\n")
      }
    }
    return choice
  }

  /// Where a certificate goes: beside its table, unless told otherwise; with its ε in the name where there are several.
  func path(for epsilon: Double) -> String {
    let table = tables.first == "-" ? "standard-input" : tables.first ?? documents.stem
    let stem = documents.data == nil ? (table as NSString).deletingPathExtension : table
    let path = self.certificate ?? stem + ".certificate.json"
    guard rule.epsilon.values.count > 1, documents.data == nil || metricNames.count == 1 else { return path }
    let whole = path as NSString
    let (base, suffix) = (whole.deletingPathExtension, whole.pathExtension)
    return "\(base).epsilon-\(epsilon)" + (suffix.isEmpty ? "" : ".\(suffix)")
  }

  private func print(_ certificates: [Certificate]) throws {
    if format == .json {
      let texts = try certificates.map { String(decoding: try $0.jsonData(), as: UTF8.self) }
      let text =
        certificates.count == 1
        ? texts[0] : "[\n" + texts.map { String($0.dropLast()) }.joined(separator: ",\n") + "\n]\n"
      try TextOutput.standard.write(text)
      return
    }
    for certificate in certificates {
      try TextOutput.standard.write(
        TableText.describe(certificate, path: path(for: certificate.settings.epsilon)) + "\n")
    }
  }

  /// The best outcome among the certificates decides.
  static func status(_ certificates: [Certificate]) -> Int32 {
    let outcomes = Set(certificates.map(\.outcome))
    return outcomes.contains(.certified) ? 0 : outcomes.contains(.onlySafest) ? 3 : 2
  }
}
