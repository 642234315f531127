import Checkpoints
import Generation
import Synchronization
import Transformers

/// A decoder that measures the time its callers spend in it.
package final class TimedDecoder: DecoderModel {
  /// Seconds, by what they were spent on.
  package struct Times: Codable, Sendable {
    /// Layers, completing those that earlier tokens skipped included.
    package var layers = 0.0
    /// The unembedding, fitted maps and shortlists.
    package var heads = 0.0
    /// Projecting hidden states to keys and values of skipped layers.
    package var cache = 0.0
    /// Embeddings.
    package var embedding = 0.0

    mutating func add(_ other: Times) {
      layers += other.layers
      heads += other.heads
      cache += other.cache
      embedding += other.embedding
    }
  }

  private let decoder: any DecoderModel
  private let counters = Mutex(Times())

  package init(_ decoder: any DecoderModel) { self.decoder = decoder }

  /// What was measured since the last call.
  package func take() -> Times {
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

  package var configuration: DecoderConfiguration { decoder.configuration }
  package var invariantBatchLimit: Int { decoder.invariantBatchLimit }
  package var bytesPerLayer: Int { decoder.bytesPerLayer }
  package var sourceEncoder: (any SourceEncoder)? { decoder.sourceEncoder }
  package var bytesOfUnembedding: Int { decoder.bytesOfUnembedding }

  package func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache {
    try decoder.makeCache(capacity: capacity)
  }

  package func embed(_ tokens: [TokenID], into states: HiddenStates) throws(DecoderError) {
    try measure(\.embedding) { () throws(DecoderError) in try decoder.embed(tokens, into: states) }
  }

  package func advance(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>)
    throws(DecoderError)
  {
    try measure(\.layers) { () throws(DecoderError) in
      try decoder.advance(states, rows: rows, layers: layers)
    }
  }

  package func propagate(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>)
    throws(DecoderError)
  {
    try measure(\.cache) { () throws(DecoderError) in
      try decoder.propagate(states, rows: rows, layers: layers)
    }
  }

  package func makeMap(_ weights: [Float]) throws(DecoderError) -> SideMatrix {
    try decoder.makeMap(weights)
  }

  package func makeSideLayer(path: String, tensors: [String: MappedTensor]) throws(DecoderError)
    -> any DecoderModel
  {
    try decoder.makeSideLayer(path: path, tensors: tensors)
  }

  package func makeUnembedding(of tokens: [TokenID]) throws(DecoderError) -> SideMatrix {
    try decoder.makeUnembedding(of: tokens)
  }

  package func product(
    _ matrix: SideMatrix, of states: [Float], into output: inout [Float]
  ) throws(DecoderError) {
    try measure(\.heads) { () throws(DecoderError) in
      try decoder.product(matrix, of: states, into: &output)
    }
  }

  package func logits(
    of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float]
  ) throws(DecoderError) {
    try measure(\.heads) { () throws(DecoderError) in
      try decoder.logits(of: states, rows: range, into: &logits)
    }
  }
}
