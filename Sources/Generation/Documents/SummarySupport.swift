/// A sentence of a summary, and what of it the document supports. It is found out by comparing words: no model is
/// asked.
public struct SupportedSentence: Sendable, Equatable, Codable {
  /// The sentence.
  public var text: String
  /// The document's sentence that shares most with it, words that few sentences have counting for more; `nil` where
  /// none shares any.
  public var sourceSentence: String?
  /// Names and numbers in it that the document lacks, as they are written; see ``SummarySupport``.
  public var unsupported: [String]

  /// Puts a finding together.
  public init(text: String, sourceSentence: String?, unsupported: [String]) {
    self.text = text
    self.sourceSentence = sourceSentence
    self.unsupported = unsupported
  }
}

/// What a document says, as far as sentences about it can be compared with it word by word.
///
/// A **number** is a run of digits, with the marks of thousands and of decimals in it: 1,926 and 1926 are the same, as
/// are
/// 2.50 and 2.5, and the 20 of "20th" is 20. A document's number words up to ninety-nine count as numbers, too. Number
/// words of a summary are not looked at: "two reasons" may be counted, not quoted.
///
/// A **name** is a word with a capital that no sentence begins with; or the first word of a sentence where another
/// capital in it or right after it shows that it is one. Capitals, possessives, plurals, hyphens and the full stops of
/// initials make no difference, and initials stand for the words that they begin: NATO is supported by "North Atlantic
/// Treaty Organization".
public struct SummarySupport: Sendable {
  private let sentences: [String]
  private let index: SentenceIndex
  private let words: Set<String>
  private let numbers: Set<String>
  private let initials: Set<String>

  /// - Complexity: O(n) for a document of n characters.
  public init(document: String) {
    sentences = SentenceBoundary.ranges(in: document[...]).map { String(document[$0]) }
    index = SentenceIndex(sentences)
    let all = sentences.map(CheckedWord.words(of:))
    var words: Set<String> = []
    var numbers: Set<String> = []
    var initials: Set<String> = []
    for sentence in all {
      for word in sentence {
        words.formUnion(word.spellings)
        words.formUnion(word.parts.flatMap(\.spellings))
        numbers.formUnion(word.numbers)
      }
      numbers.formUnion(NumberWords.values(of: sentence.map(\.key)))
      initials.formUnion(Self.initials(of: sentence))
    }
    self.words = words
    self.numbers = numbers
    self.initials = initials
  }

  /// The sentences of a summary, each with what supports it.
  ///
  /// - Complexity: O(m) for a summary of m characters, and O(sentences of the document) for each of its sentences.
  public func check(_ summary: String) -> [SupportedSentence] {
    SentenceBoundary.ranges(in: summary[...]).map { range in
      let text = String(summary[range])
      return SupportedSentence(
        text: text, sourceSentence: index.nearest(to: text).map { sentences[$0] },
        unsupported: unsupported(in: text))
    }
  }

  /// Names and numbers of a sentence that the document lacks; words of a name that follow each other as one.
  private func unsupported(in sentence: String) -> [String] {
    let words = CheckedWord.words(of: sentence)
    var result: [String] = []
    var name: [String] = []
    for (place, word) in words.enumerated() {
      let isName = word.isName(
        first: place == 0, before: words.indices.contains(place + 1) ? words[place + 1] : nil)
      if isName, !isKnown(word) {
        name.append(word.bare)
        if !word.isLastOfPhrase { continue }
      } else if !isName, !word.numbers.isEmpty, !word.numbers.allSatisfy(numbers.contains), !isKnown(word) {
        result += name.isEmpty ? [] : [name.joined(separator: " ")]
        name = []
        result.append(word.bare)
        continue
      }
      if !name.isEmpty { result.append(name.joined(separator: " ")) }
      name = []
    }
    if !name.isEmpty { result.append(name.joined(separator: " ")) }
    var seen: Set<String> = []
    return result.filter { seen.insert($0).inserted }
  }

  private func isKnown(_ word: CheckedWord) -> Bool {
    if !words.isDisjoint(with: word.spellings) { return true }
    if word.isAcronym, initials.contains(word.key) { return true }
    let parts = word.parts
    return parts.count > 1
      && parts.allSatisfy { part in
        !words.isDisjoint(with: part.spellings)
          || numbers.isSuperset(of: part.numbers) && !part.numbers.isEmpty
      }
  }

  /// First letters of runs of two to six words with capitals, small words between them passed over or not.
  private static func initials(of words: [CheckedWord]) -> Set<String> {
    let small: Set<String> = ["of", "the", "and", "for", "in", "on", "de", "la", "du", "&"]
    var result: Set<String> = []
    for start in words.indices where words[start].isCapitalized {
      var (capitals, all) = ("", "")
      for word in words[start...].prefix(8) {
        guard word.isCapitalized || small.contains(word.key), let first = word.key.first else { break }
        all.append(first)
        if word.isCapitalized { capitals.append(first) }
        if capitals.count > 1 { result.formUnion([capitals, all]) }
        if word.isLastOfPhrase { break }
      }
    }
    return result
  }
}

/// Finds the sentence of a document that shares most with another.
struct SentenceIndex: Sendable {
  private let words: [Set<String>]
  private var holders: [String: Int] = [:]

  init(_ sentences: [String]) {
    words = sentences.map { Set(CheckedWord.words(of: $0).map(\.stem)) }
    for set in words { for word in set { holders[word, default: 0] += 1 } }
  }

  /// - Returns: `nil` where no sentence shares a word that less than half of them have, or any word where there are
  ///   few.
  func nearest(to sentence: String) -> Int? {
    // Sorted, since a set's order, and with it the sum's last bit, changes from run to run.
    let wanted = Set(CheckedWord.words(of: sentence).map(\.stem)).sorted()
    let weights = wanted.map { word in
      holders[word].map { $0 > 3 && 2 * $0 > words.count ? 0 : PassageSelection.weight(words.count, $0) } ?? 0
    }
    var best: (place: Int, score: Double)?
    for (place, set) in words.enumerated() {
      var score = 0.0
      for (word, weight) in zip(wanted, weights) where weight > 0 && set.contains(word) { score += weight }
      // Of two sentences that share as much, the one that says less beside it.
      score -= score * 1e-3 * Double(min(set.count, 500)) / 500
      if score > best?.score ?? 0 { best = (place, score) }
    }
    return best?.place
  }
}
