import ArgumentParser
import Certification
import EarlyExit
import Generation

/// What decodes the documents of a calibration.
extension Calibrate {
  /// The policies to choose among: several where there are several values of --fallback.
  func candidates(
    _ loaded: LoadedModel, _ draft: LoadedDraft?, data: String, records: [DocumentRecord],
    _ policyGuard: PolicyGuard?
  ) throws -> [Candidate] {
    // What a sweep decodes with: greedily, whole documents, one task a document.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let (metric, risk) = try quality()
    func candidate(_ name: String, stem: String, _ sweep: ThresholdSweep) throws -> Candidate {
      Candidate(
        name: name, stem: stem,
        calibrator: try Calibrator(sweep, metric: metric, risk: risk, documentsPath: data, records: records))
    }
    let stem = documents.stem
    if let draft {
      let fallbacks = drafting.fallback?.values ?? [draft.usualFallback]
      return try fallbacks.map { fallback in
        try candidate(
          "fallback \(fallback)", stem: fallbacks.count == 1 ? stem : "\(stem).fallback-\(fallback)",
          .drafts(
            loaded.subject(), draft: draft.subject(), fallback: fallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength, grid: documents.grid?.values,
            maxTokens: documents.maxTokens, regime: regime, guard: policyGuard))
      }
    }
    guard documents.promptDepth else {
      return [try candidate("exits", stem: stem, exitSweep(loaded, regime, policyGuard))]
    }
    return [
      try candidate(
        "prompts", stem: stem,
        .prompts(
          loaded.subject(), depths: documents.depths, maxTokens: documents.maxTokens, regime: regime,
          guard: policyGuard))
    ]
  }

  private func exitSweep(
    _ loaded: LoadedModel, _ regime: DecodingRegime, _ policyGuard: PolicyGuard?
  ) throws -> ThresholdSweep {
    let subject = try loaded.subject(exits)
    let policy = try exits.policy(threshold: 0, heads: subject.heads)
    guard policy.threshold < 1 else {
      throw CommandError("the exit plan has no exits, for none pays: there is no threshold to calibrate")
    }
    return try .exits(
      subject, strategy: exits.strategy(policy, heads: subject.heads, model: loaded.model), policy: policy,
      distance: quality().metric.distance, grid: documents.grid?.values, lowest: documents.lowest ?? 0,
      isExhaustive: documents.everyThreshold,
      maxTokens: documents.maxTokens, regime: regime, guard: policyGuard)
  }

  /// The least layer that --prompt-depth tries; `nil` for another policy.
  func leastDepth(of loaded: LoadedModel) -> Int? {
    guard documents.promptDepth else { return nil }
    let layerCount = loaded.model.decoder.configuration.layerCount
    let least = (documents.depths ?? PromptDepthSweep.usualDepths(layerCount: layerCount)).min() ?? layerCount
    return min(least, layerCount)
  }
}
