/// Where sentences end: after a full stop, question or exclamation mark that white space and no small letter follows,
/// and at blank lines. Full stops of abbreviations, initials and list numbers end none.
package enum SentenceBoundary {
  /// The next place where a sentence ends, as far as a text tells that may go on.
  enum Search: Equatable {
    /// The sentence ends before `end`, and the next one begins at `next`.
    case found(end: String.Index, next: String.Index)
    /// What follows will tell whether a sentence ends here.
    case undecided(String.Index)
    case none
  }

  private static let terminals: Set<Character> = [".", "!", "?", "…", "。", "！", "？"]
  /// They need no space after them.
  private static let fullWidth: Set<Character> = ["。", "！", "？"]
  private static let closing: Set<Character> = ["\"", "'", "”", "’", ")", "]", "»"]
  private static let opening: Set<Character> = ["\"", "'", "“", "‘", "(", "[", "«"]
  private static let bullets: Set<Character> = ["-", "*", "•", "–"]

  /// A name or a number follows them, never another sentence.
  private static let titles: Set<String> = [
    "mr", "mrs", "ms", "dr", "prof", "st", "mt", "gen", "col", "sgt", "capt", "lt", "cmdr", "rev", "hon",
    "sen", "rep",
    "gov", "pres", "messrs", "vs", "cf", "e.g", "i.e", "approx", "ca", "viz",
  ]
  /// Abbreviations before a number only; words of their own otherwise.
  private static let beforeNumbers: Set<String> = [
    "no", "nos", "p", "pp", "vol", "fig", "figs", "eq", "eqs", "sec", "ch", "art", "jan", "feb", "mar", "apr",
    "jun",
    "jul", "aug", "sep", "sept", "oct", "nov", "dec",
  ]
  /// A sentence may end with them: what follows tells.
  private static let openEnded: Set<String> = [
    "etc", "inc", "ltd", "co", "corp", "bros", "jr", "sr", "al", "dept", "est", "univ", "ave", "blvd", "rd",
  ]
  /// Words that begin a sentence more often than a name.
  private static let starters: Set<String> = [
    "a", "after", "all", "although", "an", "and", "as", "at", "because", "before", "both", "but", "by",
    "during", "each",
    "for", "from", "he", "her", "here", "his", "how", "however", "i", "if", "in", "it", "its", "many", "more",
    "most",
    "my", "no", "not", "on", "one", "our", "she", "since", "so", "some", "such", "that", "the", "their",
    "then", "there",
    "these", "they", "this", "those", "to", "under", "until", "we", "what", "when", "where", "which", "while",
    "who",
    "why", "with", "you", "your",
  ]

  /// The sentences of a text, without the white space between them.
  ///
  /// - Complexity: O(n)
  package static func ranges(in text: Substring) -> [Range<String.Index>] {
    var result: [Range<String.Index>] = []
    var rest = text.drop(while: \.isWhitespace)
    while !rest.isEmpty {
      guard case .found(let end, let next) = first(in: rest, isComplete: true) else {
        let last = rest.lastIndex { !$0.isWhitespace } ?? rest.startIndex
        result.append(rest.startIndex..<rest.index(after: last))
        break
      }
      result.append(rest.startIndex..<end)
      rest = rest[next...]
    }
    return result
  }

  /// Whether a text that nothing follows ends as a sentence does.
  static func isWhole(_ text: String) -> Bool {
    text.last { !$0.isWhitespace && !closing.contains($0) }.map(terminals.contains) ?? false
  }

  /// The end of the first sentence that another one follows.
  ///
  /// - Parameters:
  ///   - text: A text from the beginning of a sentence on; white space before it is passed over.
  ///   - isComplete: Whether nothing follows the text.
  static func first(in text: Substring, isComplete: Bool) -> Search {
    var index = text.firstIndex { !$0.isWhitespace } ?? text.endIndex
    let start = index
    while index < text.endIndex {
      let character = text[index]
      if character.isNewline {
        let end = text[..<index].lastIndex { !$0.isWhitespace }.map { text.index(after: $0) } ?? index
        let next = text[index...].firstIndex { !$0.isWhitespace } ?? text.endIndex
        guard next < text.endIndex else { return isComplete ? .none : .undecided(end) }
        let lines = text[index..<next].count(where: \.isNewline)
        let begins =
          bullets.contains(text[next])
          || isComplete && Speaker.label(of: text[next...].prefix { !$0.isNewline }) != nil
        if lines > 1 || begins { return .found(end: end, next: next) }
        index = next
      } else if terminals.contains(character) {
        var end = index
        while end < text.endIndex, terminals.contains(text[end]) { end = text.index(after: end) }
        let mark = text[index..<end]
        while end < text.endIndex, closing.contains(text[end]) { end = text.index(after: end) }
        guard end < text.endIndex else { return isComplete ? .none : .undecided(end) }
        let next = text[end...].firstIndex { !$0.isWhitespace } ?? text.endIndex
        guard next > end || mark.contains(where: fullWidth.contains) else {
          index = end
          continue
        }
        // A blank line is looked at as one, whatever follows it.
        if text[end..<next].count(where: \.isNewline) > 1, next < text.endIndex {
          return .found(end: end, next: next)
        }
        guard let word = text[next...].firstIndex(where: { !opening.contains($0) }) else {
          return isComplete ? .none : .undecided(end)
        }
        switch ends(text[start..<index], mark: mark, before: text[word...], isComplete: isComplete) {
        case true?: return .found(end: end, next: next)
        case nil: return .undecided(end)
        case false?: index = next
        }
      } else {
        index = text.index(after: index)
      }
    }
    return .none
  }

  /// Whether a sentence ends at a mark between what stands before it and the word that follows; `nil` where more of the
  /// text would tell.
  private static func ends(
    _ sentence: Substring, mark: Substring, before rest: Substring, isComplete: Bool
  ) -> Bool? {
    guard let first = rest.first else { return nil }
    if first.isLowercase { return false }
    guard mark == "." else { return true }
    let beginning = sentence.lastIndex { $0.isWhitespace || opening.contains($0) }
    let last = beginning.map { sentence[sentence.index(after: $0)...] } ?? sentence
    let word = last.lowercased()
    if titles.contains(word) { return false }
    if beforeNumbers.contains(word), first.isNumber { return false }
    // "3. Stones" is an item of a list.
    if last == sentence, !last.isEmpty, last.allSatisfy(\.isNumber) { return false }
    let isInitial = last.count == 1 && last.first?.isUppercase == true
    // "U.S", "p.m", "Ph.D"
    let isAcronym =
      word.contains(".")
      && word.split(separator: ".").allSatisfy { $0.count <= 2 && $0.allSatisfy(\.isLetter) }
    guard isInitial || isAcronym || openEnded.contains(word) else { return true }
    let follower = rest.prefix { $0.isLetter }
    if follower.endIndex == rest.endIndex, !isComplete { return nil }
    return starters.contains(follower.lowercased())
  }
}
