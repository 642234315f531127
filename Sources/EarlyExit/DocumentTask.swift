/// What is asked about a document.
public enum DocumentTask: Sendable, Equatable {
  case summarize
  case answer(question: String)

  /// The request, as a user would write it.
  func message(document: String) -> String {
    switch self {
    case .summarize:
      "Summarize the following text in one sentence.\n\n\(document)"
    case .answer(let question):
      "Read the passage and answer the question with a short phrase copied from the passage.\n\n"
        + "Passage: \(document)\n\nQuestion: \(question)"
    }
  }

  /// Output tokens that are plenty for the task.
  public var usualMaxTokens: Int {
    switch self {
    case .summarize: 160
    case .answer: 48
    }
  }
}

/// What happens to a document that does not fit the context.
public enum LongDocumentRule: String, Sendable, CaseIterable {
  /// A summary is made of the summaries of parts; an answer is looked for in the passages nearest to the question.
  case split
  /// The end is left out.
  case truncate
}

/// What had to be done to a document to make it fit.
public enum LongDocumentNote: Sendable, Equatable {
  /// It was summarised in that many parts.
  case split(tokens: Int, parts: Int)
  /// Only the passages nearest to the question were read.
  case selected(tokens: Int, passages: Int, of: Int)
  /// Only so many tokens of its beginning were read.
  case truncated(tokens: Int, kept: Int)
}
