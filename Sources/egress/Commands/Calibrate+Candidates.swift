import ArgumentParser
import Certification
import EarlyExit
import Generation

/// What decodes the documents of a calibration.
extension Calibrate {
  /// The policies to choose among, as they are called, and what the names of their files begin with: several, with
  /// names, where there are several values of --fallback or layers of --prompt-depth, each of the ones with each of the
  /// others.
  var parts: [(candidate: String?, stem: String)] {
    let (values, layers) = (drafting.fallback?.values ?? [], documents.promptDepth?.layers ?? [])
    typealias Choice = (name: String?, suffix: String)
    let one: [Choice] = [(nil, "")]
    let fallbacks = values.count > 1 ? values.map { Choice("fallback \($0)", ".fallback-\($0)") } : one
    let depths =
      layers.count > 1 ? layers.map { Choice("prompts to layer \($0)", ".prompt-depth-\($0)") } : one
    return fallbacks.flatMap { fallback in
      depths.map { depth in
        let names = [fallback.name, depth.name].compactMap { $0 }
        return (
          names.isEmpty ? nil : names.joined(separator: ", "), documents.stem + fallback.suffix + depth.suffix
        )
      }
    }
  }

  /// What several policies are chosen among by; `nil` where there is one.
  var severalPolicies: String? {
    let several = [
      drafting.fallback?.values.count ?? 0 > 1 ? "values of --fallback" : nil,
      documents.promptDepth?.layers.count ?? 0 > 1 ? "layers of --prompt-depth" : nil,
    ].compactMap { $0 }
    return several.isEmpty ? nil : "several " + several.joined(separator: " and ")
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
    let layers = documents.promptDepth?.layers.map(Optional.some) ?? [nil]
    func sweeps() throws -> [ThresholdSweep] {
      if let draft {
        return try (drafting.fallback?.values ?? [draft.usualFallback]).flatMap { fallback in
          try layers.map { depth in
            try .drafts(
              loaded.subject(), draft: draft.subject(), fallback: fallback,
              draftLength: drafting.draftLength ?? draft.usualDraftLength, grid: documents.grid?.values,
              maxTokens: documents.maxTokens, regime: regime, promptDepth: depth, guard: policyGuard)
          }
        }
      }
      guard documents.promptDepth == .certified else {
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
