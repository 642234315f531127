/// What is asked about a document.
public enum DocumentTask: Sendable, Equatable {
  /// A summary of the length, and about the topic, that is asked for.
  case summary(SummaryRequest)
  /// An answer to a question from the document.
  case answer(question: String)

  /// A summary of the whole document, of a length that the model chooses.
  public static let summarize = DocumentTask.summary(SummaryRequest())

  /// The request as T5 was taught it (Raffel et al., 2020, appendix D): a word for the task, then the text.
  ///
  /// - Parameter prefix: What stands before a text that is to be summarised.
  /// - Throws: ``GenerationError/option(field:expected:found:)`` for a focus, which such a request has no place for.
  func source(document: String, prefix: String) throws(GenerationError) -> String {
    switch self {
    case .summary(let request):
      guard request.focus == nil else {
        throw .option(field: "focus", expected: "absent with an encoder-decoder", found: "one")
      }
      return prefix + document
    case .answer(let question):
      return "question: \(question) context: \(document)"
    }
  }

  /// Output tokens that are plenty for the task.
  public var usualMaxTokens: Int {
    switch self {
    // A length is kept by counting sentences and words: the tokens only have to be enough for it.
    case .summary(let request):
      switch request.length {
      case nil: 160
      case .sentences(let count): max(160, 50 * count)
      case .words(let count): max(160, 2 * count)
      }
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
