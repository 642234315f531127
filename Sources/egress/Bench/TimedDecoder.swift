import Checkpoints
import EarlyExit
import Synchronization
import Transformers

/// A decoder that measures the time its callers spend in it.
final class TimedDecoder: DecoderModel {
  /// Seconds, by what they were spent on.
  struct Times: Encodable {
    /// Layers, completing those that earlier tokens skipped included.
    var layers = 0.0
    /// The unembedding, fitted maps and shortlists.
    var heads = 0.0
    /// Projecting hidden states to keys and values of skipped layers.
    var cache = 0.0
    /// Embeddings.
    var embedding = 0.0
  }

  private let decoder: any DecoderModel
  private let counters = Mutex(Times())

  init(_ decoder: any DecoderModel) { self.decoder = decoder }

  /// What was measured since the last call.
  func take() -> Times {
    counters.withLock { times in
      defer { times = Times() }
      return times
    }
  }

  private func measure<Failure: Error>(
    _ part: WritableKeyPath<Times, Double>, _ body: () throws(Failure) -> Void
  ) throws(Failure) {
    let start = ContinuousClock.now
    try body()
    let seconds = (ContinuousClock.now - start).seconds
    counters.withLock { $0[keyPath: part] += seconds }
  }

  var configuration: DecoderConfiguration { decoder.configuration }
  var invariantBatchLimit: Int { decoder.invariantBatchLimit }
  var bytesPerLayer: Int { decoder.bytesPerLayer }
  var bytesOfUnembedding: Int { decoder.bytesOfUnembedding }

  func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache {
    try decoder.makeCache(capacity: capacity)
  }

  func encode(_ source: [TokenID], into cache: KeyValueCache) throws(DecoderError) {
    try decoder.encode(source, into: cache)
  }

  func embed(_ tokens: [TokenID], into states: HiddenStates) throws(DecoderError) {
    try measure(\.embedding) { () throws(DecoderError) in try decoder.embed(tokens, into: states) }
  }

  func advance(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>) throws(DecoderError) {
    try measure(\.layers) { () throws(DecoderError) in
      try decoder.advance(states, rows: rows, layers: layers)
    }
  }

  func propagate(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>) throws(DecoderError) {
    try measure(\.cache) { () throws(DecoderError) in
      try decoder.propagate(states, rows: rows, layers: layers)
    }
  }

  func makeMap(_ weights: [Float]) throws(DecoderError) -> SideMatrix { try decoder.makeMap(weights) }

  func makeSideLayer(path: String, tensors: [String: MappedTensor]) throws(DecoderError) -> any DecoderModel {
    try decoder.makeSideLayer(path: path, tensors: tensors)
  }

  func makeUnembedding(of tokens: [TokenID]) throws(DecoderError) -> SideMatrix {
    try decoder.makeUnembedding(of: tokens)
  }

  func product(
    _ matrix: SideMatrix, of states: [Float], into output: inout [Float]
  ) throws(DecoderError) {
    let start = ContinuousClock.now
    try decoder.product(matrix, of: states, into: &output)
    let seconds = (ContinuousClock.now - start).seconds
    counters.withLock { $0.heads += seconds }
  }

  func logits(
    of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float]
  ) throws(DecoderError) {
    let start = ContinuousClock.now
    try decoder.logits(of: states, rows: range, into: &logits)
    let seconds = (ContinuousClock.now - start).seconds
    counters.withLock { $0.heads += seconds }
  }
}
