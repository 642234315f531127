/// A part of a prompt: what the prompt's own structure writes, or what a conversation or document says.
public struct PromptPiece: Sendable, Equatable {
  /// UTF-8.
  public var text: [UInt8]
  /// Whether names of special tokens in it are text.
  public var isContent: Bool

  /// A piece from a text.
  public init(_ text: String, isContent: Bool) {
    self.text = Array(text.utf8)
    self.isContent = isContent
  }
}

extension Tokenizer {
  /// The tokens of a prompt that is put together from pieces.
  ///
  /// The pieces are one text: words and merges go across their borders. Special tokens are found only where all of
  /// their name is the structure's own, so that nothing in a document can forge a turn.
  ///
  /// - Complexity: As ``encode(_:special:)-([UInt8],_)``.
  public func encode(_ pieces: [PromptPiece]) throws(TokenizerError) -> [Int] {
    var text: [UInt8] = []
    var found: [(range: Range<Int>, token: Int)] = []
    for run in Self.runs(pieces) {
      text += run.text
      guard !run.isContent else { continue }
      var position = text.count - run.text.count
      while position < text.count {
        guard let match = specialToken(in: text, at: position) else {
          position += 1
          continue
        }
        found.append((position..<position + match.length, match.token))
        position += match.length
      }
    }
    if found.isEmpty { return try encode(text, special: .asText) }
    var tokens: [Int] = []
    var start = 0
    for (range, token) in found {
      if start < range.lowerBound {
        let part = Array(text[start..<range.lowerBound])
        tokens += try start == 0 ? encode(part, special: .asText) : encodeRest(part)
      }
      tokens.append(token)
      start = range.upperBound
    }
    if start < text.count { tokens += try encodeRest(Array(text[start...])) }
    return tokens
  }

  /// Pieces of one origin that follow each other, joined.
  private static func runs(_ pieces: [PromptPiece]) -> [PromptPiece] {
    var runs: [PromptPiece] = []
    for piece in pieces {
      if let last = runs.last, last.isContent == piece.isContent {
        runs[runs.count - 1].text += piece.text
      } else {
        runs.append(piece)
      }
    }
    return runs
  }
}

/// A tokenizer for an embedding with more rows than it has tokens: the rest stands for no text.
///
/// Embeddings are padded to a round number, and a model may choose such a row; it ends nothing and writes nothing.
public struct PaddedTokenizer: Tokenizer {
  private let base: any Tokenizer
  /// Rows of the embedding.
  public let vocabularySize: Int

  /// - Parameters:
  ///   - base: The tokenizer.
  ///   - rows: Rows of the embedding; fewer than the tokenizer has tokens change nothing.
  public init(_ base: any Tokenizer, rows: Int) {
    self.base = base
    vocabularySize = max(rows, base.vocabularySize)
  }

  /// As the tokenizer below.
  public func encode(_ utf8: [UInt8], special: SpecialTokenHandling) throws(TokenizerError) -> [Int] {
    try base.encode(utf8, special: special)
  }

  /// As the tokenizer below.
  public func encodeRest(_ utf8: [UInt8]) throws(TokenizerError) -> [Int] { try base.encodeRest(utf8) }

  /// As the tokenizer below; nothing for a row without a token.
  public func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    if (base.vocabularySize..<vocabularySize).contains(token) { return [] }
    return try base.bytes(of: token, startsText: &startsText)
  }

  /// As the tokenizer below.
  public func isControl(_ token: Int) -> Bool { base.isControl(token) }

  /// As the tokenizer below.
  public func id(ofSpecial name: String) -> Int? { base.id(ofSpecial: name) }

  /// As the tokenizer below.
  public func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    base.specialToken(in: text, at: position)
  }
}
