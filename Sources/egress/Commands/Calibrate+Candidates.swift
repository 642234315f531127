import ArgumentParser
import Certification
import EarlyExit
import Generation

/// What decodes the documents of a calibration.
extension Calibrate {
  /// The policies to choose among, as they are called, and what the names of their files begin with: several, with
  /// names, where there are several values of --fallback.
  var parts: [(candidate: String?, stem: String)] {
    guard let values = drafting.fallback?.values, values.count > 1 else { return [(nil, documents.stem)] }
    return values.map { ("fallback \($0)", "\(documents.stem).fallback-\($0)") }
  }

  /// The policies to choose among.
  func candidates(
    _ loaded: LoadedModel, _ draft: LoadedDraft?, data: String, records: [DocumentRecord],
    _ policyGuard: PolicyGuard?
  ) throws -> [Candidate] {
    // What a sweep decodes with: greedily, whole documents, one task a document.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let (metric, risk) = try quality()
    func sweeps() throws -> [ThresholdSweep] {
      if let draft {
        return try (drafting.fallback?.values ?? [draft.usualFallback]).map { fallback in
          try .drafts(
            loaded.subject(), draft: draft.subject(), fallback: fallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength, grid: documents.grid?.values,
            maxTokens: documents.maxTokens, regime: regime, guard: policyGuard)
        }
      }
      guard documents.promptDepth else { return [try exitSweep(loaded, regime, policyGuard)] }
      return [
        try .prompts(
          loaded.subject(), depths: documents.depths, maxTokens: documents.maxTokens, regime: regime,
          guard: policyGuard)
      ]
    }
    return try zip(parts, sweeps()).map { part, sweep in
      Candidate(
        name: part.candidate ?? "policy", stem: part.stem,
        calibrator: try Calibrator(sweep, metric: metric, risk: risk, documentsPath: data, records: records))
    }
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
