/// The encoder of an encoder–decoder, which reads a text before the decoder writes.
public protocol SourceEncoder: AnyObject, Sendable {
  /// Runs the encoder over a source text and puts the keys and values of its output into `cache`, once for all tokens
  /// that are decoded with it.
  ///
  /// - Throws: ``DecoderError`` for an empty source, one longer than the context, or a token outside the vocabulary.
  func encode(_ source: [TokenID], into cache: KeyValueCache) throws(DecoderError)
}
