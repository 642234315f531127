/// What can be said of an output without a reference.
public enum TextProperties {
  /// Words that make a phrase, and how often a phrase must come for a text to repeat itself.
  private static let phraseLength = 4
  private static let repetitions = 3

  /// Whether some four words in a row come three times, upper and lower case alike; overlapping ones count. O(words).
  ///
  /// Words are runs of letters and digits, so that "A-A-A-A-A-A" is six of them.
  public static func repeatsItself(_ text: String) -> Bool {
    let words = text.lowercasedScalars().split { !$0.isWordPart }.map { ScalarText($0) }
    guard words.count >= phraseLength else { return false }
    var counts: [ArraySlice<ScalarText>: Int] = [:]
    for start in 0...(words.count - phraseLength) {
      let count = (counts[words[start..<start + phraseLength]] ?? 0) + 1
      if count == repetitions { return true }
      counts[words[start..<start + phraseLength]] = count
    }
    return false
  }

  /// The share of the names and numbers of a text that its source does not have; 0 where the text has none. O(text +
  /// source).
  ///
  /// A number is a run with a digit, thousands separators left out. A name is a word of two letters or more with a
  /// capital first letter that does not begin a sentence, for there every word has one. Either is looked for among
  /// the words of the source, upper and lower case alike. Names that languages write without capitals are not seen.
  public static func unsupportedShare(_ text: String, source: String) -> Double {
    let known = Set(tokens(source).map(\.key))
    let claims = tokens(text).filter(\.isClaim)
    guard !claims.isEmpty else { return 0 }
    return Double(claims.count { !known.contains($0.key) }) / Double(claims.count)
  }

  private struct Token {
    /// What is compared.
    var key: ScalarText
    /// Whether it is a name or a number.
    var isClaim: Bool
  }

  private static func tokens(_ text: String) -> [Token] {
    let scalars = Array(text.unicodeScalars)
    var tokens: [Token] = []
    var beginsSentence = true
    var position = 0
    while position < scalars.count {
      guard scalars[position].isWordPart else {
        switch scalars[position] {
        case ".", "!", "?", ":", "\n", "\u{2026}", "\"", "\u{201C}", "\u{2022}": beginsSentence = true
        default: break
        }
        position += 1
        continue
      }
      let start = position
      var word: [Unicode.Scalar] = []
      var hasDigit = false
      while position < scalars.count {
        let scalar = scalars[position]
        if scalar.isWordPart {
          hasDigit = hasDigit || scalar.properties.numericType != nil
          word.append(scalar)
        } else if isInsideNumber(scalars, position) {
          // 1,234.5 is one number, and 1234.5 is the same.
          if scalar == "." { word.append(scalar) }
        } else {
          break
        }
        position += 1
      }
      let isName = !beginsSentence && word.count > 1 && scalars[start].properties.isUppercase
      var view = String.UnicodeScalarView()
      view.append(contentsOf: word)
      tokens.append(Token(key: ScalarText(String(view).lowercasedScalars()), isClaim: hasDigit || isName))
      beginsSentence = false
    }
    return tokens
  }

  private static func isInsideNumber(_ scalars: [Unicode.Scalar], _ position: Int) -> Bool {
    guard scalars[position] == "." || scalars[position] == ",", position > 0, position + 1 < scalars.count
    else {
      return false
    }
    return scalars[position - 1].properties.numericType != nil
      && scalars[position + 1].properties.numericType != nil
  }
}
