/// Porter's suffix stripping (1980), with the departures that ROUGE's reference scorer inherits.
///
/// Steps and rules follow the paper; the departures (a few irregular words, "ies"/"ied" in four-letter words, "y" after
/// a consonant, "alli", "fulli" and "logi") are those its stemmer documents. Words are lower-case ASCII.
package enum PorterStemmer {
  private typealias Word = [UInt8]

  private static let irregular: [String: String] = [
    "sky": "sky", "skies": "sky", "dying": "die", "lying": "lie", "tying": "tie", "news": "news",
    "innings": "inning", "inning": "inning", "outings": "outing", "outing": "outing", "cannings": "canning",
    "canning": "canning", "howe": "howe", "proceed": "proceed", "exceed": "exceed", "succeed": "succeed",
  ]

  /// The stem of a word. O(length).
  package static func stem(_ text: String) -> String {
    if let form = irregular[text] { return form }
    var word = Word(text.utf8)
    if word.count <= 2 { return text }
    plural(&word)
    pastAndParticiple(&word)
    if word.last == y, word.count > 2, isConsonant(word, word.count - 2) { word[word.count - 1] = i }
    doubleSuffix(&word)
    apply(icateRules, to: &word) { measure($0) > 0 }
    apply(alRules, to: &word) { stem in measure(stem) > 1 }
    finalE(&word)
    if ends(word, "ll"), measure(word.dropLast()) > 1 { word.removeLast() }
    return String(decoding: word, as: UTF8.self)
  }

  private static let (y, i, e, s, t) = (
    UInt8(ascii: "y"), UInt8(ascii: "i"), UInt8(ascii: "e"), UInt8(ascii: "s"), UInt8(ascii: "t")
  )

  private static func isVowelLetter(_ letter: UInt8) -> Bool {
    switch letter {
    case UInt8(ascii: "a"), UInt8(ascii: "e"), UInt8(ascii: "i"), UInt8(ascii: "o"), UInt8(ascii: "u"): true
    default: false
    }
  }

  /// "y" is a consonant at the start and after a vowel. The run of y before it decides, so look back over it.
  private static func isConsonant(_ word: Word, _ index: Int) -> Bool {
    if isVowelLetter(word[index]) { return false }
    guard word[index] == y else { return true }
    var start = index
    while start > 0, word[start - 1] == y { start -= 1 }
    let firstIsConsonant = start == 0 || isVowelLetter(word[start - 1])
    return (index - start) % 2 == 0 ? firstIsConsonant : !firstIsConsonant
  }

  /// The number of vowel–consonant changes.
  private static func measure(_ word: some Sequence<UInt8>) -> Int {
    var count = 0
    var previous: Bool?
    for letter in word {
      let consonant = isVowelLetter(letter) ? false : letter == y ? previous != true : true
      if previous == false, consonant { count += 1 }
      previous = consonant
    }
    return count
  }

  private static func hasVowel(_ word: Word) -> Bool { word.indices.contains { !isConsonant(word, $0) } }

  private static func endsDouble(_ word: Word) -> Bool {
    word.count >= 2 && word[word.count - 1] == word[word.count - 2] && isConsonant(word, word.count - 1)
  }

  /// Consonant, vowel, consonant other than w, x, y; or a word of one vowel and one consonant.
  private static func endsShort(_ word: Word) -> Bool {
    if word.count == 2 { return !isConsonant(word, 0) && isConsonant(word, 1) }
    guard word.count >= 3, let last = word.last else { return false }
    return isConsonant(word, word.count - 3) && !isConsonant(word, word.count - 2)
      && isConsonant(word, word.count - 1) && ![UInt8(ascii: "w"), UInt8(ascii: "x"), y].contains(last)
  }

  private static func ends(_ word: Word, _ suffix: String) -> Bool {
    word.count >= suffix.utf8.count && word.suffix(suffix.utf8.count).elementsEqual(suffix.utf8)
  }

  private static func replace(_ word: inout Word, _ suffix: String, by replacement: String) {
    word.removeLast(suffix.utf8.count)
    word += replacement.utf8
  }

  /// The first rule whose suffix fits is the only one tried.
  private static func apply(
    _ rules: [(suffix: String, replacement: String)], to word: inout Word, where condition: (Word) -> Bool
  ) {
    guard let rule = rules.first(where: { ends(word, $0.suffix) }) else { return }
    let stem = Word(word.dropLast(rule.suffix.utf8.count))
    if rule.suffix == "ion", stem.last != s, stem.last != t { return }
    if condition(stem) { replace(&word, rule.suffix, by: rule.replacement) }
  }

  /// Step 1a.
  private static func plural(_ word: inout Word) {
    if ends(word, "ies") {
      replace(&word, "ies", by: word.count == 4 ? "ie" : "i")
    } else if ends(word, "sses") {
      word.removeLast(2)
    } else if word.last == s, !ends(word, "ss") {
      word.removeLast()
    }
  }

  /// Step 1b.
  private static func pastAndParticiple(_ word: inout Word) {
    if ends(word, "ied") {
      replace(&word, "ied", by: word.count == 4 ? "ie" : "i")
      return
    }
    if ends(word, "eed") {
      if measure(word.dropLast(3)) > 0 { word.removeLast() }
      return
    }
    guard
      let suffix = ["ed", "ing"].first(where: { suffix in
        ends(word, suffix) && hasVowel(Word(word.dropLast(suffix.utf8.count)))
      })
    else { return }
    word.removeLast(suffix.utf8.count)
    if ends(word, "at") || ends(word, "bl") || ends(word, "iz") {
      word.append(e)
    } else if endsDouble(word) {
      if let last = word.last, !"lsz".utf8.contains(last) { word.removeLast() }
    } else if measure(word) == 1, endsShort(word) {
      word.append(e)
    }
  }

  /// Step 2, with "alli" first and tried again on its result.
  private static func doubleSuffix(_ word: inout Word) {
    if ends(word, "alli"), measure(word.dropLast(4)) > 0 {
      word.removeLast(2)
      doubleSuffix(&word)
      return
    }
    if ends(word, "logi"), !stepTwoRules.contains(where: { ends(word, $0.suffix) }) {
      if measure(word.dropLast(3)) > 0 { word.removeLast() }
      return
    }
    apply(stepTwoRules, to: &word) { measure($0) > 0 }
  }

  /// Step 5a.
  private static func finalE(_ word: inout Word) {
    guard word.last == e else { return }
    let stem = Word(word.dropLast())
    let size = measure(stem)
    if size > 1 || size == 1 && !endsShort(stem) { word = stem }
  }

  private static let stepTwoRules = [
    ("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous"), ("ization", "ize"), ("ation", "ate"),
    ("ator", "ate"), ("alism", "al"), ("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"),
    ("aliti", "al"), ("iviti", "ive"), ("biliti", "ble"), ("fulli", "ful"),
  ].map { (suffix: $0.0, replacement: $0.1) }

  /// Step 3.
  private static let icateRules = [
    ("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""),
    ("ness", ""),
  ].map { (suffix: $0.0, replacement: $0.1) }

  /// Step 4.
  private static let alRules = [
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti",
    "ous", "ive", "ize",
  ].map { (suffix: $0, replacement: "") }
}
