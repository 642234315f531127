import Transformers

/// What the parts of decoding one token cost, in one unit: milliseconds measured here, or bytes of weights read.
public struct ExitCosts: Sendable, Equatable, Codable {
  /// One layer for a batch, by the number of its tokens, from 1. In a larger batch a token costs what it does in the
  /// last of these.
  public var layer: [Double]
  /// The model's own head, over the whole vocabulary.
  public var head: Double
  /// An exit's head: its map and its unembedding.
  public var exitHead: Double
  /// A confidence that needs no head.
  public var gate: Double
  /// Keys and values of one skipped layer.
  public var propagatedLayer: Double

  /// Sets all costs, in one unit: milliseconds or bytes.
  public init(layer: [Double], head: Double, exitHead: Double, gate: Double, propagatedLayer: Double) {
    self.layer = layer
    self.head = head
    self.exitHead = exitHead
    self.gate = gate
    self.propagatedLayer = propagatedLayer
  }

  /// One layer for a batch.
  func layer(rows: Int) -> Double {
    guard let last = layer.last, rows > 0 else { return 0 }
    return rows <= layer.count ? layer[rows - 1] : last * Double(rows) / Double(layer.count)
  }

  /// What work costs altogether.
  public func cost(of work: ExitWork) -> Double {
    var cost =
      Double(work.head) * head + Double(work.exitHead) * exitHead + Double(work.gate) * gate
      + Double(work.propagatedLayer) * propagatedLayer
    for (index, passes) in work.layer.enumerated() { cost += Double(passes) * layer(rows: index + 1) }
    return cost
  }

  /// What a token after the first costs, on average; 0 where there is none.
  public func costPerToken(of work: ExitWork) -> Double { cost(of: work) / Double(max(work.tokens, 1)) }

  /// Tokens that a prompt adds to a shortlist, roughly: documents of a page have as many.
  private static let promptTokens = 100

  /// Bytes of weights by the shape of a model.
  ///
  /// - Parameters:
  ///   - hiddenSize: Numbers of a hidden state.
  ///   - feedForwardSize: Numbers between the two products of a feed-forward block.
  ///   - attentionSize: Numbers of all heads of queries.
  ///   - keyValueSize: Numbers of all heads of keys.
  ///   - vocabularySize: Tokens of the whole vocabulary.
  ///   - bitsPerWeight: Of layers; heads and maps have 8.5.
  ///   - shortlist: Tokens that an exit chooses from; 0 for the whole vocabulary.
  public static func bytes(
    hiddenSize: Int, feedForwardSize: Int, attentionSize: Int, keyValueSize: Int, vocabularySize: Int,
    bitsPerWeight: Double, shortlist: Int
  ) -> ExitCosts {
    let (d, f) = (Double(hiddenSize), Double(feedForwardSize))
    let projections = d * Double(attentionSize + 2 * keyValueSize)
    let weights = projections + d * Double(attentionSize) + 3 * d * f
    let row = d * 8.5 / 8
    let candidates = shortlist == 0 ? vocabularySize : shortlist + promptTokens
    return ExitCosts(
      layer: Array(repeating: weights * bitsPerWeight / 8, count: 16), head: Double(vocabularySize) * row,
      exitHead: d * row + Double(candidates) * row, gate: d * 4,
      propagatedLayer: d * Double(2 * keyValueSize) * bitsPerWeight / 8)
  }

  /// Tokens that an encoder-decoder has written before the one whose cost is measured: half of an output of usual
  /// length.
  static let outputContext = 32

