/// Questions about passages, with their answers, that a model goes on from: what small models that follow no
/// instructions need to answer in few words.
///
/// It is a text without turns. A passage stands on one line, so that a document cannot begin a line of its own, such as
/// another question.
enum ExamplePrompt {
  private struct Example {
    var passage: String
    var question: String
    var answer: String
  }

  /// Invented: no model can know the answers from elsewhere.
  private static let examples = [
    Example(
      passage:
        "The lighthouse at Halden Point was designed by the engineer Marta Voss and finished in 1874. Its lamp "
        + "could be seen from thirty miles away.",
      question: "Who designed the lighthouse at Halden Point?", answer: "Marta Voss"),
    Example(
      passage:
        "Herons nest in tall trees near the water of Lake Orsa. A pair raises three to five chicks each spring, "
        + "which fly after seven weeks.",
      question: "How many chicks does a pair raise?", answer: "three to five"),
    Example(
      passage:
        "The fishing boats of Kelby are painted blue because blue paint was all that was left when the harbour "
        + "bridge was done.",
      question: "What are the fishing boats of Kelby painted with?", answer: "blue paint"),
  ]

  /// Sentences of the document that are read, the nearest to the question.
  static let sentenceCount = 2

  static func text(document: String, question: String) -> String {
    let passage = PassageSelection.sentences(of: document, nearestTo: question, count: sentenceCount)
    let all = examples + [Example(passage: passage, question: question, answer: "")]
    return all.map { example in
      "Passage: \(onOneLine(example.passage))\nQuestion: \(onOneLine(example.question))\nAnswer: \(example.answer)"
    }.joined(separator: "\n\n").trimmingWhitespace()
  }

  private static func onOneLine(_ text: String) -> String {
    text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
  }
}
