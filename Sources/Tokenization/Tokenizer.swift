/// Whether text that spells a special token becomes that token.
public enum SpecialTokenHandling: Sendable, Hashable, CaseIterable {
  /// Text stays text: a document cannot forge a turn of the prompt or an end of text.
  case asText
  /// Text that spells a special token becomes that token. For prompts that the program itself wrote.
  case recognize
}

/// Turns text into token IDs and token IDs back into bytes.
///
/// IDs run from 0 to ``vocabularySize`` - 1. A tokenizer is immutable and may be used by many tasks at once.
/// Text goes in as UTF-8; what comes out of ``bytes(of:startsText:)`` may cut a character in two, so that text is
/// put together with a ``StreamingDetokenizer`` or ``decode(_:includingControlTokens:)``.
public protocol Tokenizer: Sendable {
  /// The number of token IDs, unused ones included.
  var vocabularySize: Int { get }

  /// The tokens of a text. Nothing is added: no token for the start or the end of a text.
  ///
  /// - Parameters:
  ///   - utf8: The text. Bytes that are not UTF-8 are taken as they are.
  ///   - special: Whether text that spells a special token becomes that token.
  /// - Throws: ``TokenizerError`` if the tokenizer cannot process the text.
  /// - Complexity: At most O(*n* log *n*) for *n* bytes, whatever the text.
  func encode(_ utf8: [UInt8], special: SpecialTokenHandling) throws(TokenizerError) -> [Int]

  /// The tokens of a text that stands after a special token, where some tokenizers do not put the space that they put
  /// in front of a text. Special tokens are read as text.
  func encodeRest(_ utf8: [UInt8]) throws(TokenizerError) -> [Int]

  /// The bytes a token stands for. A control token gives its name, such as `<|im_end|>`.
  ///
  /// - Parameters:
  ///   - token: A token ID.
  ///   - startsText: Whether the text is still at its start, where some tokenizers drop a space that encoding added.
  ///     Set to whether the next token is at the start too.
  /// - Throws: ``TokenizerError/tokenOutOfRange(token:vocabularySize:)``.
  func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8]

  /// Whether a token steers the model rather than stands for text: start, end, a role of a chat, padding.
  /// False for an ID outside the vocabulary.
  func isControl(_ token: Int) -> Bool

  /// The ID of the special token of this name, or nil if there is none.
  func id(ofSpecial name: String) -> Int?

  /// The special token whose name stands at a place of a text, the longest where several do.
  func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)?
}

extension Tokenizer {
  /// The tokens of a whole text, for tokenizers to which the start of a text is nothing special.
  public func encodeRest(_ utf8: [UInt8]) throws(TokenizerError) -> [Int] {
    try encode(utf8, special: .asText)
  }

  /// The tokens of a text; see ``encode(_:special:)-([UInt8],_)``. Special tokens are read as text unless told
  /// otherwise.
  public func encode(
    _ text: String, special: SpecialTokenHandling = .asText
  ) throws(TokenizerError) -> [Int] {
    try encode(Array(text.utf8), special: special)
  }

  /// The bytes a token stands for within a text.
  ///
  /// - Throws: ``TokenizerError/tokenOutOfRange(token:vocabularySize:)``.
  public func bytes(of token: Int) throws(TokenizerError) -> [UInt8] {
    var startsText = false
    return try bytes(of: token, startsText: &startsText)
  }

  /// The text of a whole sequence of tokens. Bytes that are not UTF-8 become U+FFFD.
  ///
  /// - Throws: ``TokenizerError/tokenOutOfRange(token:vocabularySize:)``.
  public func decode(
    _ tokens: [Int], includingControlTokens: Bool = false
  ) throws(TokenizerError) -> String {
    var detokenizer = StreamingDetokenizer(self, includingControlTokens: includingControlTokens)
    var text = ""
    for token in tokens {
      text += try detokenizer.append(token)
    }
    return text + detokenizer.finish()
  }
}
