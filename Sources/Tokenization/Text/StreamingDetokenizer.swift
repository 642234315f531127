/// Puts text together token by token and gives out only what later tokens can no longer change.
///
/// A token may end in the middle of a character. Such bytes are held back until the character is complete. Bytes that
/// can never become a character, and a character still incomplete when the text ends, become U+FFFD, as in
/// `String(decoding:as:)`: all pieces together equal the decoding of all bytes at once.
public struct StreamingDetokenizer: Sendable {
  private let tokenizer: any Tokenizer
  private let includesControlTokens: Bool
  /// The start of a character whose end has not come yet: at most three bytes.
  private var pending: [UInt8] = []
  private var startsText = true

  /// - Parameters:
  ///   - tokenizer: The tokenizer whose IDs will come.
  ///   - includingControlTokens: Whether control tokens appear by name; otherwise they give no text.
  public init(_ tokenizer: any Tokenizer, includingControlTokens: Bool = false) {
    self.tokenizer = tokenizer
    includesControlTokens = includingControlTokens
  }

  /// Takes the next token.
  ///
  /// - Returns: The text that has become certain, possibly empty.
  /// - Throws: ``TokenizerError/tokenOutOfRange(token:vocabularySize:)``; the detokenizer is then as before.
  public mutating func append(_ token: Int) throws(TokenizerError) -> String {
    if tokenizer.isControl(token), !includesControlTokens {
      return ""
    }
    let bytes = try tokenizer.bytes(of: token, startsText: &startsText)
    guard !bytes.isEmpty else { return "" }
    pending += bytes
    let held = Self.incompleteSuffixLength(pending)
    let text = String(decoding: pending.dropLast(held), as: UTF8.self)
    pending = Array(pending.suffix(held))
    return text
  }

  /// Ends the text.
  ///
  /// - Returns: U+FFFD if the last character is incomplete, else nothing. The detokenizer can start a new text.
  public mutating func finish() -> String {
    let text = String(decoding: pending, as: UTF8.self)
    pending = []
    startsText = true
    return text
  }

  /// The number of bytes at the end that begin a character and could still be completed: 0 to 3.
  ///
  /// The ranges of second bytes are those of Table 3-7 of the Unicode Standard ("Well-Formed UTF-8 Byte Sequences").
  static func incompleteSuffixLength(_ bytes: [UInt8]) -> Int {
    for length in 1...3 where length <= bytes.count {
      let lead = bytes[bytes.count - length]
      if lead & 0xC0 == 0x80 { continue }  // a continuation byte: its lead stands further to the left
      let expected =
        switch lead {
        case 0xC2...0xDF: 2
        case 0xE0...0xEF: 3
        case 0xF0...0xF4: 4
        default: 0
        }
      guard length < expected else { return 0 }
      guard length >= 2 else { return length }
      let second = bytes[bytes.count - length + 1]
      let allowed: ClosedRange<UInt8> =
        switch lead {
        case 0xE0: 0xA0...0xBF
        case 0xED: 0x80...0x9F
        case 0xF0: 0x90...0xBF
        case 0xF4: 0x80...0x8F
        default: 0x80...0xBF
        }
      return allowed.contains(second) ? length : 0
    }
    return 0
  }
}
