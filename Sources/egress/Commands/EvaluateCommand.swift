import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Generation
import RiskControl

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract:
      "Compare decoding with early exits or drafts with full depth, on documents not used for calibration.",
    discussion: """
      Every document is decoded both ways in one process, one right after the other, first the one and then the other \
      by turns, so that what slows the machine down slows down both. Times are of decoding, the prompt's pass apart.

      EXAMPLES
        egress evaluate --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --model LARGE --draft SMALL --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --drafter auto --data heldout.jsonl
        egress evaluate --exit-threshold 0.9 --exit-layers 18,24 --data heldout.jsonl --metric token-f1
      """)

  @OptionGroup(title: "Documents") var documents: EvaluationDocuments
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions

  func validate() throws {
    guard exits.isGiven || exits.promptDepth != nil || speculation.isActive else {
      throw ValidationError(
        "Give a --certificate, an --exit-threshold or a --prompt-depth, or a --drafter or a --draft.")
    }
    try speculation.validate(with: exits)
    if exits.trace != nil || exits.showExits || speculation.showDrafts {
      throw ValidationError(
        "--trace, --show-exits and --show-drafts take one document; use them with summarize or answer.")
    }
    if let metric = documents.metric.flatMap(QualityMetric.init(name:)), metric.distance != nil {
      if exits.policy.exitCache == .propagate {
        throw ValidationError("--metric \(metric.name) needs --exit-cache defer.")
      }
      if speculation.isActive {
        throw ValidationError("--metric \(metric.name) compares exits; with drafts give one of texts.")
      }
    }
  }

  func run() throws {
    let certificate = try exits.certificate.map { try Certificate.read(path: $0) }
    let (metric, risk) = try measure(certificate)
    let records = Array(
      try DocumentFile.read(documents.data)
        .dropFirst(documents.skip).prefix(documents.limit ?? .max))
    guard !records.isEmpty else {
      throw CommandError("\(documents.data) has no documents after the first \(documents.skip)")
    }
    if risk == .gap, metric.readsReferences,
      let record = records.first(where: { $0.references?.isEmpty ?? true })
    {
      throw CommandError(
        "\(documents.data): document \(record.id) has no references (an array of texts), which --risk gap needs"
      )
    }
    let loaded = try models.load()
    // A certificate whose threshold does not pay comes as full depth.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let strategy = try speculation.exitStrategy(exits, loaded, regime: regime)
    var evaluation = Evaluation(
      loaded.model, strategy: strategy, metric: metric, risk: risk, maxTokens: documents.maxTokens,
      shouldStop: { Interrupt.isRequested })
    try exits.protect(&evaluation.protection, loaded)
    var measured = loaded
    measured.model = evaluation.model
    evaluation.speculation = try speculation.makeStrategy(
      measured, threads: models.threads, exits: exits, exitStrategy: strategy, regime: regime)
    for record in records { try evaluation.check(record) }
    Interrupt.watch()
    let bar = ProgressBar(total: records.count, what: "documents")
    bar.show(done: 0)
    for (index, record) in records.enumerated() {
      guard try evaluation.add(record, exitsFirst: index % 2 == 1) else { break }
      bar.show(done: index + 1)
    }
    bar.clear()
    guard let result = evaluation.result(certificate: certificate, threshold: exits.exitThreshold) else {
      throw ExitCode(Interrupt.exitCode)
    }
    try TextOutput.standard.write(
      output.format == .json ? try JSONOutput.line(result) + "\n" : result.text)
    if result.documents < records.count { throw ExitCode(Interrupt.exitCode) }
  }

  private func measure(_ certificate: Certificate?) throws -> (QualityMetric, QualityRisk) {
    let name = documents.metric ?? certificate?.subject.metric ?? "rouge-l"
    guard let metric = QualityMetric(name: name) else {
      throw CommandError(
        "\(exits.certificate ?? "") is of the metric \(name), which is not known; give a --metric")
    }
    if metric.distance != nil { return (metric, .consistency) }
    let known = QualityRisk.allCases.first { $0.name == certificate?.subject.risk }
    return (metric, documents.risk ?? known ?? .gap)
  }
}
