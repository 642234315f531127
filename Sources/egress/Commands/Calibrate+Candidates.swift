import ArgumentParser
import Certification
import EarlyExit
import Generation

/// What decodes the documents of a calibration.
extension Calibrate {
  /// The policies to choose among, as they are called, and what the names of their files begin with: several, with
  /// names, where there are several values of --fallback or layers of --prompt-depth.
  var parts: [(candidate: String?, stem: String)] {
    let stem = documents.stem
    if let values = drafting.fallback?.values, values.count > 1 {
      return values.map { ("fallback \($0)", "\(stem).fallback-\($0)") }
    }
    let layers = documents.promptDepth?.layers ?? []
    guard layers.count > 1 else { return [(nil, stem)] }
    return layers.map { ("prompts to layer \($0)", "\(stem).prompt-depth-\($0)") }
  }

  /// What several policies are chosen among by; `nil` where there is one.
  var severalPolicies: String? {
    guard parts.count > 1 else { return nil }
    return drafting.draft == nil ? "several layers of --prompt-depth" : "several values of --fallback"
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
      guard documents.promptDepth == .certified else {
        let layers = documents.promptDepth?.layers.map(Optional.some) ?? [nil]
        return try layers.map { try exitSweep(loaded, regime, policyGuard, promptDepth: $0) }
      }
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
    _ loaded: LoadedModel, _ regime: DecodingRegime, _ policyGuard: PolicyGuard?, promptDepth: Int?
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
      maxTokens: documents.maxTokens, regime: regime, promptDepth: promptDepth, guard: policyGuard)
  }

  /// The least layer that --prompt-depth tries; `nil` for another policy.
  ///
  /// - Throws: `GenerationError` for a layer that the model does not have.
  func leastDepth(of loaded: LoadedModel) throws -> Int? {
    guard let asked = documents.promptDepth else { return nil }
    let usual = PromptDepthSweep.usualDepths(layerCount: loaded.model.decoder.configuration.layerCount)
    let depths = asked == .certified ? documents.depths ?? usual : asked.layers
    return try PromptDepthSweep(model: loaded.model, depths: depths).depths.last
  }
}
