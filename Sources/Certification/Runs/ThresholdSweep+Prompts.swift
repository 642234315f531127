import Generation

extension ThresholdSweep {
  /// Prompts whose tokens stop after a layer, by falling layer from the last; outputs pass all layers. The costs are of
  /// whole documents.
  ///
  /// - Parameters:
  ///   - subject: The model.
  ///   - depths: The only layers to try beside the last, or `nil` for `PromptDepthSweep.usualDepths(layerCount:)`.
  ///   - maxTokens: The most tokens of an output; `nil` for what is usual for each document's task.
  ///   - regime: How the documents are decoded besides.
  ///   - policyGuard: Which documents the policy applies to; `nil` for all. It has to read a layer that no depth is
  ///     below.
  public static func prompts(
    _ subject: DecodingSubject, depths: [Int]? = nil, maxTokens: Int? = nil, regime: DecodingRegime,
    guard policyGuard: PolicyGuard? = nil
  ) throws -> ThresholdSweep {
    let model = subject.model
    let layerCount = model.decoder.configuration.layerCount
    let sweep = try PromptDepthSweep(
      model: model, depths: depths ?? PromptDepthSweep.usualDepths(layerCount: layerCount))
    let description = try PromptPolicyDescription(
      subject, regime: regime, applicability: policyGuard?.reference, tripwire: policyGuard?.tripwire)
    let megabytes = Double(model.bytesPerToken) / 1e6
    return ThresholdSweep(
      settings: RunSettings(
        policy: .prompts(description), grid: sweep.depths.map(Double.init), maxTokens: maxTokens),
      measure: { .prompts(try PromptCosts.measured(model.decoder)) }
    ) { records, shouldStop, finished in
      for (index, record) in records.enumerated() {
        var options = try model.options(for: record, maxTokens: maxTokens)
        (options.applicability, options.tripwire) = (policyGuard?.found, policyGuard?.tripwire)
        let prompt = try model.wholePrompt(for: record, options: options)
        guard let pieces = try sweep.run(prompt, options: options, shouldStop: shouldStop) else {
          return false
        }
        try finished(
          index,
          pieces.map { piece in
            let isInside = piece.generation.applicability?.isInside
            let work = PromptWork(
              prompt: prompt.count, depth: piece.depth, layerCount: layerCount, isInside: isInside,
              output: piece.generation.tokenIDs.count, trippedAt: piece.generation.trippedAt)
            return Output(
              threshold: Double(piece.depth), text: piece.generation.text.trimmingWhitespace(),
              cost: megabytes, work: .prompts(work), layer: Double(work.layer) / Double(prompt.count),
              isInside: isInside)
          })
      }
      return true
    }
  }
}
