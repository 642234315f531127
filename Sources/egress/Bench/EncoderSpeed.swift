import EarlyExit
import Transformers

/// Measures an encoder-decoder: reading texts of 512 tokens, and greedy decoding of 64 after them, for one text and for
/// eight at a time.
///
/// Each figure is the best of three rounds; no end token ends an output, so that every run does the same work.
struct EncoderSpeed {
  static let batchSizes = [1, 8]
  private static let rounds = 3

  let sourceCount: Int
  let outputCount: Int
  /// Seconds to read so many texts, and to decode after them, by the number of texts.
  private(set) var encode: [Int: Double] = [:]
  private(set) var decode: [Int: Double] = [:]

  private let decoder: any DecoderModel

  init(_ decoder: any DecoderModel) {
    self.decoder = decoder
    sourceCount = min(512, decoder.configuration.contextLength)
    outputCount = min(64, decoder.configuration.contextLength)
  }

  mutating func run() throws {
    let configuration = decoder.configuration
    let start = configuration.encoder?.startToken ?? 0
    for size in Self.batchSizes {
      let states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: size)
      var logits: [Float] = []
      for _ in 0..<Self.rounds {
        if Interrupt.isRequested { return }
        let caches = try (0..<size).map { _ in try decoder.makeCache(capacity: outputCount) }
        let first = ContinuousClock.now
        for (index, cache) in caches.enumerated() {
          let source = (0..<sourceCount).map {
            (($0 + index) * 7919 % 30_000 + 20) % configuration.vocabularySize
          }
          try decoder.sourceEncoder?.encode(source, into: cache)
        }
        let second = ContinuousClock.now
        var tokens = Array(repeating: start, count: size)
        for position in 0..<outputCount {
          try decoder.embed(tokens, into: states)
          try decoder.advance(
            states, rows: caches.map { BatchRow(cache: $0, position: position) },
            layers: 0..<configuration.layerCount)
          try decoder.logits(of: states, rows: 0..<size, into: &logits)
          logits.withUnsafeBufferPointer { all in
            for row in 0..<size {
              tokens[row] = Logits.argmax(
                UnsafeBufferPointer(
                  rebasing: all[row * configuration.vocabularySize..<(row + 1) * configuration.vocabularySize]
                ))
            }
          }
        }
        encode[size] = min(encode[size] ?? .infinity, (second - first).seconds)
        decode[size] = min(decode[size] ?? .infinity, (ContinuousClock.now - second).seconds)
      }
    }
  }
}
