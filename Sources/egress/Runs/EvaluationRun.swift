import ArgumentParser
import Certification
import EarlyExit
import Generation
import RiskControl

/// Compares two ways of decoding on documents, or on a shard of them.
struct EvaluationRun {
  let documents: EvaluationDocuments
  let models: ModelOptions
  let exits: ExitOptions
  let speculation: SpeculationOptions

  /// What is compared, and on what.
  private struct Work {
    var certificate: Certificate?
    var metric: QualityMetric
    var risk: QualityRisk
    var records: [DocumentRecord]
  }

  /// - Returns: What came out, `nil` where no document was finished, and whether all were.
  func run() throws -> (result: Evaluation.Result?, isWhole: Bool) {
    let work = try plan()
    var evaluation = try makeEvaluation(work, models.load())
    let isWhole = try decode(work.records[...], of: work.records.count, &evaluation) { _, _ in }
    return (evaluation.result(certificate: work.certificate, threshold: exits.exitThreshold), isWhole)
  }

  /// Decodes a shard's documents; the merge counts them together.
  func run(_ shard: Shard, command: String) throws {
    let work = try plan()
    let own = work.records.filter { shard.contains($0.id) }
    let path = shard.path(for: documents.shardOutput)
    let begun = try ShardOptions.begun(
      shard, command: command, models: models, data: documents.data, output: documents.shardOutput,
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
    let (metric, risk) = try documents.measure(certificate, path: exits.certificate)
    let records = try documents.read(metric, risk)
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
    Interrupt.watch()
    let bar = ProgressBar(total: total, what: "documents")
    let before = total - records.count
    bar.show(done: before)
    defer { bar.clear() }
    return try evaluation.add(
      records, after: before, progress: { bar.show(done: $0, since: before) }, note: note)
  }
}
