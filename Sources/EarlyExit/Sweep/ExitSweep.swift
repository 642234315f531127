import Generation
import Transformers

/// The outputs of prompts at every exit threshold, from the safest down.
///
/// An output changes at finitely many thresholds only. While the sweep decodes with λ, it keeps the largest threshold
/// at which a token that stayed would have left. Every threshold between that one and λ gives the same output, so the
/// sweep goes on there.
///
/// With deferred completion a token passes all layers, and the sweep looks at every exit layer on the way. So it need
/// not decode again for a lower threshold until a token changes, and then only from that token on. Several prompts are
/// decoded at a time. With state propagation the cache itself depends on the threshold, and each threshold needs a run
/// of its own.
///
/// A request may have a prompt whose tokens stop after a layer (`GenerationOptions.promptDepth`). Its output at the
/// threshold 1 is that of full depth all the same, for the prompt too: what others are compared with. All lower
/// thresholds decode after the prompt that stopped. The prompt passes the layers once for both.
public struct ExitSweep {
  /// An output, and the largest threshold that gives it.
  public struct Piece: Sendable, Equatable {
    /// The largest threshold that gives this output, in 0...1.
    public var threshold: Double
    /// The output.
    public var generation: Generation
    /// Bytes of weights read, on average over the tokens after the first; 0 where there is none.
    public var bytesPerToken: Double
    /// What decoding the tokens after the first took.
    public var work: ExitWork
    /// The mean distance of the exit heads' distributions from those of the full model, over all tokens; 0 unless the
    /// sweep was asked for it. The first token passes all layers.
    public var distance: Double

    /// Puts a piece together.
    public init(
      threshold: Double, generation: Generation, bytesPerToken: Double, work: ExitWork,
      distance: Double = 0
    ) {
      self.threshold = threshold
      self.generation = generation
      self.bytesPerToken = bytesPerToken
      self.work = work
      self.distance = distance
    }
  }

  /// A prompt and how to go on from it.
  public struct Request: Sendable {
    /// The prompt's tokens.
    public var prompt: [TokenID]
    /// Greedy; its exits are replaced by the sweep's. A prompt's depth is that of all thresholds below 1.
    public var options: GenerationOptions

    /// Puts a request together.
    public init(prompt: [TokenID], options: GenerationOptions) {
      self.prompt = prompt
      self.options = options
    }
  }

  let model: LanguageModel
  let strategy: ExitStrategy
  let policy: ThresholdPolicy
  let distance: DistributionDistance?
  private let grid: [Double]?
  private let lowest: Double

  /// Tokens that the caches of all prompts under way may have together; a single prompt may have more.
  private static let cachedTokens = 32_768

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - strategy: Everything but the policy.
  ///   - policy: Everything but the threshold.
  ///   - distance: Keeps the tokens those of the full-depth run, and measures how far the distribution at each token's
  ///     exit layer is from the full model's. With deferred completion only.
  ///   - grid: The only thresholds to be used beside 1, in any order, or `nil` for every one at which something
  ///     changes.
  ///   - lowest: No threshold below this is tried.
  /// - Throws: ``EarlyExitError`` for thresholds outside [0, 1), for exit layers or heads that do not fit the model,
  ///   and for a distance with state propagation.
  public init(
    model: LanguageModel, strategy: ExitStrategy, policy: ThresholdPolicy,
    distance: DistributionDistance? = nil, grid: [Double]? = nil, lowest: Double = 0
  ) throws(EarlyExitError) {
    for value in (grid ?? []) + [lowest] where !(value >= 0 && value < 1) {
      throw .option(field: "threshold of a sweep", expected: "at least 0 and below 1", found: "\(value)")
    }
    if distance != nil, strategy.cachePolicy != .defer {
      throw .option(
        field: "exit-cache", expected: "defer where distributions are compared",
        found: strategy.cachePolicy.rawValue)
    }
    var candidate = strategy
    candidate.policy = policy.with(threshold: 0)
    _ = try candidate.validatedLayers(for: model.decoder)
    self.model = model
    self.strategy = strategy
    self.policy = policy
    self.distance = distance
    self.grid = grid.map { $0.sorted(by: >) }
    self.lowest = lowest
  }

