import EarlyExit
import Transformers

/// Measures a decoder: prefill of 256 tokens, decoding, and what small batches cost.
///
/// Each figure is the best of six rounds; the tokens are fixed, so that every run does the same work. Batches are
/// tokens of one sequence, each with its logits, as a verification needs them.
struct SpeedMeasurement {
  static let promptCount = 256
  static let batchSizes = [1, 2, 4, 8, 16]
  private static let rounds = 6

  /// Seconds from the start of the process to the first token, if the system tells when that was.
  private(set) var firstToken: Double?
  /// Seconds of a prefill.
  private(set) var prefill = Double.infinity
  /// Seconds of one batch, by the tokens in it.
  private(set) var batch: [Int: Double] = [:]
  /// Seconds of reading what one token reads of the weights, without computing; `nil` where they cannot be read so.
  private(set) var reading: Double?

  private let decoder: any DecoderModel
  private let states: HiddenStates
  private var logits: [Float] = []
  private let tokens: [TokenID]

  init(_ decoder: any DecoderModel) {
    self.decoder = decoder
    let size = decoder.configuration.vocabularySize
    states = HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: Self.promptCount)
    tokens = (0..<Self.promptCount).map { ($0 * 7919 % 40_000 + 20) % size }
  }

  mutating func run() throws {
    let repetitions = [1: 48, 2: 8, 4: 8, 8: 8, 16: 6]
    let needed = Self.promptCount + repetitions.reduce(0) { $0 + $1.key * $1.value }
    guard needed <= decoder.configuration.contextLength else {
      throw CommandError(
        "bench needs a context of \(needed) tokens, but the model's is "
          + "\(decoder.configuration.contextLength)")
    }
    let cache = try decoder.makeCache(capacity: needed)
    for _ in 0..<Self.rounds {
      if Interrupt.isRequested { return }
      cache.crop(to: 0)
      prefill = min(prefill, try seconds { try $0.advance(Self.promptCount, cache, at: 0, logitRows: 1) })
      if firstToken == nil { firstToken = ProcessClock.secondsSinceStart }
      var position = Self.promptCount
      for size in Self.batchSizes {
        let times = repetitions[size] ?? 1
        let taken = try seconds {
          for _ in 0..<times {
            try $0.advance(size, cache, at: position, logitRows: size)
            position += size
          }
        }
        batch[size] = min(batch[size] ?? .infinity, taken / Double(times))
      }
      if let transformer = decoder as? Transformer {
        let taken = seconds { _ in for _ in 0..<8 { transformer.readWeights() } }
        reading = min(reading ?? .infinity, taken / 8)
      }
    }
  }

  private mutating func advance(_ count: Int, _ cache: KeyValueCache, at position: Int, logitRows: Int) throws
  {
    try decoder.embed(Array(tokens[..<count]), into: states)
    let rows = (0..<count).map { BatchRow(cache: cache, position: position + $0) }
    try decoder.advance(states, rows: rows, layers: 0..<decoder.configuration.layerCount)
    try decoder.logits(of: states, rows: count - logitRows..<count, into: &logits)
  }

  private mutating func seconds(_ work: (inout SpeedMeasurement) throws -> Void) rethrows -> Double {
    let start = ContinuousClock.now
    try work(&self)
    return (ContinuousClock.now - start).seconds
  }
}
