import Checkpoints

/// What multiplies hidden states with weights that stand beside a model's own: the maps and shortlists of exit heads,
/// and the layer of a draft head.
public protocol HeadHost: AnyObject, Sendable {
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
}