  /// Runs one prompt at all thresholds. The first piece, at the threshold 1, is the full-depth run.
  ///
  /// - Parameters:
  ///   - prompt: Tokens, at least one.
  ///   - options: As those of a ``Request``.
  ///   - shouldStop: Asked before each token.
  /// - Returns: Pieces by descending threshold, or `nil` when `shouldStop` said so.
  /// - Throws: As ``run(_:width:shouldStop:finished:)``.
  public func run(
    _ prompt: [TokenID], options: GenerationOptions, shouldStop: () -> Bool = { Task.isCancelled }
  ) throws -> [Piece]? {
    var result: [Piece]?
    _ = try run([Request(prompt: prompt, options: options)], shouldStop: shouldStop) { result = $1 }
    return result
  }

  /// Runs prompts at all thresholds, several at a time.
  ///
  /// Each gets the pieces that it gets alone, to the bit.
  ///
  /// - Parameters:
  ///   - requests: The prompts, each with its options.
  ///   - width: Prompts to decode at a time. Results do not depend on it up to the decoder's limit.
  ///   - shouldStop: Asked before each token.
  ///   - finished: Told of each prompt's number and pieces by descending threshold, in the order of the prompts; what
  ///     it throws ends the run.
  /// - Returns: Whether all were finished; `false` when `shouldStop` said so before.
  /// - Throws: ``EarlyExitError`` for options that are not greedy and for a prompt's depth where distributions are
  ///   compared; `GenerationError` for a prompt that does not fit and a depth that the model does not have;
  ///   `DecoderError`, and the tokenizer's errors.
  public func run(
    _ requests: [Request], width: Int = 8, shouldStop: () -> Bool = { Task.isCancelled },
    finished: (Int, [Piece]) throws -> Void
  ) throws -> Bool {
    for request in requests where request.options.sampling != .greedy {
      throw EarlyExitError.option(field: "temperature", expected: "0 for a sweep", found: "above 0")
    }
    if distance != nil, let depth = requests.compactMap(\.options.promptDepth).first {
      throw EarlyExitError.option(
        field: "prompt-depth", expected: "absent where distributions are compared", found: "\(depth)")
    }
    guard strategy.cachePolicy == .defer else {
      for (index, request) in requests.enumerated() {
        guard let pieces = try rerun(request, shouldStop: shouldStop) else { return false }
        try finished(index, pieces)
      }
      return true
    }
    let decoder = model.decoder
    let width = max(1, min(width, decoder.invariantBatchLimit))
    let layers = policy.candidateLayers(layerCount: decoder.configuration.layerCount)
    let probe = ExitProbe(
      layers: layers, readsPrevious: strategy.measure.reads.contains(.previousHiddenState), decoder: decoder,
      width: width)
    var heads = try ExitHead(strategy.heads, decoder: decoder, rows: width)
    var active: [(index: Int, curve: ExitCurve)] = []
    // Of a prompt that was read, with no place among the active ones yet.
    var waiting = active
    var done: [Int: [Piece]] = [:]
    var next = 0
    var reported = 0
    while reported < requests.count {
      while active.count < width, !waiting.isEmpty || next < requests.count {
        if waiting.isEmpty {
          if shouldStop() { return false }
          let request = requests[next]
          let held = active.reduce(0) { $0 + $1.curve.sequence.cache.capacity }
          let needed = min(request.prompt.count + request.options.maxTokens, model.contextLength)
          let copies = request.options.promptDepth == nil ? 1 : 2
          if !active.isEmpty, held + copies * needed > Self.cachedTokens { break }
          guard let curves = try begin(request, shouldStop: shouldStop) else { return false }
          waiting = curves.map { (next, $0) }
          next += 1
        }
        active.append(waiting.removeFirst())
      }
      let pending = active.compactMap(\.curve.sequence.pending)
      if !pending.isEmpty {
        if shouldStop() { return false }
        let states = try probe.step(pending)
        let places = active.indices.filter { active[$0].curve.sequence.pending != nil }
        // Each matrix is read once for all sequences.
        let seen = places.indices.filter { active[places[$0]].curve.looks }
        let shared = try (seen.isEmpty ? [] : layers).enumerated().map { index, layer in
          try heads.sharedLogits(of: seen.flatMap { states[$0].after[index] }, layer: layer)
        }
        var full = Array(repeating: [Float]?.none, count: states.count)
        if distance != nil { full = try logits(of: states, heads: &heads) }
        var asked: [Int] = []
        for (row, place) in places.enumerated() {
          let own = seen.firstIndex(of: row).map { own in shared.map { $0.row(own, of: seen.count) } }
          let isNeeded = try active[place].curve.look(
            states[row], shared: own ?? [], full: full[row], layers: layers)
          if isNeeded { asked.append(row) }
        }
        let answers = try logits(of: asked.map { states[$0] }, heads: &heads)
        var tokens = Array(repeating: TokenID?.none, count: states.count)
        for (row, answer) in zip(asked, answers) {
          tokens[row] = answer?.withUnsafeBufferPointer { Logits.argmax($0) }
        }
        for (row, place) in places.enumerated() { try active[place].curve.add(tokens[row]) }
      }
      for (index, curve) in active where curve.sequence.pending == nil {
        done[index, default: []] += curve.pieces
      }
      active.removeAll { $0.curve.sequence.pending == nil }
      while let pieces = done[reported], !active.contains(where: { $0.index == reported }),
        !waiting.contains(where: { $0.index == reported })
      {
        done[reported] = nil
        try finished(reported, pieces.sorted { $0.threshold > $1.threshold })
        reported += 1
      }
    }
    return true
  }

