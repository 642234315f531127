/// A word of a text, as names and numbers are compared.
struct CheckedWord {
  /// As it is written, without the marks around it and without a possessive.
  var bare: String
  /// In small letters, without the full stops of initials.
  var key: String
  /// Whether a mark follows that ends what belongs together: a comma, a full stop, a bracket.
  var isLastOfPhrase: Bool

  private static let small: Set<String> = [
    "i", "i'm", "i've", "i'd", "i'll", "mr", "mrs", "ms", "dr", "sir", "madam", "ok", "okay",
  ]
  /// Words that open a sentence and are no names, though a name may follow.
  private static let openers: Set<String> = [
    "a", "after", "all", "also", "although", "an", "and", "another", "any", "as", "at", "because", "before",
    "both", "but",
    "by", "despite", "during", "each", "even", "every", "finally", "for", "former", "from", "he", "her",
    "his", "how",
    "however", "if", "in", "instead", "it", "its", "last", "later", "like", "many", "meanwhile", "most", "my",
    "near", "next",
    "no", "now", "of", "on", "once", "one", "only", "our", "over", "she", "since", "so", "some", "that",
    "the", "their",
    "then", "there", "these", "they", "this", "those", "though", "through", "to", "today", "two", "three",
    "under", "unlike",
    "until", "we", "what", "when", "where", "while", "who", "why", "with", "without", "yesterday", "you",
    "your",
  ]

  /// The words of a text; marks alone are none.
  static func words(of text: String) -> [CheckedWord] {
    text.split(whereSeparator: { $0.isWhitespace || "—–/|".contains($0) }).compactMap { CheckedWord($0) }
  }

  private init?(_ written: Substring) {
    func isInner(_ character: Character) -> Bool { character.isLetter || character.isNumber }
    guard let first = written.firstIndex(where: isInner), let last = written.lastIndex(where: isInner) else {
      return nil
    }
    var word = String(written[first...last]).replacing("’", with: "'")
    let after = written[written.index(after: last)...]
    isLastOfPhrase = after.contains { ",.;:!?)]\"”".contains($0) }
    for ending in ["'s", "'S"] where word.hasSuffix(ending) { word.removeLast(2) }
    bare = word
    // "U.S" and "J.K", whose last full stop is gone already; not the one of 1.5.
    let pieces = word.split(separator: ".")
    let isInitials = pieces.count > 1 && pieces.allSatisfy { $0.count <= 2 && $0.allSatisfy(\.isLetter) }
    if isInitials || pieces.count == 1 && word.count == 1 {
      isLastOfPhrase = after.contains { ",;:!?)]\"”".contains($0) }
    }
    key = (isInitials ? pieces.joined() : word).lowercased()
  }

  private init(bare: String) {
    self.bare = bare
    key = bare.lowercased()
    isLastOfPhrase = false
  }

  /// The parts of a word with hyphens.
  var parts: [CheckedWord] { bare.split(separator: "-").map { CheckedWord(bare: String($0)) } }

  /// The word and what it may be the plural of, or the adjective: "Americans" is "American".
  var spellings: [String] { key.count > 3 && key.hasSuffix("s") ? [key, String(key.dropLast())] : [key] }

  /// Near enough to a stem to see that sentences speak of the same.
  var stem: String {
    for ending in ["ing", "ed", "es", "s", "ly"] where key.count > ending.count + 3 && key.hasSuffix(ending) {
      return String(key.dropLast(ending.count))
    }
    return key
  }

  var isCapitalized: Bool { bare.first?.isUppercase == true }
  /// Two letters or more and capitals only.
  var isAcronym: Bool {
    let letters = bare.filter { $0 != "." }
    return letters.count > 1 && letters.allSatisfy(\.isUppercase)
  }

  /// Whether the word is a name, or a part of one.
  ///
  /// - Parameters:
  ///   - first: Whether its sentence begins with it, so that its capital says nothing.
  ///   - next: The word after it.
  func isName(first: Bool, before next: CheckedWord?) -> Bool {
    guard bare.contains(where: \.isUppercase), !Self.small.contains(key) else { return false }
    let hasInnerCapital = bare.dropFirst().contains(where: \.isUppercase)
    guard first, !hasInnerCapital else { return isCapitalized || hasInnerCapital }
    guard !Self.openers.contains(key), let next, !isLastOfPhrase else { return false }
    return next.isCapitalized && !Self.small.contains(next.key)
  }

  /// The numbers in it, each in one form: without marks of thousands, and without zeros that change nothing.
  var numbers: [String] {
    var result: [String] = []
    var rest = Substring(key)
    while let start = rest.firstIndex(where: \.isASCIIDigit) {
      rest = rest[start...]
      let run = rest.prefix { $0.isASCIIDigit || $0 == "," || $0 == "." }
      rest = rest[run.endIndex...]
      result.append(Self.canonical(run))
    }
    return result
  }

  private static func canonical(_ run: Substring) -> String {
    let digits = run.filter { $0 != "," }
    let parts = digits.split(separator: ".", omittingEmptySubsequences: true).map(String.init)
    // More than one full stop is a version or a date: it stays as it is.
    guard parts.count <= 2 else { return parts.joined(separator: ".") }
    let whole = parts.first.map { String($0.drop { $0 == "0" }) } ?? ""
    var fraction = parts.count > 1 ? parts[1] : ""
    while fraction.last == "0" { fraction.removeLast() }
    return (whole.isEmpty ? "0" : whole) + (fraction.isEmpty ? "" : "." + fraction)
  }
}

/// Numbers that are written as words.
enum NumberWords {
  private static let units = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
  ]
  private static let tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
  private static let ordinals = [
    "first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8,
    "ninth": 9,
    "tenth": 10, "eleventh": 11, "twelfth": 12, "twentieth": 20,
  ]
  private static let larger = ["dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000]

  /// The numbers that words say, in digits: "twenty", "twenty-one", "twenty one".
  static func values(of words: [String]) -> Set<String> {
    var result: Set<String> = []
    let parts = words.flatMap { $0.split(separator: "-").map(String.init) }
    for (place, word) in parts.enumerated() {
      guard let value = value(word) else { continue }
      result.insert("\(value)")
      guard place + 1 < parts.count, let next = self.value(parts[place + 1]) else { continue }
      if (20...90).contains(value), value % 10 == 0, (1...9).contains(next) {
        result.insert("\(value + next)")
      }
      if (1...99).contains(value), next >= 100 { result.insert("\(value * next)") }
    }
    return result
  }

  private static func value(_ word: String) -> Int? {
    if let place = units.firstIndex(of: word) { return place }
    if let place = tens.firstIndex(of: word) { return 20 + 10 * place }
    return ordinals[word] ?? larger[word]
  }
}

extension Character {
  fileprivate var isASCIIDigit: Bool { ("0"..."9").contains(self) }
}
