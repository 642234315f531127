import RealModule
import Transformers

/// How far the distribution of an exit head is from the full model's.
public enum DistributionDistance: String, Sendable, CaseIterable, Codable {
  /// Σ_k (p_k − q_k)², in [0, 2]: the Brier score of p minus that of q, for labels drawn from q.
  case brier
  /// ‖√p − √q‖ / √2, in [0, 1].
  case hellinger

  /// B: no distance is larger.
  public var bound: Double { self == .brier ? 2 : 1 }

  /// The distance of two softmax distributions given as logits.
  ///
  /// - Parameters:
  ///   - first: Of the tokens `candidates`, all others having no probability; (vocabularySize) where that is `nil`.
  ///   - second: (vocabularySize)
  /// - Complexity: O(vocabularySize) exponentials.
  func between(_ first: [Float], of candidates: [TokenID]?, and second: [Float]) -> Double {
    let p = Self.probabilities(first)
    let q = Self.probabilities(second)
    func part(_ p: Double, _ q: Double) -> Double {
      let difference = self == .brier ? p - q : p.squareRoot() - q.squareRoot()
      return difference * difference
    }
    var sum = 0.0
    if let candidates {
      sum = q.reduce(0) { $0 + part(0, $1) }
      for (p, token) in zip(p, candidates) { sum += part(p, q[token]) - part(0, q[token]) }
    } else {
      for (p, q) in zip(p, q) { sum += part(p, q) }
    }
    return self == .brier ? min(max(sum, 0), 2) : min((max(sum, 0) / 2).squareRoot(), 1)
  }

  private static func probabilities(_ logits: [Float]) -> [Double] {
    let total = logits.withUnsafeBufferPointer { Logits.logSumExp($0) }
    return logits.map { Double.exp(Double($0) - total) }
  }
}

/// What a token that passes all layers is seen to do at every exit layer.
///
/// With deferred completion, keys and values do not depend on where tokens leave. So what is read here at an exit layer
/// is what a run at any threshold reads there, while the tokens before are the same.
struct ExitReading {
  /// What the token would do at one exit layer.
  struct Check {
    var layer: Int
    /// In [0, 1).
    var confidence: Double
    /// The token that would be chosen here.
    var token: TokenID
    /// From the full model's distribution; 0 unless asked for.
    var distance: Double
    /// Bytes of weights that the head of the layer reads.
    var headBytes: Int
  }

  /// At every exit layer, ascending.
  var checks: [Check] = []
  /// The token that the full model chooses, once it was asked.
  var token: TokenID?

  /// Of a token that no exit layer is looked at for.
  init() {}

  /// - Parameters:
  ///   - states: What ``ExitProbe`` kept of the token.
  ///   - shared: What the heads of the exit layers make of it, one a layer.
  ///   - full: (vocabularySize): the full model's logits, where distributions are compared.
  ///   - head: The heads of its sequence.
  init(
    _ states: ExitProbe.States, shared: [ExitHead.SharedLogits], full: [Float]?, strategy: ExitStrategy,
    layers: [Int], distance: DistributionDistance?, prompt: [TokenID], head: inout ExitHead
  ) throws {
    func best(_ logits: [Float]) -> Int { logits.withUnsafeBufferPointer { Logits.argmax($0) } }
    token = full.map(best)
    let reads = strategy.measure.reads
    for (index, layer) in layers.enumerated() {
      let bytes = head.bytesRead
      var shared = shared[index]
      try head.finish(&shared, layer: layer, prompt: prompt)
      var reading = ConfidenceReading(layer: layer)
      if reads.contains(.previousHiddenState) { reading.previousHiddenState = states.before[index] }
      if reads.contains(.hiddenState) { reading.hiddenState = states.after[index] }
      if reads.contains(.logits) { reading.logits = head.logits }
      let choice = best(head.logits)
      checks.append(
        Check(
          layer: layer, confidence: strategy.measure.boundedConfidence(reading),
          token: head.candidates?[choice] ?? choice,
          distance: full.flatMap { distance?.between(head.logits, of: head.candidates, and: $0) } ?? 0,
          headBytes: head.bytesRead - bytes))
    }
  }
}

/// Runs tokens of several sequences through all layers together and keeps their states at the exit layers.
struct ExitProbe {
  /// States of one token, (hiddenSize) each.
  struct States {
    /// One layer before each exit layer, where the confidence measure reads that.
    var before: [[Float]] = []
    /// After each exit layer.
    var after: [[Float]] = []
    /// After the last layer.
    var last: [Float] = []
  }

  private let layers: [Int]
  private let readsPrevious: Bool
  private let decoder: any DecoderModel
  private let states: HiddenStates

  /// - Parameters:
  ///   - layers: Exit layers, ascending.
  ///   - width: The most rows of a step.
  init(layers: [Int], readsPrevious: Bool, decoder: any DecoderModel, width: Int) {
    self.layers = layers
    self.readsPrevious = readsPrevious
    self.decoder = decoder
    states = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: width)
  }

  /// Runs a token of each sequence.
  func step(_ pending: [(token: TokenID, row: BatchRow)]) throws -> [States] {
    let rows = pending.map(\.row)
    try decoder.embed(pending.map(\.token), into: states)
    var kept = Array(repeating: States(), count: rows.count)
    var done = 0
    func advance(to layer: Int) throws {
      guard layer > done else { return }
      try decoder.advance(states, rows: rows, layers: done..<layer)
      done = layer
    }
    for layer in layers {
      if readsPrevious {
        try advance(to: layer - 1)
        for row in rows.indices { kept[row].before.append(states[row]) }
      }
      try advance(to: layer)
      for row in rows.indices { kept[row].after.append(states[row]) }
    }
    try advance(to: decoder.configuration.layerCount)
    for row in rows.indices { kept[row].last = states[row] }
    return kept
  }
}

/// Bytes of weights that tokens with early exits read, without reading them.
struct ExitBytes {
  private let bytesPerLayer: Int
  private let layerCount: Int
  private let groupLimit: Int
  private let readsLogits: Bool
  private let bytesOfUnembedding: Int
  /// Tokens whose completion is pending.
  private var waiting = 0

  init(_ strategy: ExitStrategy, decoder: any DecoderModel) {
    bytesPerLayer = decoder.bytesPerLayer
    bytesOfUnembedding = decoder.bytesOfUnembedding
    layerCount = decoder.configuration.layerCount
    groupLimit = strategy.groupLimit
    readsLogits = strategy.measure.reads.contains(.logits)
  }

  /// The next token of a sequence is looked at by `checks`, and leaves at the last of them or after all layers.
  ///
  /// Waiting tokens pass a layer together with the token at hand, so they cost nothing until their group is full.
  mutating func bytes(_ checks: ArraySlice<ExitReading.Check>, leavesEarly: Bool) -> Int {
    let layer = leavesEarly ? checks.last?.layer ?? layerCount : layerCount
    var bytes = layer * bytesPerLayer
    waiting = layer == layerCount ? 0 : waiting + 1
    if waiting >= groupLimit {
      bytes += (layerCount - layer) * bytesPerLayer
      waiting = 0
    }
    for check in readsLogits ? checks : leavesEarly ? checks.suffix(1) : [] { bytes += check.headBytes }
    return leavesEarly ? bytes : bytes + bytesOfUnembedding
  }
}
