import EarlyExit
import Generation
import SpeculativeDecoding

extension ThresholdSweep {
  /// Rollback thresholds to try unless others are asked for: -ln of probabilities from 0.6 to 2e-9.
  public static let rollbackGrid = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 15, 20]

  /// A small model or a draft head that drafts for a large one, by rising rollback threshold from 0.
  ///
  /// - Parameters:
  ///   - subject: The model, which needs no draft of its own.
  ///   - draft: What drafts for it.
  ///   - fallback: A draft stops before a token less probable than this.
  ///   - draftLength: Tokens to draft at a time.
  ///   - grid: The only thresholds to try beside 0, or `nil` for ``rollbackGrid``.
  ///   - maxTokens: `nil` for what is usual for each document's task.
  ///   - regime: How the documents are decoded besides.
  ///   - promptDepth: The layer after which the tokens of prompts stop at all thresholds above 0; `nil` where they pass
  ///     all layers. The costs are then of whole documents, prompt and output.
  ///   - policyGuard: Which documents the policy applies to; `nil` for all. Where prompts stop, it has to read a layer
  ///     that is not above theirs.
  public static func drafts(
    _ subject: DecodingSubject, draft: DecodingSubject.Draft, fallback: Double, draftLength: Int,
    grid: [Double]? = nil, maxTokens: Int? = nil, regime: DecodingRegime, promptDepth: Int? = nil,
    guard policyGuard: PolicyGuard? = nil
  ) throws -> ThresholdSweep {
    let model = subject.model
    let layerCount = model.decoder.configuration.layerCount
    let strategy = try SpeculationStrategy(
      [draft.source], for: model, rule: .rollback(threshold: 0), fallback: fallback,
      draftLength: draftLength)
    let description = try SpeculationDescription(
      model: model, draft: draft.name, modelDigest: subject.modelDigest, draftDigest: draft.digest,
      fallback: fallback, draftLength: draftLength, regime: regime,
      applicability: policyGuard?.reference, tripwire: policyGuard?.tripwire, promptDepth: promptDepth)
    let grid = grid ?? rollbackGrid
    return ThresholdSweep(
      settings: RunSettings(policy: .drafts(description), grid: grid, maxTokens: maxTokens),
      measure: {
        var subject = subject
        subject.draft = draft
        return try .measured(subject, prompts: promptDepth != nil)
      }
    ) { records, shouldStop, finished in
      let sweep = try RollbackSweep(strategy, grid: grid)
      let requests = try records.map { record in
        var options = try model.options(for: record, maxTokens: maxTokens)
        (options.applicability, options.tripwire) = (policyGuard?.found, policyGuard?.tripwire)
        options.promptDepth = promptDepth
        return RollbackSweep.Request(
          prompt: try model.wholePrompt(for: record, options: options), options: options)
      }
      return try sweep.run(requests, shouldStop: shouldStop) { index, pieces in
        try finished(
          index,
          pieces.map { piece in
            let output = DraftWork(piece.statistics, tokens: piece.generation.tokenIDs.count)
            let work = promptDepth.map { depth in
              SweepWork.draftedDocuments(
                DocumentWork(
                  prompt: PromptWork(
                    prompt: requests[index].prompt.count, depth: piece.threshold > 0 ? depth : layerCount,
                    layerCount: layerCount, isInside: piece.generation.applicability?.isInside,
                    trippedAt: piece.generation.trippedAt),
                  output: output))
            }
            return Output(
              threshold: piece.threshold, text: piece.generation.text.trimmingWhitespace(),
              cost: piece.bytesPerToken / 1e6, work: work ?? .drafts(output),
              layer: piece.generation.averageLayer ?? 0,
              isInside: piece.generation.applicability?.isInside)
          })
      }
    }
  }
}
