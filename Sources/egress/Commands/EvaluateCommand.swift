import ArgumentParser
import EarlyExit
import RiskControl

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract:
      "Compare decoding with early exits or drafts with full depth, on documents not used for calibration.",
    discussion: """
      Every document is decoded both ways in one process, one right after the other, first the one and then the other by \
      turns, so that what slows the machine down slows down both. Times are of decoding, the prompt's pass apart.

      EXAMPLES
        egress evaluate --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --model LARGE --draft SMALL --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --drafter auto --data heldout.jsonl
        egress evaluate --exit-threshold 0.9 --exit-layers 18,24 --data heldout.jsonl --metric token-f1
      """)

  @Option(
    help: ArgumentHelp(
      "JSON Lines file with the fields id, document, question and references.", valueName: "docs.jsonl"))
  var data: String

  @Option(
    help: """
      The loss: \(SequenceLoss.all.map(\.name).joined(separator: ", ")). (default: that of the certificate, or rouge-l)
      """)
  var metric: String?

  @Option(
    help:
      "gap, the loss less that of the full model, or consistency. (default: that of the certificate, or gap)")
  var risk: QualityRisk?

  @Option(parsing: .unconditional, help: "Leave out so many documents at the beginning of the file.")
  var skip = 0

  @Option(parsing: .unconditional, help: "Documents to use, after those left out. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with a question, 48)")
  var maxTokens: Int?

  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Drafting") var speculation: SpeculationOptions
  @OptionGroup var models: ModelOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    guard exits.exitThreshold != nil || exits.certificate != nil || speculation.isActive else {
      throw ValidationError("Give a --certificate or an --exit-threshold, or a --drafter or a --draft.")
    }
    try speculation.validate(with: exits)
    if exits.trace != nil || exits.showExits || speculation.showDrafts {
      throw ValidationError(
        "--trace, --show-exits and --show-drafts take one document; use them with summarize or answer.")
    }
    if let metric, SequenceLoss(name: metric) == nil {
      throw ValidationError(
        "--metric must be one of \(SequenceLoss.all.map(\.name).joined(separator: ", ")).")
    }
    if skip < 0 { throw ValidationError("--skip must be 0 or above, but is \(skip).") }
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
    if let maxTokens, maxTokens < 1 {
      throw ValidationError("--max-tokens must be at least 1, but is \(maxTokens).")
    }
  }

  func run() throws {
    let certificate = try exits.certificate.map { try Certificate.read(path: $0) }
    let (loss, risk) = try measure(certificate)
    let records = Array(
      try BatchInput.read(data) { $0.map { .answer(question: $0) } ?? .summarize }
        .dropFirst(skip).prefix(limit ?? .max))
    guard !records.isEmpty else { throw CommandError("\(data) has no documents after the first \(skip)") }
    if risk == .gap, let record = records.first(where: { $0.references?.isEmpty ?? true }) {
      throw CommandError(
        "\(data): document \(record.id) has no references (an array of texts), which --risk gap needs")
    }
    let loaded = try models.load()
    // A certificate whose threshold does not pay comes as full depth.
    let strategy = try speculation.exitStrategy(exits, loaded)
    var evaluation = Evaluation(loaded, strategy: strategy, loss: loss, risk: risk, maxTokens: maxTokens)
    var measured = loaded
    measured.model = evaluation.model
    evaluation.speculation = try speculation.makeStrategy(measured, threads: models.threads, exits: exits)
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

  private func measure(_ certificate: Certificate?) throws -> (SequenceLoss, QualityRisk) {
    let name = metric ?? certificate?.subject.metric ?? "rouge-l"
    guard let loss = SequenceLoss(name: name) else {
      throw CommandError(
        "\(exits.certificate ?? "") is of the metric \(name), which no text has; give a --metric")
    }
    let known = QualityRisk.allCases.first { $0.name == certificate?.subject.risk }
    return (loss, risk ?? known ?? .gap)
  }
}

extension QualityRisk: ExpressibleByArgument {}
