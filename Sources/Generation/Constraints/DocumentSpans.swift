import Tokenization
import Transformers

/// The outputs that an extractive answer may be: whole words of a document as they stand there, or the refusal.
///
/// The document's bytes are the text of a suffix automaton, with a boundary mark wherever a span may begin or end: not
/// within a word, nor within a number such as 1,926.5. White space is a single space.
public final class DocumentSpans: Sendable {
  /// No byte of UTF-8.
  private static let boundary: UInt8 = 0xFF

  private let automaton: SuffixAutomaton
  private let refusal: [UInt8]
  private let table: TokenTable
  private let endTokens: Set<TokenID>
  /// Tokens that a shortlist has to have beside the prompt's, so that every span can be written.
  package let neededTokens: [TokenID]

  /// - Complexity: O(n) for a document of n bytes.
  init(document: String, table: TokenTable, tokenizer: any Tokenizer, endTokens: Set<TokenID>) throws {
    let text = Self.marked(document)
    automaton = SuffixAutomaton(text)
    refusal = Array(PromptStyle.refusal.utf8)
    self.table = table
    self.endTokens = endTokens
    var needed = Set(try tokenizer.encode(PromptStyle.refusal, special: .asText)).union(endTokens)
    let single = table.singleBytes
    for byte in Set(text).subtracting([Self.boundary]) { single[byte].map { _ = needed.insert($0) } }
    // A word that an answer begins with is another token than one after a space.
    for word in Set(document.split(whereSeparator: { !$0.isLetter && !$0.isNumber })) {
      needed.formUnion(try tokenizer.encode(String(word), special: .asText))
    }
    neededTokens = needed.sorted()
  }

  /// How far an output has got.
  package struct Position: Equatable {
    /// Where the automaton may be. More than one only between two characters, until the next one tells whether a
    /// boundary lies before it.
    var states: [SuffixAutomaton.State]
    /// Bytes of the refusal that the output is so far; `nil` when it is something else.
    var refused: Int?
    var isEmpty = true
    /// Whether it is white space so far, which answers nothing.
    var isBlank = true
  }

  package var start: Position {
    Position(states: automaton.step(SuffixAutomaton.root, Self.boundary).map { [$0] } ?? [], refused: 0)
  }

  /// Where a token leads; `nil` where it may not come next.
  package func next(_ position: Position, _ token: TokenID) -> Position? {
    if endTokens.contains(token) { return mayEnd(position) ? position : nil }
    let bytes = table.bytes(of: token, startsText: position.isEmpty)
    guard !bytes.isEmpty else { return nil }
    var next = position
    next.isEmpty = false
    for byte in bytes {
      // A vocabulary of all bytes has this one, too.
      guard byte != Self.boundary else { return nil }
      var states: [SuffixAutomaton.State] = []
      for state in next.states {
        if let target = automaton.step(state, byte) { states.append(target) }
        if let marked = automaton.step(state, Self.boundary), let target = automaton.step(marked, byte) {
          states.append(target)
        }
      }
      next.states = states
      if byte != UInt8(ascii: " ") { next.isBlank = false }
      next.refused = next.refused.flatMap { $0 < refusal.count && refusal[$0] == byte ? $0 + 1 : nil }
      if states.isEmpty, next.refused == nil { return nil }
    }
    return next
  }

  /// Whether an output is complete as it is.
  package func mayEnd(_ position: Position) -> Bool {
    guard !position.isBlank else { return false }
    return position.refused == refusal.count
      || position.states.contains { automaton.step($0, Self.boundary) != nil }
  }

  /// A document's bytes with white space as single spaces, one of them first, and boundary marks.
  private static func marked(_ document: String) -> [UInt8] {
    let scalars = Array((" " + document + " ").unicodeScalars)
    var text: [UInt8] = []
    var before: Int?
    for place in scalars.indices {
      let isSpace = scalars[place].properties.isWhitespace
      if isSpace, let before, scalars[before].properties.isWhitespace { continue }
      if before.map({ isBoundary(scalars, $0, place) }) ?? true { text.append(boundary) }
      text += isSpace ? [UInt8(ascii: " ")] : Array(UTF8.encode(scalars[place]) ?? .init())
      before = place
    }
    return text + [boundary]
  }

  private static func isBoundary(_ scalars: [Unicode.Scalar], _ before: Int, _ after: Int) -> Bool {
    let (left, right) = (scalars[before], scalars[after])
    if left.isPartOfWord, right.isPartOfWord { return false }
    func isMark(_ scalar: Unicode.Scalar) -> Bool { scalar == "," || scalar == "." }
    // The number before the mark and the one after it are one.
    if left.isDigit, isMark(right), after + 1 < scalars.count, scalars[after + 1].isDigit { return false }
    if isMark(left), right.isDigit, before > 0, scalars[before - 1].isDigit { return false }
    return true
  }
}
