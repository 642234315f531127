import Tokenization

/// Cuts a text into parts of a bounded number of tokens, at paragraphs where it can, else at sentences, words, or
/// characters.
struct DocumentSplitter {
  let tokenizer: any Tokenizer

  /// Where a text may be cut, the best places first.
  private enum Boundary: CaseIterable {
    case paragraph, sentence, word, character
  }

  /// A stretch of the document and the tokens it has on its own.
  private struct Piece {
    var text: Substring
    var tokens: Int
  }

  func tokenCount(_ text: some StringProtocol) throws -> Int {
    try tokenizer.encode(String(text), special: .asText).count
  }

  /// Parts of about equal size, each of at most `budget` tokens, that together are the whole text.
  ///
  /// - Complexity: O(n log n) for n bytes; each boundary kind looks only at what the one before left too long.
  func parts(of text: String, budget: Int) throws -> [String] {
    try parts(of: text, budget: budget, balanced: true)
  }

  func parts(of text: String, budget: Int, balanced: Bool) throws -> [String] {
    let pieces = try pieces(text[...], budget: max(budget, 1), boundaries: Boundary.allCases[...])
    let total = pieces.reduce(0) { $0 + $1.tokens }
    let count = (total + budget - 1) / max(budget, 1)
    // Without this the last part may be a lone sentence, and its summary an invention.
    let target = balanced && count > 0 ? min(budget, (total + count - 1) / count) : budget
    var parts: [String] = []
    var part = ""
    var size = 0
    for piece in pieces {
      if size > 0, size + piece.tokens > budget || size >= target {
        parts.append(part)
        (part, size) = ("", 0)
      }
      part += piece.text
      size += piece.tokens
    }
    if !part.isEmpty { parts.append(part) }
    return parts
  }

  /// The longest beginning of the text, cut at a word, that has at most `budget` tokens.
  func beginning(of text: String, budget: Int) throws -> String {
    var kept = ""
    var size = 0
    for piece in try pieces(text[...], budget: budget, boundaries: Boundary.allCases[...]) {
      guard size + piece.tokens <= budget else {
        for word in Self.split(piece.text, at: .word) {
          let tokens = try tokenCount(word)
          guard size + tokens <= budget else { return kept }
          kept += word
          size += tokens
        }
        return kept
      }
      kept += piece.text
      size += piece.tokens
    }
    return kept
  }

  private func pieces(
    _ text: Substring, budget: Int, boundaries: ArraySlice<Boundary>
  ) throws -> [Piece] {
    guard let boundary = boundaries.first else { return [Piece(text: text, tokens: try tokenCount(text))] }
    var result: [Piece] = []
    for stretch in Self.split(text, at: boundary) {
      let tokens = try tokenCount(stretch)
      if tokens <= budget {
        result.append(Piece(text: stretch, tokens: tokens))
      } else {
        result += try pieces(stretch, budget: budget, boundaries: boundaries.dropFirst())
      }
    }
    return result
  }

  /// Stretches that end after each boundary of that kind; joined, they are the text.
  private static func split(_ text: Substring, at boundary: Boundary) -> [Substring] {
    if boundary == .character { return text.indices.map { text[$0...$0] } }
    var result: [Substring] = []
    var start = text.startIndex
    var index = text.startIndex
    while index < text.endIndex {
      let next = text.index(after: index)
      if ends(text, at: index, next: next, boundary: boundary) {
        result.append(text[start..<next])
        start = next
      }
      index = next
    }
    if start < text.endIndex { result.append(text[start...]) }
    return result
  }

  private static func ends(
    _ text: Substring, at index: String.Index, next: String.Index, boundary: Boundary
  ) -> Bool {
    guard next < text.endIndex else { return false }
    let character = text[index]
    switch boundary {
    case .paragraph:
      // After a blank line, before what follows it.
      guard character.isNewline, !text[next].isNewline, index > text.startIndex else { return false }
      return text[text.index(before: index)].isNewline
    case .sentence:
      // A full stop and the space after it; or a line's end. The space stays with the sentence before it.
      if character.isNewline { return true }
      guard character.isWhitespace, !text[next].isWhitespace, index > text.startIndex else { return false }
      var before = text.index(before: index)
      while before > text.startIndex, "\"'”’)]»".contains(text[before]) {
        before = text.index(before: before)
      }
      return ".!?。！？…".contains(text[before])
    case .word:
      return !character.isWhitespace && text[next].isWhitespace
    case .character:
      return true
    }
  }
}
