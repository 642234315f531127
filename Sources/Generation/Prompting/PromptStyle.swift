/// How a model wants to be asked about a document. A checkpoint names it under the metadata key `egress.prompts`; one
/// that names none is asked as chat models are, or in ``completion`` where it has no chat template either.
public enum PromptStyle: String, Sendable, CaseIterable, Codable {
  /// Whole sentences, as a user would write them.
  ///
  /// The wordings were chosen from four each, on SmolLM2-135M-Instruct. Mean ROUGE-L of 32 summaries of abstracts:
  /// 0.203 for this one, in 38 words; 0.204 in 45 words with the request before and after the text; 0.179 in 59 words
  /// with the request before it; 0.169 asked for the main point. Mean token F1 of 32 answers: 0.116 for this one, 0.072
  /// to 0.100 for the others.
  case chat
  /// For questions, invented examples that the model goes on from, without turns, and of the document the sentences
  /// nearest to the question; summaries as for chat models.
  case examples
  /// A text that the model goes on from, without turns, for models that were not trained on conversations: questions as
  /// in ``examples``, and for summaries the document and `In summary,`. An output ends with its line, and a summary at
  /// the length that is usual for such a text, which such a model would go beyond.
  ///
  /// Mean ROUGE-L of 24 summaries of abstracts by Gemma 3 270M, of at most 60 tokens: 0.241 for this wording, 0.200 for
  /// `TL;DR:`, 0.200 for two invented examples before the document.
  case completion
  /// The short requests that a model was trained on. The document stands first, so that all requests about it have its
  /// tokens as their common beginning; there is no system turn; and a summary is always told a length. To a question
  /// whose words tell where its answer stands, only the nearest sentences are read; of a long article's sentences, only
  /// those that hold most of it.
  case reader

  /// Where a checkpoint names its style.
  static let metadataKey = "egress.prompts"

  /// What a reader model says, and any model's answer is compared with, where a document does not answer a question.
  public static let refusal = "The text does not say."

  /// What a certificate knows the prompts by: it holds for prompts that are made in the same way.
  package var fingerprint: String { self == .reader ? "\(rawValue) 4" : rawValue }

  /// Whether the request is a text to go on from: it stands without turns, and its output ends with its line.
  func isContinued(_ task: DocumentTask) -> Bool {
    switch (self, task) {
    case (.completion, _), (.examples, .answer): true
    case (.examples, .summary), (.chat, _), (.reader, _): false
    }
  }

  /// Whether answers are spans of their document unless something else is asked for. A model that was trained on such
  /// answers is more often right with it, and spells as the document does.
  public var isExtractive: Bool { self == .reader }

  /// Whether a summary has a length even where the request has none.
  var hasUsualLength: Bool { self == .reader || self == .completion }

  /// The request about a document, as the user's turn says it.
  package func message(_ task: DocumentTask, document: String) -> String {
    switch (self, task) {
    case (.examples, .answer(let question)), (.completion, .answer(let question)):
      ExamplePrompt.text(document: document, question: question)
    case (.chat, .answer(let question)):
      "Context: \(document)\n\nQuestion: \(question)\n\n"
        + "Answer with as few words as possible, copied from the context."
    case (.chat, .summary(let request)), (.examples, .summary(let request)):
      "\(document)\n\nSummarize the text above in \(Self.chatLength(request.length))"
        + (request.focus.map { ", about this: \($0)" } ?? ".")
    case (.completion, .summary(let request)):
      // A length is kept by counting alone: a request for one is nothing to go on from.
      "\(document)\n\nIn summary,\(request.focus.map { " as to \($0)," } ?? "")"
    case (.reader, .answer(let question)):
      "\(PassageSelection.evidence(in: document, for: question))\n\nQuestion: \(question)"
    case (.reader, .summary(let request)):
      "\(PassageSelection.gist(of: document, for: request))\n\nSummarize"
        + (request.length.map(Self.readerLength) ?? "")
        + (request.focus.map { ": \($0)" } ?? ".")
    }
  }

  private static func chatLength(_ length: SummaryLength?) -> String {
    switch length {
    case nil: "one short sentence"
    case .sentences(1): "one sentence"
    case .sentences(let count): "\(count) sentences"
    case .words(let count): "about \(count) words"
    }
  }

  /// What a reader's summary of a document begins with, whatever the model would rather begin with; `nil` for nothing.
  ///
  /// Of conversations the model has learned little; left to itself it says a line of one again, as if it were the one who
  /// speaks. Begun like this, it tells of it. Mean ROUGE-L of 60 dialogues and 26 meetings, in two sentences, from
  /// prompts that were put together by hand:
  ///
  /// | begins with | dialogues | meetings |
  /// |---|---|---|
  /// | what the model likes, one sentence | 0.206 | 0.155 |
  /// | Ann and Bo talk about | 0.278 | 0.209 |
  /// | Ann and Bo discuss | 0.271 | 0.193 |
  /// | Ann and Bo talk about how | 0.280 | |
  static func opening(of document: String) -> String? {
    guard TextKind(of: document) == .dialogue else { return nil }
    let names = Speaker.first(3, in: document)
    return switch names.count {
    case 0: nil
    case 1: "\(names[0]) talks about"
    case 2: "\(names[0]) and \(names[1]) talk about"
    default: "\(names[0]), \(names[1]) and others talk about"
    }
  }

  /// Readers know word counts in fives.
  private static func readerLength(_ length: SummaryLength) -> String {
    switch length {
    case .sentences(1): " in 1 sentence"
    case .sentences(let count): " in \(count) sentences"
    case .words(let count): " in \(max(5, (count + 2) / 5 * 5)) words"
    }
  }
}
