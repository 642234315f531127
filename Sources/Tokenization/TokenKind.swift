/// What a token of a vocabulary is for; the raw values are those of GGUF's `tokenizer.ggml.token_type`.
public enum TokenKind: Int32, Sendable, Hashable, CaseIterable {
  /// A piece of text.
  case normal = 1
  /// Stands for what the vocabulary cannot spell.
  case unknown = 2
  /// Steers the model: the start or the end of a text, a turn of a chat, padding.
  case control = 3
  /// Text that is never cut or merged.
  case userDefined = 4
  /// A number without a meaning.
  case unused = 5
  /// A single byte, for text that the other pieces cannot spell.
  case byte = 6
}
