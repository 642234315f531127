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
      by turns, so that what slows the machine down slows down both. Times are of decoding, the prompt's pass apart. \
      With --shard, egress merge prints the result.

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

  /// What is compared, and on what.
  private struct Work {
    var certificate: Certificate?
    var metric: QualityMetric
    var risk: QualityRisk
    var records: [DocumentRecord]
  }

  func run() throws {
    if let shard = try documents.sharding.chosen() {
      return try ShardFailure.classifying { try run(shard) }
    }
    let work = try plan()
    var evaluation = try makeEvaluation(work, models.load())
    let isWhole = try decode(work.records[...], of: work.records.count, &evaluation) { _, _ in }
    guard let result = evaluation.result(certificate: work.certificate, threshold: exits.exitThreshold) else {
      throw ExitCode(Interrupt.exitCode)
    }
    try TextOutput.standard.write(
      output.format == .json ? try JSONOutput.line(result) + "\n" : result.text)
    if !isWhole { throw ExitCode(Interrupt.exitCode) }
  }

  /// Decodes a shard's documents; the merge counts them together.
  private func run(_ shard: Shard) throws {
    let work = try plan()
    let own = work.records.filter { shard.contains($0.id) }
    let path = shard.path(for: documents.shardOutput)
    let begun = try ShardOptions.begun(
      shard, command: Self._commandName, models: models, data: documents.data, output: documents.shardOutput,
      skipped: documents.skip, documents: work.records.count, lines: own.count)
    guard var description = begun else { return }
    let loaded = try models.load()
    description.modelDigest = try loaded.digest()
    var evaluation = try makeEvaluation(work, loaded)
    let makings = try exits.settings(loaded).merging(speculation.settings(loaded, threads: models.threads)) {
      $1
    }
    let settings = try BatchSettings(
      loaded, options: GenerationOptions(maxTokens: documents.maxTokens ?? 0), rule: .split, raw: false,
      seed: nil, exits: makings)
    let lines = try ShardLines(
      path: path,
      header: BatchShardHeader(
        shard: description, settings: settings.digest,
        evaluation: evaluation.facts(certificate: work.certificate, threshold: exits.exitThreshold)),
      ids: own.map(\.id))
    let before = lines.done.count
    if before > 0 { Console.note("\(path) has \(before) of \(own.count) documents already") }
    let isWhole = try decode(own[before...], of: own.count, &evaluation) {
      try lines.append(EvaluationLine(id: $0.id, result: $1))
    }
    guard isWhole else { throw ExitCode(Interrupt.exitCode) }
    try lines.finish()
  }

  private func plan() throws -> Work {
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
    return Work(certificate: certificate, metric: metric, risk: risk, records: records)
  }

  private func makeEvaluation(_ work: Work, _ loaded: LoadedModel) throws -> Evaluation {
    // A certificate whose threshold does not pay comes as full depth. All documents count, for a shard as well.
    let regime = DecodingRegime(
      tasks: work.records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let strategy = try speculation.exitStrategy(exits, loaded, regime: regime)
    var evaluation = Evaluation(
      loaded.model, strategy: strategy, metric: work.metric, risk: work.risk, maxTokens: documents.maxTokens,
      shouldStop: { Interrupt.isRequested })
    try exits.protect(&evaluation.protection, loaded)
    var measured = loaded
    measured.model = evaluation.model
    evaluation.speculation = try speculation.makeStrategy(
      measured, threads: models.threads, exits: exits, exitStrategy: strategy, regime: regime)
    return evaluation
  }

  /// Decodes documents both ways, by turns.
  ///
  /// - Parameters:
  ///   - total: How many there are with those before them.
  ///   - note: Told what each gave.
  /// - Returns: `false` after an interruption.
  private func decode(
    _ records: ArraySlice<DocumentRecord>, of total: Int, _ evaluation: inout Evaluation,
    note: (DocumentRecord, EvaluatedDocument) throws -> Void
  ) throws -> Bool {
    for record in records { try evaluation.check(record) }
    Interrupt.watch()
    let bar = ProgressBar(total: total, what: "documents")
    let before = total - records.count
    bar.show(done: before)
    defer { bar.clear() }
    for (index, record) in zip(before..., records) {
      guard try evaluation.add(record, exitsFirst: index % 2 == 1), let found = evaluation.documents.last
      else { return false }
      try note(record, found)
      bar.show(done: index + 1, since: before)
    }
    return true
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
