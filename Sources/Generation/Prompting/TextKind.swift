/// What kind of text a document is, by its outward form.
public enum TextKind: String, Sendable, CaseIterable {
  /// Most lines begin with a speaker's name and a colon: a conversation, or the minutes of a meeting word for word.
  case dialogue
  /// At most 275 words: an abstract, a post, a paragraph.
  case short
  /// Longer running text.
  case article

  /// Of texts to develop on, nine in ten abstracts have at most 222 words, nine in ten news articles at least 330.
  static let shortTextWords = 275

  /// The kind of a document.
  ///
  /// - Complexity: O(n)
  public init(of document: String) {
    let lines = document.split(whereSeparator: \.isNewline).filter { line in
      line.contains { !$0.isWhitespace }
    }
    let spoken = lines.count { Speaker.label(of: $0) != nil }
    if spoken >= 2, 2 * spoken > lines.count {
      self = .dialogue
    } else {
      let words = document.split(maxSplits: Self.shortTextWords) { $0.isWhitespace }
      self = words.count > Self.shortTextWords ? .article : .short
    }
  }

  /// How long a summary is unless the request says so, for models that are told a length.
  ///
  /// | kind | sentences | references of texts to develop on, median and mean |
  /// |---|---|---|
  /// | dialogue | 2 | 2 and 1.8 (dialogues), 1 and 3.1 (doctor and patient), 2 and 2.6 (meetings) |
  /// | short | 1 | 1 and 0.8 (abstracts), 1 and 1.2 (posts) |
  /// | article | 3 | 4 and 3.8 (news) |
  var usualLength: SummaryLength {
    switch self {
    case .dialogue: .sentences(2)
    case .short: .sentences(1)
    case .article: .sentences(3)
    }
  }
}

/// A line of a conversation: who says it.
enum Speaker {
  /// A name is no longer than this, in characters and words: what stands before a colon may be a clause as well.
  private static let longestName = 32
  private static let mostWords = 4

  /// The first who speak in a text, at most so many, in the order of their first lines; none where none of them speaks
  /// again, as in a form, whose lines begin with the names of fields.
  static func first(_ count: Int, in document: String) -> [String] {
    var names: [String] = []
    var speaksAgain = false
    for line in document.split(whereSeparator: \.isNewline) {
      guard let name = label(of: line).map({ String($0).trimmingWhitespace() }) else { continue }
      if names.contains(name) {
        speaksAgain = true
      } else if names.count < count {
        names.append(name)
      }
    }
    return speaksAgain ? names : []
  }

  /// What stands before the colon of "Name: words", or `nil` where a line does not begin so.
  static func label(of line: Substring) -> Substring? {
    let line = line.drop { $0 == " " || $0 == "\t" }
    guard let first = line.first, first.isUppercase || first == "#" || first == "[" else { return nil }
    guard let colon = line.prefix(longestName + 1).firstIndex(of: ":") else { return nil }
    let after = line.index(after: colon)
    // "14:11" and "https://" are no names.
    guard after == line.endIndex || line[after].isWhitespace else { return nil }
    let name = line[..<colon]
    let isName = name.allSatisfy {
      $0.isLetter || $0.isNumber || $0 == " " || "#-_.'’()[]&".contains($0)
    }
    guard isName, name.split(separator: " ").count <= mostWords else { return nil }
    return name
  }
}
