import ArgumentParser
import Certification
import Generation
import RiskControl

extension Calibrate {
  /// Runs the model, makes the table of losses and calibrates on it; of a shard, runs the model alone.
  func runOnDocuments(_ data: String) throws {
    let settings = try rule.settings(isGrowing: true)
    let shard = try documents.sharding.chosen()
    let begun = try shard.map { try begin($0, file: "runs.jsonl") }
    if let begun, begun.allSatisfy({ $0 == nil }) { return }
    let all = try readRecords(data)
    // What cannot come out is told before anything is run.
    try checkFeasibility(settings, all.count)
    let loaded = try subject.load()
    let draft = try drafting.draft.map { try LoadedDraft($0, for: loaded, threads: subject.threads) }
    // A guard that is asked before a prompt goes on from a layer reads that layer at the latest.
    let made = try guarding.make(
      loaded, records: all, stem: documents.stem, layer: try leastDepth(of: loaded),
      maxTokens: documents.maxTokens
    ) { try checkFeasibility(settings, $0) }
    let candidates = try candidates(
      loaded, draft, data: data, records: Array(all.dropFirst(made?.documents ?? 0)), made?.guard)
    // Before hours of work, not after.
    let files = try certificateFiles(
      settings, subjects: candidates.map { try $0.calibrator.subject() },
      sampleCount: candidates[0].calibrator.records.count)
    let facts = DecoderFacts(
      model: loaded.model.name, draft: draft?.name, layers: loaded.model.decoder.configuration.layerCount,
      megabytes: Double(loaded.model.bytesPerToken) / 1e6)
    if let begun {
      let digest = try loaded.digest()
      for (candidate, description) in zip(candidates, begun) {
        guard let description else { continue }
        let whole = candidate.calibrator
        let part = whole.restricted(to: description.shard)
        let path = Self.path(candidate.stem, description.shard, "runs.jsonl")
        let completed = description.completed(
          modelDigest: digest, skipped: made?.documents ?? 0, documents: whole.records.count,
          lines: part.records.count, decoder: facts)
        // Shards count; what that costs is said where they are merged.
        _ = try complete(part, part.openRuns(path, measure: { nil }, shard: completed), path: path)
      }
      return
    }
    // Policies are compared by what the same parts cost.
    var measured: SweepCosts?
    let outputs = try candidates.map { candidate in
      let (calibrator, path) = (candidate.calibrator, candidate.stem + ".runs.jsonl")
      let file = try calibrator.openRuns(
        path, prices: documents.prices(for: calibrator.sweep.settings.policy)
      ) { try measured ?? calibrator.sweep.measure() }
      measured = measured ?? file.costs
      return try complete(calibrator, file, path: path)
    }
    try certify(candidates, outputs: outputs, settings: settings, facts: facts, files: files)
  }

  private func readRecords(_ data: String) throws -> [DocumentRecord] {
    let records = Array(try DocumentFile.read(data).prefix(documents.limit ?? .max))
    let (metric, risk) = try quality()
    try risk.check(records, metric: metric, name: data)
    for one in try loss.further(rule.epsilon.values) {
      try one.risk.check(records, metric: one.metric, name: data)
    }
    return records
  }

  /// With several metrics the epsilons are theirs, and otherwise of one certificate each.
  private func checkFeasibility(_ settings: CalibrationSettings, _ count: Int) throws {
    let bound = try quality().metric.bound
    for epsilon in rule.epsilon.values {
      var one = settings
      one.epsilon = epsilon
      try one.checkFeasibility(sampleCount: count, lossBound: bound)
    }
  }

  /// The outputs of every document: those of an earlier run that are in the file, and the others.
  private func complete(_ calibrator: Calibrator, _ file: RunFile, path: String) throws -> [RunLine] {
    let progress = WorkProgress(
      path: path, before: file.lines.count, total: calibrator.records.count, what: "documents")
    defer { progress.clear() }
    let lines = try calibrator.complete(
      file, shouldStop: { Interrupt.isRequested }, progress: progress.show)
    guard let lines else { throw progress.interrupted(file.lines.count) }
    try file.finish()
    return lines
  }
}
