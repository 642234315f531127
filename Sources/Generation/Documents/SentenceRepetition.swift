/// Tells whether a sentence says again, word for word, what earlier ones said.
struct SentenceRepetition {
  private static let run = 3
  private static let loop = 6
  private var sentences: Set<[String]> = []
  private var runs: Set<[String]> = []

  mutating func note(_ sentence: Substring) {
    let words = Self.words(sentence)
    sentences.insert(words)
    runs.formUnion(Self.runs(words))
  }

  /// Whether the sentence is one of the earlier ones, or half of its runs of three words stand in them.
  ///
  /// - Complexity: O(n)
  func isRepeated(_ sentence: Substring) -> Bool {
    let words = Self.words(sentence)
    guard !words.isEmpty else { return false }
    if sentences.contains(words) { return true }
    let own = Self.runs(words)
    return !own.isEmpty && 2 * own.count(where: runs.contains) >= own.count
  }

  /// Whether a sentence, as far as it is there, has begun to say itself again: its last six words stand in it before.
  ///
  /// - Complexity: O(n)
  static func isLoop(_ sentence: Substring) -> Bool {
    // The last word may not be whole yet.
    guard let end = sentence.lastIndex(where: { !($0.isLetter || $0.isNumber) }) else { return false }
    let words = words(sentence[..<end])
    guard words.count >= 2 * loop else { return false }
    let tail = words.suffix(loop)
    return (0...words.count - 2 * loop).contains { words[$0..<$0 + loop] == tail }
  }

  private static func words(_ text: Substring) -> [String] {
    text.split { !($0.isLetter || $0.isNumber) }.map { $0.lowercased() }
  }

  private static func runs(_ words: [String]) -> [[String]] {
    words.count < run ? [] : (0...words.count - run).map { Array(words[$0..<$0 + run]) }
  }
}
