import ArgumentParser
import Generation

/// What a summary is to be like.
struct SummaryOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "End the summary after so many sentences, 1 to 100. (default: by the kind of text, for models "
        + "trained to lengths and for those without a chat template)",
      valueName: "n"))
  var sentences: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "End the summary at about so many words, 1 to 5000, and at the end of a sentence.", valueName: "n"))
  var words: Int?

  @Option(
    help: ArgumentHelp(
      "What the summary is to be about: a question or a topic. With --input, for documents without a query "
        + "of their own.",
      valueName: "text"))
  var focus: String?

  func validate() throws {
    if sentences != nil, words != nil {
      throw ValidationError("Give either --sentences or --words, not both.")
    }
    if let sentences, !SummaryLength.sentenceCounts.contains(sentences) {
      throw ValidationError("--sentences must be in \(SummaryLength.sentenceCounts), but is \(sentences).")
    }
    if let words, !SummaryLength.wordCounts.contains(words) {
      throw ValidationError("--words must be in \(SummaryLength.wordCounts), but is \(words).")
    }
    if let focus, focus.allSatisfy(\.isWhitespace) { throw ValidationError("--focus must not be empty.") }
  }

  var request: SummaryRequest {
    SummaryRequest(
      length: sentences.map { .sentences($0) } ?? words.map { .words($0) }, focus: focus?.trimmingWhitespace()
    )
  }
}
