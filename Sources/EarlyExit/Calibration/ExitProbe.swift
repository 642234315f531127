import DecoderModels

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// How far the distribution of an exit head is from the full model's.
public enum DistributionDistance: String, Sendable, CaseIterable, Codable {
  /// Σ_k (p_k − q_k)², in [0, 2]: how much larger the Brier score of p is than that of q, for labels drawn from q.
  case brier
  /// ‖√p − √q‖ / √2, in [0, 1].
  case hellinger

  /// B: no distance is larger.
  public var bound: Double { self == .brier ? 2 : 1 }

  /// The distance of two softmax distributions given as logits, (vocabularySize) each. O(vocabularySize) exponentials.
  func between(_ first: UnsafeBufferPointer<Float>, _ second: UnsafeBufferPointer<Float>) -> Double {
    let (total, otherTotal) = (Logits.logSumExp(first), Logits.logSumExp(second))
    var sum = 0.0
    for (value, other) in zip(first, second) {
      let (p, q) = (exp(Double(value) - total), exp(Double(other) - otherTotal))
      let difference = self == .brier ? p - q : p.squareRoot() - q.squareRoot()
      sum += difference * difference
    }
    return self == .brier ? min(sum, 2) : min((sum / 2).squareRoot(), 1)
  }
}

/// Looks at every exit layer of tokens that pass all layers, for several sequences at a time.
///
/// With deferred completion keys and values do not depend on where tokens leave, so what is read here at an exit layer
/// is what a run at any threshold reads there, as long as the tokens before are the same.
struct ExitProbe {
  /// What a token would do at one layer.
  struct Check {
    var layer: Int
    /// In [0, 1).
    var confidence: Double
    /// The token that would be chosen here.
    var token: TokenID
    /// From the full model's distribution; 0 unless asked for.
    var distance: Double
  }

  /// What one token would do.
  struct Reading {
    /// At every exit layer, ascending.
    var checks: [Check]
    /// The token that the full model chooses.
    var token: TokenID
  }

  let strategy: ExitStrategy
  /// Ascending, each below the number of layers.
  let layers: [Int]
  private let distance: DistributionDistance?
  private let decoder: any DecoderModel
  private let layerCount: Int
  private let states: HiddenStates
  private let headStates: HiddenStates
  private var logits: [Float] = []

  /// - Parameters:
  ///   - layers: Where the strategy's policy could let a token leave.
  ///   - width: The most rows of a step.
  init(
    _ strategy: ExitStrategy, layers: [Int], distance: DistributionDistance?, decoder: any DecoderModel,
    width: Int
  ) {
    self.strategy = strategy
    self.layers = layers
    self.distance = distance
    self.decoder = decoder
    layerCount = decoder.configuration.layerCount
    let size = decoder.configuration.hiddenSize
    states = HiddenStates(hiddenSize: size, capacity: width)
    headStates = HiddenStates(hiddenSize: size, capacity: layers.count + 1)
  }

  /// Runs a token of each sequence through all layers.
  ///
  /// - Returns: What was read of each.
  mutating func step(_ pending: [(token: TokenID, row: BatchRow)]) throws -> [Reading] {
    let rows = pending.map(\.row)
    try decoder.embed(pending.map(\.token), into: states)
    let reads = strategy.measure.reads
    var before: [[[Float]]] = []
    var after: [[[Float]]] = []
    var done = 0
    for layer in layers + [layerCount] {
      if reads.contains(.previousHiddenState), layer < layerCount {
        try decoder.advance(states, rows: rows, layers: done..<layer - 1)
        done = layer - 1
        before.append(rows.indices.map { states[$0] })
      }
      try decoder.advance(states, rows: rows, layers: done..<layer)
      done = layer
      after.append(rows.indices.map { states[$0] })
    }
    return try rows.indices.map { row in
      try read(
        before: before.map { $0[row] }, after: after.map { $0[row] }, reads: reads)
    }
  }

  /// Runs the heads of one row's states together: the unembedding is read once.
  private mutating func read(
    before: [[Float]], after: [[Float]], reads: ConfidenceInput
  ) throws -> Reading {
    headStates.count = after.count
    for (index, state) in after.enumerated() {
      headStates[index] = index < layers.count ? strategy.headState(state, layer: layers[index]) : state
    }
    try decoder.logits(of: headStates, rows: 0..<after.count, into: &logits)
    let size = decoder.configuration.vocabularySize
    return logits.withUnsafeBufferPointer { all in
      func row(_ index: Int) -> UnsafeBufferPointer<Float> {
        UnsafeBufferPointer(rebasing: all[index * size..<(index + 1) * size])
      }
      let full = row(layers.count)
      let checks = layers.indices.map { index in
        var reading = ConfidenceReading(layer: layers[index])
        if reads.contains(.previousHiddenState) { reading.previousHiddenState = before[index] }
        if reads.contains(.hiddenState) { reading.hiddenState = after[index] }
        let logits = row(index)
        if reads.contains(.logits) { reading.logits = Array(logits) }
        return Check(
          layer: layers[index], confidence: strategy.measure.boundedConfidence(reading),
          token: Logits.argmax(logits), distance: distance?.between(logits, full) ?? 0)
      }
      return Reading(checks: checks, token: Logits.argmax(full))
    }
  }
}

/// Bytes of weights that tokens with early exits read, without reading them.
struct ExitCost {
  private let bytesPerLayer: Int
  private let layerCount: Int
  private let groupLimit: Int
  private let readsLogits: Bool
  private let strategy: ExitStrategy
  private let bytesOfUnembedding: Int
  /// Tokens whose completion is pending.
  private var waiting = 0

  init(_ strategy: ExitStrategy, decoder: any DecoderModel) {
    self.strategy = strategy
    bytesPerLayer = decoder.bytesPerLayer
    bytesOfUnembedding = decoder.bytesOfUnembedding
    layerCount = decoder.configuration.layerCount
    groupLimit = strategy.groupLimit
    readsLogits = strategy.measure.reads.contains(.logits)
  }

  /// The next token of a sequence is looked at after the layers `checked`, and leaves after the last of them or after all
  /// layers.
  ///
  /// Waiting tokens pass a layer together with the token at hand, so they cost nothing until their group is full.
  mutating func bytes(checked: some Collection<Int>, leavesEarly: Bool) -> Int {
    let layer = leavesEarly ? checked.reduce(0, max) : layerCount
    var bytes = layer * bytesPerLayer
    waiting = layer == layerCount ? 0 : waiting + 1
    if waiting >= groupLimit {
      bytes += (layerCount - layer) * bytesPerLayer
      waiting = 0
    }
    let heads = readsLogits ? Array(checked) : leavesEarly ? [layer] : []
    for head in heads { bytes += bytesOfUnembedding + strategy.bytesOfMap(layer: head) }
    return leavesEarly ? bytes : bytes + bytesOfUnembedding
  }
}

extension ExitStrategy {
  /// What the unembedding is given in place of a hidden state.
  func headState(_ state: [Float], layer: Int) -> [Float] { heads?.maps[layer]?.apply(state) ?? state }

  /// Bytes that the map of an exit layer has.
  func bytesOfMap(layer: Int) -> Int { 4 * (heads?.maps[layer]?.weights.count ?? 0) }
}
