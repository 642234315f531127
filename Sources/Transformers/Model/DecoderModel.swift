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
/// A model may be shared between threads, but calls on one model are serialised: they use one worker pool. What it
/// multiplies with beside its own weights is ``HeadHost``'s; a source text is read by its ``sourceEncoder``.
public protocol DecoderModel: HeadHost {
  /// Sizes, family and positions.
  var configuration: DecoderConfiguration { get }

  /// What reads a source text before the decoder writes; `nil` where there is no encoder.
  var sourceEncoder: (any SourceEncoder)? { get }

  /// Makes an empty cache for one sequence of at most `capacity` tokens.
  ///
  /// - Throws: ``DecoderError`` when `capacity` is not in 1…contextLength.
  func makeCache(capacity: Int) throws(DecoderError) -> KeyValueCache

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

  /// The largest batch whose rows come out bit for bit as they would alone.
  var invariantBatchLimit: Int { get }

  /// Bytes of weights that one token reads in layers, and in the unembedding.
  var bytesPerLayer: Int { get }
  /// Bytes of weights that one token reads in the unembedding.
  var bytesOfUnembedding: Int { get }
}

extension DecoderModel {
  /// None: most models are decoders alone.
  public var sourceEncoder: (any SourceEncoder)? { nil }
}
