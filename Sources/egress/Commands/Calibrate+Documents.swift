import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import LossTables
import RiskControl

extension Calibrate {
  /// Runs the model, makes the table of losses and calibrates on it; of a shard, runs the model alone.
  func runOnDocuments(_ settings: CalibrationSettings) throws {
    guard let data = documents.data else { return }
    let (metric, risk) = try quality()
    if try isShardDone() { return }
    let all = try readRecords(data, metric: metric, risk: risk)
    // What cannot come out is told before anything is run.
    func checkFeasibility(_ count: Int) throws {
      for epsilon in rule.epsilon.values {
        // With several metrics these are theirs, and otherwise of one certificate each.
        var one = settings
        one.epsilon = epsilon
        try one.checkFeasibility(sampleCount: count, lossBound: metric.bound)
      }
    }
    try checkFeasibility(all.count)
    let loaded = try subject.load()
    let draft = try drafting.draft.map { try LoadedDraft($0, for: loaded, threads: subject.threads) }
    let stem = documents.stem
    // A guard that is asked before a prompt goes on from a layer reads that layer at the latest.
    let made = try guarding.make(
      loaded, records: all, stem: stem, layer: leastDepth(of: loaded), maxTokens: documents.maxTokens,
      check: checkFeasibility)
    let records = Array(all.dropFirst(made?.documents ?? 0))
    let policyGuard = made?.guard
    // What a sweep decodes with: greedily, whole documents, one task a document.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    func candidate(_ name: String, stem: String, _ sweep: ThresholdSweep) throws -> Candidate {
      Candidate(
        name: name, stem: stem,
        calibrator: try Calibrator(sweep, metric: metric, risk: risk, documentsPath: data, records: records))
    }
    let candidates: [Candidate]
    if let draft {
      let fallbacks = drafting.fallback?.values ?? [draft.usualFallback]
      candidates = try fallbacks.map { fallback in
        try candidate(
          "fallback \(fallback)", stem: fallbacks.count == 1 ? stem : "\(stem).fallback-\(fallback)",
          .drafts(
            loaded.subject(), draft: draft.subject(), fallback: fallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength, grid: documents.grid?.values,
            maxTokens: documents.maxTokens, regime: regime, guard: policyGuard))
      }
    } else if documents.promptDepth {
      candidates = [
        try candidate(
          "prompts", stem: stem,
          .prompts(
            loaded.subject(), depths: documents.depths, maxTokens: documents.maxTokens, regime: regime,
            guard: policyGuard))
      ]
    } else {
      candidates = [try candidate("exits", stem: stem, exitSweep(loaded, metric, regime, policyGuard))]
    }
    // Before hours of work, not after.
    let files = try certificateFiles(
      settings, subjects: candidates.map { try $0.calibrator.subject() }, sampleCount: records.count)
    let facts = DecoderFacts(
      model: loaded.model.name, draft: draft?.name, layers: loaded.model.decoder.configuration.layerCount,
      megabytes: Double(loaded.model.bytesPerToken) / 1e6)
    if let shard = try documents.sharding.chosen() {
      try runShard(
        shard, of: candidates, skipped: made?.documents ?? 0, facts: facts, modelDigest: loaded.digest())
      return
    }
    // Policies are compared by what the same parts cost.
    var measured: SweepCosts?
    func measure(_ sweep: ThresholdSweep) throws -> SweepCosts {
      let costs = try measured ?? prices(for: sweep.settings.policy) ?? sweep.measure()
      measured = costs
      return costs
    }
    let outputs = try candidates.map { candidate in
      try runs(candidate.calibrator, path: candidate.stem + ".runs.jsonl") {
        try measure(candidate.calibrator.sweep)
      }
    }
    try certify(candidates, outputs: outputs, settings: settings, facts: facts, files: files)
  }

  /// The least layer that --prompt-depth tries; `nil` for another policy.
  private func leastDepth(of loaded: LoadedModel) -> Int? {
    guard documents.promptDepth else { return nil }
    let layerCount = loaded.model.decoder.configuration.layerCount
    let least = (documents.depths ?? PromptDepthSweep.usualDepths(layerCount: layerCount)).min() ?? layerCount
    return min(least, layerCount)
  }

  private func readRecords(_ data: String, metric: QualityMetric, risk: QualityRisk) throws
    -> [DocumentRecord]
  {
    let records = Array(
      try DocumentFile.read(data).prefix(
        documents.limit ?? .max))
    for one in try [(metric: metric, risk: risk)]
      + loss.further(rule.epsilon.values).map({ (metric: $0.metric, risk: $0.risk) })
    {
      try one.risk.check(records, metric: one.metric, name: data)
    }
    return records
  }

  private func exitSweep(
    _ loaded: LoadedModel, _ metric: QualityMetric, _ regime: DecodingRegime, _ policyGuard: PolicyGuard?
  ) throws -> ThresholdSweep {
    let subject = try loaded.subject(exits)
    let policy = try exits.policy(threshold: 0, heads: subject.heads)
    guard policy.threshold < 1 else {
      throw CommandError("the exit plan has no exits, for none pays: there is no threshold to calibrate")
    }
    return try .exits(
      subject, strategy: exits.strategy(policy, heads: subject.heads, model: loaded.model), policy: policy,
      distance: metric.distance, grid: documents.grid?.values, lowest: documents.lowest ?? 0,
      isExhaustive: documents.everyThreshold,
      maxTokens: documents.maxTokens, regime: regime, guard: policyGuard)
  }

  /// What the parts of decoding cost by --prices; `nil` where they are measured here.
  private func prices(for policy: PolicyDescription) throws -> SweepCosts? {
    try documents.prices.map { try PriceFile.read(path: $0).costs(for: policy, name: $0) }
  }

  /// The outputs of every document: those of an earlier run that are in the file, and the others.
  private func runs(
    _ calibrator: Calibrator, path: String, shard: ShardDescription? = nil,
    measure: @escaping () throws -> SweepCosts
  ) throws -> [RunLine] {
    let file = try calibrator.openRuns(path, measure: measure, shard: shard)
    if let prices = try prices(for: calibrator.sweep.settings.policy), file.costs != prices {
      throw CommandError(
        "\(path) was begun with other prices; give the same again, or choose another --output")
    }
    let (before, count) = (file.lines.count, calibrator.records.count)
    if before > 0 { Console.note("\(path) has \(min(before, count)) of \(count) documents already") }
    let bar = ProgressBar(total: count, what: "documents")
    Interrupt.watch()
    bar.show(done: before)
    defer { bar.clear() }
    let lines = try calibrator.complete(file, shouldStop: { Interrupt.isRequested }) { bar.show(done: $0) }
    guard let lines else {
      bar.clear()
      Console.note(
        "\(path) has \(file.lines.count) of \(count) documents; the same command goes on from there")
      throw ExitCode(Interrupt.exitCode)
    }
    try file.finish()
    return lines
  }

  private func shardFile(_ shard: Shard) -> ShardFile {
    ShardFile(path: "\(documents.stem).\(shard.name).runs.jsonl")
  }

  private func describe(_ shard: Shard) throws -> ShardDescription {
    let data = documents.data ?? ""
    return ShardDescription(
      shard, command: Self._commandName, arguments: ShardOptions.arguments, data: data,
      dataDigest: try FileDigest.sha256(path: data), modelDigest: "", output: documents.stem, documents: 0,
      lines: 0)
  }

  /// Whether an earlier run has finished the shard that is asked for, which is known before the model is loaded.
  private func isShardDone() throws -> Bool {
    guard let shard = try documents.sharding.chosen() else { return false }
    let file = shardFile(shard)
    let isDone = try file.isFinished(as: describe(shard)) {
      try subject.digest()
    }
    if isDone { Console.note("\(file.path) is done") }
    return isDone
  }

  private func runShard(
    _ shard: Shard, of candidates: [Candidate], skipped: Int, facts: DecoderFacts, modelDigest: String
  ) throws {
    let part = candidates[0].calibrator.restricted(to: shard)
    var description = try describe(shard)
    description.modelDigest = modelDigest
    (description.skipped, description.decoder) = (skipped, facts)
    (description.documents, description.lines) = (
      candidates[0].calibrator.records.count, part.records.count
    )
    _ = try runs(part, path: shardFile(shard).path, shard: description) {
      // --shard needs --prices.
      try prices(for: part.sweep.settings.policy) ?? part.sweep.measure()
    }
  }
}
