import Generation
import Transformers

extension ExitSweep {
  /// Refuses every exit, but looks at all of them.
  private struct Refusing: ExitPolicy {
    var base: ThresholdPolicy
    func exitLayers(layerCount: Int) -> [Int] { base.candidateLayers(layerCount: layerCount) }
    func decide(_ observation: ExitObservation) -> ExitDecision { .continue }
  }

  /// The pieces of one prompt by a run at each threshold where something changes: what state propagation needs, whose
  /// cache depends on where tokens leave. The prompt passes the layers once.
  ///
  /// - Returns: `nil` when `shouldStop` said so.
  func rerun(_ request: Request, shouldStop: () -> Bool) throws -> [Piece]? {
    guard let (full, stopped) = try read(request, shouldStop: shouldStop) else { return nil }
    var options = request.options
    options.promptDepth = nil
    let decoder = model.decoder
    let bytesOfDepth = decoder.configuration.layerCount * decoder.bytesPerLayer + decoder.bytesOfUnembedding
    let runner = PassRunner()
    var pieces: [Piece] = []
    var threshold: Double? = 1
    while let current = threshold {
      var strategy = strategy
      strategy.policy = pieces.isEmpty ? Refusing(base: policy) : policy.with(threshold: current)
      let exits = try ExitDecoder(strategy, decoder: decoder)
      let first = pieces.isEmpty ? full : stopped ?? full
      first.cache.crop(to: first.prompt.count)
      var sequence = try first.rewound(model: model, options: options)
      _ = try sequence.append(first.generated[0])
      var watch = RepetitionWatch()
      watch.append(first.generated[0])
      var refused: Double?
      var bytes = 0
      var depthWork = makeDepthWork()
      while sequence.stopReason == nil {
        if shouldStop() { return nil }
        let index = sequence.generated.count
        if sequence.trippedAt != nil {
          _ = try runner.run(sequence.fullDepthPass(of: decoder) { _ in })
          bytes += bytesOfDepth
          depthWork.addFullDepth()
          continue
        }
        guard let step = try exits.step(sequence), let depth = step.depth else { break }
        let leavesEarly = depth.reason != .lastLayer
        // The run at 1 looks at exits for the sake of the sweep only.
        bytes += pieces.isEmpty ? bytesOfDepth : depth.bytesRead
        if pieces.isEmpty {
          depthWork.addFullDepth()
        } else {
          depthWork.add(looks: depth.checks.count, depth: step.layer, leavesEarly: leavesEarly)
        }
        for check in leavesEarly ? depth.checks.dropLast() : depth.checks[...] {
          let critical = policy.criticalThreshold(
            confidence: check.confidence, at: index, of: options.maxTokens)
          if let critical, critical < current { refused = max(refused ?? critical, critical) }
        }
        watch.append(step.id)
        if !pieces.isEmpty, let tripwire = options.tripwire, watch.isTripped(tripwire) {
          sequence = try sequence.cut(to: watch.safeCount, model: model, options: options)
          try readAgain(sequence)
        }
      }
      let generation = sequence.makeGeneration()
      var work = depthWork.work
      work.tokens = max(generation.tokenIDs.count - 1, 0)
      pieces.append(
        Piece(
          threshold: current, generation: generation,
          bytesPerToken: Double(bytes) / Double(max(work.tokens, 1)), work: work))
      if !full.isCovered {
        threshold = nil
      } else if pieces.count == 1, stopped != nil {
        threshold = below
      } else {
        threshold = following(refused, below: current)
      }
    }
    return pieces
  }
}
