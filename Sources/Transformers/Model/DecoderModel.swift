import Checkpoints

/// A token's number in the vocabulary.
public typealias TokenID = Int

/// One token of a batch: which sequence it belongs to and where it stands in it.
public struct BatchRow {
  /// The sequence whose keys and values the token reads and extends.
  public var cache: KeyValueCache
  /// The token's position in the sequence, from 0.
  public var position: Int

  /// Puts a row together.
  public init(cache: KeyValueCache, position: Int) {
    self.cache = cache
    self.position = position
  }
}

/// A transformer decoder whose layers can be run one range at a time.
///
/// Full decoding, early exit, deferred completion, drafting and verification are all callers of
/// ``advance(_:rows:layers:)``. Weights are immutable and shared; what changes while decoding lives in a
/// ``KeyValueCache`` per sequence and in ``HiddenStates``, both owned by the caller.
///
/// A model may be shared between threads, but calls on one model are serialised: they use one worker pool.
public protocol DecoderModel: AnyObject, Sendable {
  /// Sizes, family and positions.
  var configuration: DecoderConfiguration { get }

  /// Makes an empty cache for one sequence of at most `capacity` tokens.
  ///
  /// - Throws: ``DecoderError`` when `capacity` is not in 1…contextLength.
  func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache

  /// Runs the encoder over a source text and puts the keys and values of its output into `cache`, once for all tokens
  /// that are decoded with it.
  ///
  /// - Throws: ``DecoderError`` for an empty source, one longer than the context, a token outside the vocabulary, or a
  ///   model without an encoder.
  func encode(_ source: [TokenID], into cache: KeyValueCache) throws(DecoderError)

  /// Puts the embeddings of `tokens` into `states`, one row a token, and sets `states.count`.
  ///
  /// - Throws: ``DecoderError`` for a token outside the vocabulary or more tokens than `states` holds.
  func embed(_ tokens: [TokenID], into states: HiddenStates) throws(DecoderError)

  /// Runs rows 0..<rows.count of `states` through `layers`, in place, writing each layer's keys and values.
  ///
  /// Rows of one sequence must be in ascending order of position, and in every layer of `layers` the positions
  /// before a row's must have been filled, by this call or an earlier one. A row's result does not depend on
  /// the other sequences in the batch, nor, up to ``invariantBatchLimit`` rows, on how many rows there are.
  ///
  /// - Complexity: reads the weights of `layers` once for the whole batch.
  /// - Throws: ``DecoderError`` for a position past the cache's capacity, one that leaves a gap, or bad ranges.
  func advance(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>) throws(DecoderError)

  /// Writes keys and values of `layers` for each row as if its hidden state entered each of them unchanged
  /// (state propagation; Schuster et al., NeurIPS 2022, section 3.2). `states` is left as it was.
  func propagate(_ states: HiddenStates, rows: [BatchRow], layers: Range<Int>) throws(DecoderError)

  /// Logits of rows `range` of `states`, after the final norm: (range.count, vocabularySize), row-major.
  ///
  /// Any hidden state may be asked for, not only that of the last layer: this is CALM's shared exit head.
  func logits(of states: HiddenStates, rows range: Range<Int>, into logits: inout [Float])
    throws(DecoderError)

  /// Packs a linear map of hidden states, or of as many side by side as its input is long: (hiddenSize out, states ·
  /// hiddenSize in), row-major.
  ///
  /// ``product(_:of:into:)`` divides each state of its input by its root mean square.
  ///
  /// - Throws: ``DecoderError`` for numbers that are not so many.
  func makeMap(_ weights: [Float]) throws(DecoderError) -> SideMatrix

  /// The rows of the unembedding that belong to `tokens`, in their order, kept apart so that they are read alone.
  ///
  /// ``product(_:of:into:)`` puts its input through the final norm.
  ///
  /// - Throws: ``DecoderError`` for a token outside the vocabulary.
  func makeUnembedding(of tokens: [TokenID]) throws(DecoderError) -> SideMatrix

  /// Products of a matrix that this model made with hidden states, (count, hiddenSize) row-major, or (count, states ·
  /// hiddenSize) for a map of several: `output` becomes (count, matrix.rows).
  ///
  /// - Throws: ``DecoderError`` for numbers that are not whole hidden states, or a matrix of another model.
  func product(_ matrix: SideMatrix, of states: [Float], into output: inout [Float]) throws(DecoderError)

  /// Makes a decoder of one layer of its own that works on this model's hidden states, with this model's threads and on
  /// its compute path. Its embedding and unembedding are this model's.
  ///
  /// - Parameters:
  ///   - path: The file of the tensors, for messages.
  ///   - tensors: Those of a layer of this model, named `blk.0.…`.
  /// - Throws: ``DecoderError`` for a model with an encoder, and for tensors that are missing or of another shape.
  func makeSideLayer(path: String, tensors: [String: MappedTensor]) throws(DecoderError) -> any DecoderModel

  /// The largest batch whose rows come out bit for bit as they would alone.
  var invariantBatchLimit: Int { get }

  /// Bytes of weights that one token reads in layers, and in the unembedding.
  var bytesPerLayer: Int { get }
  /// Bytes of weights that one token reads in the unembedding.
  var bytesOfUnembedding: Int { get }
}
