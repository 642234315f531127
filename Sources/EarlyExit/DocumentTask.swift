/// What is asked about a document.
public enum DocumentTask: Sendable, Equatable {
  case summarize
  case answer(question: String)

  /// The request, as a user would write it.
  ///
  /// The wordings were chosen from four each, on SmolLM2-135M-Instruct. Mean ROUGE-L of 32 summaries of abstracts: 0.203
  /// for this one, in 38 words; 0.204 in 45 words with the request before and after the text; 0.179 in 59 words with the
  /// request before it; 0.169 asked for the main point. Mean token F1 of 32 answers: 0.116 for this one, 0.072 to 0.100
  /// for the others.
  func message(document: String) -> String {
    switch self {
    case .summarize:
      "\(document)\n\nSummarize the text above in one short sentence."
    case .answer(let question):
      "Context: \(document)\n\nQuestion: \(question)\n\n"
        + "Answer with as few words as possible, copied from the context."
    }
  }

  /// The request as T5 was taught it (Raffel et al., 2020, appendix D): a word for the task, then the text.
  ///
  /// - Parameter prefix: What stands before a text that is to be summarised.
  func source(document: String, prefix: String) -> String {
    switch self {
    case .summarize: prefix + document
    case .answer(let question): "question: \(question) context: \(document)"
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
