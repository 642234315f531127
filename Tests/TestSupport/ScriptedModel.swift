import Checkpoints
import Synchronization
import Transformers

/// A decoder without weights: its logits are what a function says about the tokens so far and the layer.
///
/// Tests of decoding, policies and caches use it: what it "thinks" at each layer is written in the test.
public final class ScriptedModel: DecoderModel {
  /// Logits, (vocabularySize), after `history` (the sequence up to and with the token at hand) at `layer`.
  public typealias Script = @Sendable (_ history: [TokenID], _ layer: Int) -> [Float]

  public let configuration: DecoderConfiguration
  public let invariantBatchLimit: Int
  public let bytesPerLayer = 1
  public let bytesOfUnembedding = 1
  private let script: Script
  private let memory = Mutex(Memory())

  private struct Memory {
    /// Tokens by sequence and position.
    var sequences: [ObjectIdentifier: [TokenID]] = [:]
    /// Every history seen. A hidden state is the number of its history.
    var histories: [[TokenID]] = []
    var batches: [Int] = []
  }

  public init(
    vocabularySize: Int = 320, layerCount: Int = 4, contextLength: Int = 4096, invariantBatchLimit: Int = 32,
    script: @escaping Script
  ) {
    configuration = DecoderConfiguration(
      family: .llama, name: "scripted", layerCount: layerCount, hiddenSize: 3, feedForwardSize: 1,
      headCount: 1, keyValueHeadCount: 1, headSize: 2, vocabularySize: vocabularySize,
      contextLength: contextLength, normEpsilon: 1e-5, rotaryBase: 10_000, rotaryDimension: 2,
      rotaryLayout: .interleaved, rotaryScaling: .none, hasAttentionBias: false, hasTiedEmbedding: true)
    self.invariantBatchLimit = invariantBatchLimit
    self.script = script
  }

  /// A model that says `tokens` one after the other, whatever it is asked, counted from the end of a prompt of
  /// `promptCount` tokens; then `end` for ever.
  public convenience init(saying tokens: [TokenID], after promptCount: Int, end: TokenID) {
    self.init { history, _ in
      let index = history.count - promptCount
      return Self.logits(favouring: tokens.indices.contains(index) ? tokens[index] : end)
    }
  }

  /// Logits with one clear winner.
  public static func logits(favouring token: TokenID, count: Int = 320) -> [Float] {
    var logits = [Float](repeating: 0, count: count)
    logits[token] = 10
    return logits
  }

  /// Rows of each batch that was advanced, in order.
  public var batches: [Int] { memory.withLock { $0.batches } }

  public func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache {
    guard (1...configuration.contextLength).contains(capacity) else {
      throw .contextExceeded(needed: capacity, capacity: configuration.contextLength)
    }
    let cache = KeyValueCache(layerCount: configuration.layerCount, capacity: capacity)
    memory.withLock { $0.sequences[ObjectIdentifier(cache)] = [] }
    return cache
  }

  public func embed(_ tokens: [TokenID], into states: HiddenStates) throws(DecoderError) {
    guard tokens.count <= states.capacity else {
      throw .rowCount(expected: states.capacity, found: tokens.count)
    }
    for (row, token) in tokens.enumerated() {
      guard (0..<configuration.vocabularySize).contains(token) else {
        throw .tokenOutOfRange(token: token, vocabularySize: configuration.vocabularySize)
      }
      states[row] = [Float(token), 0, 0]
    }
    states.count = tokens.count
  }

  public func advance(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>) throws(DecoderError) {
    guard rows.count == states.count else { throw .rowCount(expected: states.count, found: rows.count) }
    for (index, row) in rows.enumerated() {
      guard row.position < row.cache.capacity else {
        throw .contextExceeded(needed: row.position + 1, capacity: row.cache.capacity)
      }
      let state = states[index]
      let filled = memory.withLock { memory -> Int? in
        let key = ObjectIdentifier(row.cache)
        if layers.lowerBound == 0 {
          let filled = memory.sequences[key, default: []].count
          guard row.position <= filled else { return filled }
          memory.sequences[key]?.removeSubrange(row.position...)
          memory.sequences[key, default: []].append(TokenID(state[0]))
        }
        memory.histories.append(Array(memory.sequences[key, default: []].prefix(row.position + 1)))
        states[index] = [state[0], Float(memory.histories.count - 1), Float(layers.upperBound)]
        return nil
      }
      if let filled { throw .gapInCache(layer: 0, position: row.position, filled: filled) }
    }
    memory.withLock { $0.batches.append(rows.count) }
  }

  public func propagate(
    _ states: HiddenStates, rows: [BatchRow], layers: Range<Int>
  ) throws(DecoderError) {}

  public func logits(
    of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float]
  ) throws(DecoderError) {
    logits.removeAll(keepingCapacity: true)
    for row in range {
      let state = states[row]
      let history = memory.withLock { $0.histories[Int(state[1])] }
      logits += script(history, Int(state[2]))
    }
  }
}