  /// Measures a decoder on this machine, in milliseconds; each figure is the best of several rounds.
  ///
  /// - Parameters:
  ///   - decoder: The model.
  ///   - heads: Its exit heads; `nil` for the shared head.
  ///   - context: Tokens before the one that is decoded; by default 256, or fewer where the model holds no more. An
  ///     encoder-decoder has so many for its encoder instead, and 32 in the decoder.
  ///   - rounds: How often each figure is taken, at least 1.
  /// - Throws: `DecoderError`, also when the model's context is too short for the measurement.
  public static func measured(
    _ decoder: any DecoderModel, heads: ExitHeads?, context: Int? = nil, rounds: Int = 7
  ) throws -> ExitCosts {
    let configuration = decoder.configuration
    let count = configuration.layerCount
    let limit = 16
    let sourceCount = context ?? max(1, min(256, configuration.contextLength - limit))
    let context = configuration.encoder == nil ? sourceCount : min(outputContext, sourceCount)
    let states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: 256)
    let cache = try decoder.makeCache(capacity: context + limit)
    let tokens = (0..<max(sourceCount, context + limit)).map {
      ($0 * 7919 % 40_000 + 20) % configuration.vocabularySize
    }
    try decoder.sourceEncoder?.encode(Array(tokens.prefix(sourceCount)), into: cache)
    for start in stride(from: 0, to: context, by: states.capacity) {
      let chunk = start..<min(start + states.capacity, context)
      try decoder.embed(Array(tokens[chunk]), into: states)
      try decoder.advance(
        states, rows: chunk.map { BatchRow(cache: cache, position: $0) }, layers: 0..<count)
    }
    func timed(_ work: () throws -> Void) rethrows -> Double {
      let start = ContinuousClock.now
      try work()
      return (ContinuousClock.now - start).seconds * 1000
    }
    func best(_ work: () throws -> Void) rethrows -> Double {
      var least = Double.infinity
      for _ in 0..<max(rounds, 1) { least = min(least, try timed(work)) }
      return least
    }
    let sizes = [1, 2, 4, 8, 16]
    var bySize = [Double](repeating: .infinity, count: sizes.count)
    // The sizes in turn, so that what else the machine does for a while falls on all of them.
    for _ in 0..<max(rounds, 1) {
      for (index, size) in sizes.enumerated() {
        let rows = (0..<size).map { BatchRow(cache: cache, position: context + $0) }
        let time = try timed {
          cache.crop(to: context)
          try decoder.embed(Array(tokens[context..<context + size]), into: states)
          try decoder.advance(states, rows: rows, layers: 0..<count)
        }
        bySize[index] = min(bySize[index], time / Double(count))
      }
    }
    // Between the sizes measured, along the straight line.
    let layer = (1...limit).map { rows in
      let upper = sizes.firstIndex { $0 >= rows } ?? sizes.count - 1
      guard upper > 0 else { return bySize[0] }
      let share = Double(rows - sizes[upper - 1]) / Double(sizes[upper] - sizes[upper - 1])
      return bySize[upper - 1] + share * (bySize[upper] - bySize[upper - 1])
    }
    let one = [BatchRow(cache: cache, position: context)]
    cache.crop(to: context)
    try decoder.embed([tokens[context]], into: states)
    let propagated = try best { try decoder.propagate(states, rows: one, layers: 0..<count) } / Double(count)

    var logits: [Float] = []
    let head = try best { try decoder.logits(of: states, rows: 0..<1, into: &logits) }
    let state = states[0]
    let measure = ClassifierConfidence([
      1: .init(weights: [Float](repeating: 0.1, count: state.count), bias: 0)
    ])
    var reading = ConfidenceReading(layer: 1)
    reading.hiddenState = state
    var exitHead = head
    if let heads {
      let prepared = try heads.prepared(for: decoder)
      let map = prepared.maps.values.first
      let additions = try prepared.additions(of: Array(tokens.prefix(promptTokens)), decoder: decoder)
      exitHead = try best {
        var mapped = state
        if let map { try decoder.product(map, of: state, into: &mapped) }
        if let shortlist = prepared.shortlist {
          try decoder.product(shortlist.rows, of: mapped, into: &logits)
          if let additions { try decoder.product(additions.rows, of: mapped, into: &logits) }
        } else {
          try decoder.logits(of: states, rows: 0..<1, into: &logits)
        }
        reading.logits = logits
        _ = SoftmaxConfidence().confidence(reading)
      }
    }
    let gate = best { _ = measure.confidence(reading) }
    return ExitCosts(
      layer: layer, head: head, exitHead: exitHead, gate: gate, propagatedLayer: propagated)
  }
}
