import DecoderModels

/// The outputs of one prompt at every exit threshold, from the safest down.
///
/// An output changes at finitely many thresholds. While decoding with λ, the largest threshold at which some refused
/// token would have left is kept; every threshold between it and λ gives the same output, so the next run uses it.
public struct ExitSweep {
  /// An output, and the largest threshold that gives it.
  public struct Piece: Sendable, Equatable {
    public var threshold: Double
    public var generation: Generation
    /// Bytes of weights read, on average over the tokens after the first; 0 where there is none.
    public var bytesPerToken: Double

    public init(threshold: Double, generation: Generation, bytesPerToken: Double) {
      self.threshold = threshold
      self.generation = generation
      self.bytesPerToken = bytesPerToken
    }
  }

  /// Refuses every exit, but looks at all of them.
  private struct Refusing: ExitPolicy {
    var base: ThresholdPolicy
    func exitLayers(layerCount: Int) -> [Int] { base.candidateLayers(layerCount: layerCount) }
    func decide(_ observation: ExitObservation) -> ExitDecision { .continue }
  }

  private let model: LanguageModel
  private let options: GenerationOptions
  private let strategy: ExitStrategy
  private let policy: ThresholdPolicy
  private let grid: [Double]?
  private let lowest: Double

  /// - Parameters:
  ///   - options: How to decode; its exits are replaced by the sweep's.
  ///   - strategy: Everything but the policy.
  ///   - policy: Everything but the threshold.
  ///   - grid: The only thresholds to be used beside 1, in any order, or `nil` for every one at which the output changes.
  ///     Fewer thresholds mean fewer runs.
  ///   - lowest: No threshold below this is tried.
  /// - Throws: ``EarlyExitError/option(field:expected:found:)`` for thresholds outside [0, 1).
  public init(
    model: LanguageModel, options: GenerationOptions, strategy: ExitStrategy, policy: ThresholdPolicy,
    grid: [Double]? = nil, lowest: Double = 0
  ) throws(EarlyExitError) {
    for value in (grid ?? []) + [lowest] where !(value >= 0 && value < 1) {
      throw .option(field: "threshold of a sweep", expected: "at least 0 and below 1", found: "\(value)")
    }
    self.model = model
    self.options = options
    self.strategy = strategy
    self.policy = policy
    self.grid = grid.map { $0.sorted(by: >) }
    self.lowest = lowest
  }

  /// Runs one prompt at all thresholds. The first piece, at the threshold 1, is the full-depth run.
  ///
  /// The prompt passes the layers once; each run then decodes from there.
  ///
  /// - Parameter shouldStop: Asked before each token.
  /// - Returns: Pieces by descending threshold, or `nil` when `shouldStop` said so.
  public func run(_ prompt: [TokenID], shouldStop: () -> Bool = { Task.isCancelled }) throws -> [Piece]? {
    var buffers = DecodingBuffers(decoder: model.decoder)
    let first = try SequenceDecoding(model: model, prompt: prompt, options: options)
    guard try buffers.prefill(first, shouldStop: shouldStop) != nil else { return nil }
    let logits = buffers.logits
    var pieces: [Piece] = []
    var threshold: Double? = 1
    while let current = threshold {
      var strategy = strategy
      strategy.policy = pieces.isEmpty ? Refusing(base: policy) : policy.with(threshold: current)
      var decoder = try ExitDecoder(strategy, decoder: model.decoder)
      first.cache.crop(to: first.prompt.count)
      let sequence = try SequenceDecoding(
        model: model, prompt: prompt, options: options, cache: first.cache)
      _ = try logits.withUnsafeBufferPointer { try sequence.accept($0) }
      var next: Double?
      var bytes = 0
      while sequence.stopReason == nil {
        if shouldStop() { return nil }
        let index = sequence.generated.count
        guard let depth = try decoder.step(sequence)?.depth else { break }
        bytes += depth.bytesRead
        let refused = depth.reason == .lastLayer ? depth.checks[...] : depth.checks.dropLast()
        for check in refused {
          let critical = policy.criticalThreshold(
            confidence: check.confidence, at: index, of: options.maxTokens)
          if let critical, critical < current { next = max(next ?? critical, critical) }
        }
      }
      let generation = sequence.makeGeneration()
      pieces.append(
        Piece(
          threshold: current, generation: generation,
          bytesPerToken: Double(bytes) / Double(max(generation.tokenIDs.count - 1, 1))))
      threshold = next.flatMap { next in
        guard let grid else { return next }
        return grid.first { $0 <= next && $0 < current }
      }
      if let next = threshold, next < lowest { threshold = nil }
    }
    return pieces
  }
}
