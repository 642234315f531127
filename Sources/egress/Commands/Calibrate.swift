import ArgumentParser
import Crypto
import Foundation
import RiskControl

struct Calibrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Certify an exit threshold from a table of losses.",
    discussion: """
      TABLE is CSV, .npy, safetensors or JSON Lines, told by its first bytes, or - for standard input. A CSV table has \
      thresholds in its first column, safest first, and one column a sample. With several tables (one a policy) the cheapest \
      certified policy is chosen, delta divided among them.

      Exit status: 0 a threshold past the safest is certified; 3 only the safest (the full model) is; 2 nothing is; \
      1 the data are wrong; 64 the options are.
      """)

  @Argument(help: "Table of losses; several tables are several policies.")
  var tables: [String]

  @OptionGroup var rule: RuleArguments
  @OptionGroup var table: TableArguments

  @Option(help: "Another risk to hold at the same threshold, as TABLE:EPSILON or TABLE:EPSILON:B.")
  var also: [FurtherRiskArgument] = []

  @Option(help: "File of density ratios, one a sample, where deployment differs from calibration.")
  var weights: String?

  @Option(name: .customLong("weight-bound"), help: "Upper bound on any density ratio.")
  var weightBound: Double?

  @Option(name: [.customShort("o"), .long], help: "Certificate file. Default: TABLE.certificate.json.")
  var certificate: String?

  @Option(help: "Name of the risk, for the certificate.")
  var risk = "performance gap"

  @Option(help: "Name of the loss, for the certificate.")
  var metric = "loss"

  @Option(help: "File of the model, whose SHA-256 goes into the certificate.")
  var model: String?

  @Option(help: "File of the exit policy, whose SHA-256 goes into the certificate.")
  var policy: String?

  @Option(help: "Print text or json (the certificate).")
  var format = TableFormat.text

  func validate() throws {
    guard !tables.isEmpty else { throw ValidationError("a table of losses is needed") }
    if tables.count > 1, !also.isEmpty || weights != nil || rule.epsilon.values.count > 1 {
      throw ValidationError("several policies take one epsilon, and neither --also nor --weights")
    }
    if !also.isEmpty, rule.epsilon.values.count > 1 || weights != nil {
      throw ValidationError("--also takes one epsilon a risk, and no --weights")
    }
    if (weights == nil) != (weightBound == nil) {
      throw ValidationError("--weights and --weight-bound belong together")
    }
    _ = try rule.settings()
  }

  func run() throws {
    let settings = try rule.settings()
    let subject = Certificate.Subject(
      risk: risk, metric: metric, modelDigest: try model.map(FileDigest.sha256),
      policyDigest: try policy.map(FileDigest.sha256))
    let certificates =
      try tables.count > 1 ? [choosePolicy(settings, subject)] : calibrateOne(settings, subject)
    for certificate in certificates {
      try certificate.write(to: path(for: certificate, among: certificates.count))
    }
    try print(certificates)
    throw ExitCode(Self.status(certificates))
  }

  private func calibrateOne(
    _ settings: CalibrationSettings, _ subject: Certificate.Subject
  ) throws -> [Certificate] {
    let losses = try table.read(tables[0])
    let calibration = try Calibration(settings)
    if !also.isEmpty {
      let further = try also.map {
        (table: try table.read($0.path, lossBound: $0.lossBound), epsilon: $0.epsilon)
      }
      let results = try calibration.calibrate(
        together: [(table: losses, epsilon: settings.epsilon)] + further)
      let others = zip(results.dropFirst(), further).map { (result: $0, table: $1.table) }
      return [
        Certificate(
          results[0], table: losses, settings: settings, further: others, subject: subject,
          program: Self.program)
      ]
    }
    let ratios = try weights.map { path in
      try SampleWeights(try LossTable.numbers(path: path), bound: weightBound ?? 1)
    }
    return try calibration.calibrate(losses, epsilons: rule.epsilon.values, weights: ratios).map {
      Certificate(
        $0, table: losses, settings: settings, weights: ratios, subject: subject, program: Self.program)
    }
  }

  private func choosePolicy(
    _ settings: CalibrationSettings, _ subject: Certificate.Subject
  ) throws -> Certificate {
    let policies = try tables.map { Calibration.Policy(name: $0, table: try table.read($0)) }
    let choice = try Calibration(settings).choose(among: policies)
    if format == .text {
      for (policy, result) in zip(policies, choice.results) {
        let cost = result.outcome.choice?.cost.map { ", cost \(TableText.short($0))" } ?? ""
        Swift.print("policy      \(policy.name): \(result.outcome.name)\(cost)")
      }
    }
    let index = choice.chosen ?? 0
    var named = subject
    named.metric = metric + " (policy \(policies[index].name))"
    return Certificate(
      choice.results[index], table: policies[index].table, settings: settings,
      policiesCompared: policies.count,
      subject: named, program: Self.program)
  }

  /// Where a certificate goes: beside its table, unless told otherwise; with its ε in the name where there are several.
  private func path(for certificate: Certificate, among count: Int) -> String {
    let table = tables[0] == "-" ? "standard-input" : tables[0]
    let stem = (table as NSString).deletingPathExtension
    let path = self.certificate ?? stem + ".certificate.json"
    guard count > 1 else { return path }
    let whole = path as NSString
    let (base, suffix) = (whole.deletingPathExtension, whole.pathExtension)
    return "\(base).epsilon-\(certificate.settings.epsilon)" + (suffix.isEmpty ? "" : ".\(suffix)")
  }

  private func print(_ certificates: [Certificate]) throws {
    if format == .json {
      let texts = try certificates.map { String(decoding: try $0.jsonData(), as: UTF8.self) }
      let text =
        certificates.count == 1
        ? texts[0] : "[\n" + texts.map { String($0.dropLast()) }.joined(separator: ",\n") + "\n]\n"
      FileHandle.standardOutput.write(Data(text.utf8))
      return
    }
    for certificate in certificates {
      Swift.print(TableText.describe(certificate, path: path(for: certificate, among: certificates.count)))
    }
  }

  /// The best outcome among the certificates decides.
  static func status(_ certificates: [Certificate]) -> Int32 {
    let outcomes = Set(certificates.map(\.outcome))
    return outcomes.contains("certified") ? 0 : outcomes.contains("only_safest") ? 3 : 2
  }

  /// What certificates say made them.
  static let program = "egress 0.1.0"
}

/// The SHA-256 of files of any size.
enum FileDigest {
  static func sha256(_ path: String) throws -> String {
    guard let handle = FileHandle(forReadingAtPath: path) else {
      throw ValidationError("\(path): the file cannot be opened for reading")
    }
    defer { try? handle.close() }
    var hash = SHA256()
    while let piece = try handle.read(upToCount: 8 << 20), !piece.isEmpty { hash.update(data: piece) }
    return hash.finalize().map { String(format: "%02x", $0) }.joined()
  }
}
