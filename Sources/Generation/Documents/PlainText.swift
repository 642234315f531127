/// A document as one looks for words in it: small letters, single spaces, straight quotes, and for each of its
/// characters the place in the document that it comes from.
struct PlainText {
  private(set) var characters: [Unicode.Scalar] = []
  /// For each of ``characters``, and for the end, the number of the document's Unicode scalar.
  private(set) var places: [Int] = []

  private static let replacements: [Unicode.Scalar: Unicode.Scalar] = [
    "’": "'", "‘": "'", "“": "\"", "”": "\"", "–": "-", "—": "-", "‑": "-",
  ]

  /// - Complexity: O(n)
  init(_ text: some StringProtocol) {
    var place = 0
    var isSpace = false
    for scalar in text.unicodeScalars {
      defer { place += 1 }
      if scalar.properties.isWhitespace {
        if !isSpace { append(" ", place) }
        isSpace = true
        continue
      }
      isSpace = false
      if let other = Self.replacements[scalar] {
        append(other, place)
      } else {
        for lower in scalar.properties.lowercaseMapping.unicodeScalars { append(lower, place) }
      }
    }
    places.append(place)
  }

  private mutating func append(_ scalar: Unicode.Scalar, _ place: Int) {
    characters.append(scalar)
    places.append(place)
  }

  /// Where a text stands as whole words, as ranges of the document's scalars.
  ///
  /// - Complexity: O(n m) at worst, O(n) for usual texts.
  func occurrences(of words: ArraySlice<Unicode.Scalar>) -> [Range<Int>] {
    guard let first = words.first, words.count <= characters.count else { return [] }
    var result: [Range<Int>] = []
    for start in 0...characters.count - words.count where characters[start] == first {
      let end = start + words.count
      guard isBoundary(start), isBoundary(end), characters[start..<end].elementsEqual(words) else { continue }
      // The last of its scalars is where the next one begins, but for the white space between them.
      result.append(places[start]..<places[end - 1] + 1)
    }
    return result
  }

  /// Whether no word or number goes on across a place.
  private func isBoundary(_ place: Int) -> Bool {
    guard place > 0, place < characters.count else { return true }
    let (before, after) = (characters[place - 1], characters[place])
    if before.isPartOfWord, after.isPartOfWord { return false }
    // "926" is no part of "1,926", nor "5" of "1.5".
    func continues(_ mark: Unicode.Scalar, _ other: Int) -> Bool {
      (mark == "," || mark == ".") && characters.indices.contains(other) && characters[other].isDigit
    }
    if after.isDigit, continues(before, place - 2) { return false }
    if before.isDigit, continues(after, place + 1) { return false }
    return true
  }
}

extension Unicode.Scalar {
  /// A letter, a digit or a mark on one.
  var isPartOfWord: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .nonspacingMark,
      .spacingMark, .enclosingMark, .decimalNumber, .letterNumber, .otherNumber:
      true
    default: false
    }
  }

  var isDigit: Bool { ("0"..."9").contains(self) }
}