  /// Reads a prompt and chooses the first tokens: of one curve from the threshold 1 down, or, where the prompt's tokens
  /// stop after a layer, of the full-depth output at 1 and of a curve below.
  ///
  /// - Returns: `nil` when `shouldStop` said so.
  private func begin(_ request: Request, shouldStop: () -> Bool) throws -> [ExitCurve]? {
    guard let (full, stopped) = try read(request, shouldStop: shouldStop) else { return nil }
    var curves = [try ExitCurve(self, request: request, sequence: full, looks: stopped == nil)]
    if let stopped, let below {
      curves.append(try ExitCurve(self, request: request, sequence: stopped, from: below))
    }
    for index in curves.indices { try curves[index].settle() }
    return curves
  }

  /// Reads a prompt.
  ///
  /// - Returns: The sequence that all its tokens passed all layers for and, where they stop after a layer, the other;
  ///   `nil` when `shouldStop` said so.
  func read(_ request: Request, shouldStop: () -> Bool) throws -> (
    full: SequenceDecoding, stopped: SequenceDecoding?
  )? {
    let layerCount = model.decoder.configuration.layerCount
    let depths = [request.options.promptDepth].compactMap { $0 == layerCount ? nil : $0 }
    let read = try model.readPrompt(
      request.prompt, options: request.options, depths: depths, shouldStop: shouldStop)
    return read.map { ($0[0], $0.count > 1 ? $0[1] : nil) }
  }

  /// Reads prompt and output again where an output was brought back after a prompt whose tokens stopped.
  func readAgain(_ sequence: SequenceDecoding) throws {
    guard sequence.hasUnreadParts else { return }
    var buffers = DecodingBuffers(decoder: model.decoder)
    _ = try buffers.readPrompt(of: sequence, shouldStop: { false })
  }

  /// The first threshold below 1; `nil` where no other is tried.
  var below: Double? { following(1.nextDown, below: 1) }

  /// The full model's logits, (vocabularySize) for each.
  private func logits(of states: [ExitProbe.States], heads: inout ExitHead) throws -> [[Float]?] {
    guard !states.isEmpty else { return [] }
    try heads.runFull(states.flatMap(\.last))
    let width = heads.logits.count / states.count
    return states.indices.map { Array(heads.logits[$0 * width..<($0 + 1) * width]) }
  }

  /// What the tokens of a sequence take, none so far.
  func makeDepthWork() -> DepthWork {
    DepthWork(
      layerCount: model.decoder.configuration.layerCount, reads: strategy.measure.reads,
      cache: strategy.cachePolicy, groupLimit: strategy.groupLimit)
  }

  /// The threshold to go on with after `current`, where `refused` is the largest at which anything changes.
  func following(_ refused: Double?, below current: Double) -> Double? {
    let next = refused.flatMap { refused in
      guard let grid else { return refused }
      return grid.first { $0 <= refused && $0 < current }
    }
    return next.flatMap { $0 < lowest ? nil : $0 }
  }
}
