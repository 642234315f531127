/// Picks the passages of a document that a question is about.
enum PassageSelection {
  /// The places of the passages, best first, by the words they share with the question.
  ///
  /// A shared word counts for more the fewer passages have it: about log2(1 + n / n_word), once a passage (inverse
  /// document frequency; Spärck Jones, 1972). Equal passages keep the document's order.
  static func ranking(of passages: [String], question: String) -> [Int] {
    let wanted = words(question)
    let found = passages.map { words($0).intersection(wanted) }
    var holders: [String: Int] = [:]
    for words in found { for word in words { holders[word, default: 0] += 1 } }
    let scores = found.map { words in
      // Sorted, since a set's order, and with it the sum's last bit, changes from run to run.
      words.sorted().reduce(0.0) { $0 + weight(passages.count, holders[$1] ?? 1) }
    }
    return passages.indices.sorted { (scores[$1], $0) < (scores[$0], $1) }
  }

  /// The sentences that share most with a question, in the document's order, on one line.
  static func sentences(of document: String, nearestTo question: String, count: Int) -> String {
    let sentences = SentenceBoundary.ranges(in: document[...]).map { String(document[$0]) }
    let chosen = ranking(of: sentences, question: question).prefix(count).sorted()
    return chosen.map { sentences[$0] }.joined(separator: " ")
  }

  static func weight(_ passages: Int, _ holders: Int) -> Double {
    // Counted doublings, linear in between: near enough to a logarithm, and the same on every platform.
    var ratio = 1 + Double(passages) / Double(holders)
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
