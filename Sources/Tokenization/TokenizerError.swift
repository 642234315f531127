/// Why a tokenizer could not be made, or could not do what was asked.
public enum TokenizerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// A field of a tokenizer file or of a model's metadata is not what it must be.
  ///
  /// `field` names it as the file does, with an index where it is a list, such as `model.merges[17]`.
  case malformed(field: String, expected: String, found: String)
  /// The file is well formed, but asks for something this module does not do.
  case unsupported(field: String, found: String)
  /// The file is not of the format it should be; `offset` is in bytes from its start.
  case syntax(format: String, offset: Int, expected: String)
  /// libsentencepiece refused a model or a text, in its words.
  case sentencePiece(message: String)
  /// A token outside 0..<vocabularySize.
  case tokenOutOfRange(token: Int, vocabularySize: Int)

  /// The error as a sentence for a person.
  public var description: String {
    switch self {
    case .malformed(let field, let expected, let found):
      "tokenizer: \(field): expected \(expected), found \(found)"
    case .unsupported(let field, let found):
      "tokenizer: \(field) is \(found), which is not supported"
    case .syntax(let format, let offset, let expected):
      "tokenizer: not valid \(format) at byte \(offset): expected \(expected)"
    case .sentencePiece(let message):
      "tokenizer: SentencePiece: \(message)"
    case .tokenOutOfRange(let token, let size):
      size == 0
        ? "token \(token) is not in the vocabulary, which is empty"
        : "token \(token) is not in the vocabulary (0 to \(size - 1))"
    }
  }
}

extension TokenizerError {
  /// A piece of a hostile file, fit to be shown in one line: control characters escaped, cut when long.
  static func excerpt(_ bytes: some Collection<UInt8>) -> String {
    var text = "\""
    for scalar in String(decoding: bytes.prefix(48), as: UTF8.self).unicodeScalars {
      text += scalar.escaped(asASCII: false)
    }
    return text + "\""
  }
}
