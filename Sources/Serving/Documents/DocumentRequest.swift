import Certification
import Generation
import RiskControl

/// The body of `POST /v1/egress/summarize` and of `POST /v1/egress/answer`.
struct DocumentRequest: Sendable {
  enum Kind: Sendable {
    case summary
    case answer
  }

  var task: DocumentTask
  /// As it was sent: places are counted in it.
  var text: String
  /// What is read of it.
  var document: String
  /// How the output comes about, but for what the task and a certificate say.
  var options: GenerationOptions
  var regime: DecodingRegime
  var rule: LongDocumentRule
  var model: String?
  var streams: Bool
  var seed: UInt64?

  /// - Throws: ``APIError`` for what is missing, wrong or not offered.
  init(_ fields: inout RequestFields, kind: Kind, context: Int?, style: PromptStyle) throws {
    text = try Self.document(&fields)
    document = text.trimmingWhitespace()
    switch kind {
    case .summary: task = .summary(try Self.summary(&fields))
    case .answer:
      guard let question = try fields.text("question")?.trimmingWhitespace(), !question.isEmpty else {
        throw fields.fault("question", expected: "a text", found: "none")
      }
      task = .answer(question: question)
    }
    let settings = try OutputSettings(&fields)
    guard settings.count == 1 else { throw fields.fault("n", expected: "1", found: "\(settings.count)") }
    guard !settings.includesUsage else {
      throw fields.fault("stream_options", expected: "none: the last event always says it", found: "one")
    }
    (model, streams, seed) = (settings.model, settings.streams, settings.seed)
    options = settings.options(0, usual: task.usualMaxTokens, context: context)
    options.noRepeatNgram = try fields.integer("no_repeat_ngram", in: GenerationOptions.ngramLengths)
    if kind == .answer {
      options.recordsProbabilities = true
      let isExtractive = try fields.boolean("extractive")
      options.isExtractive = isExtractive == style.isExtractive ? nil : isExtractive
    }
    let rule = try fields.text("long") ?? LongDocumentRule.split.rawValue
    guard let found = LongDocumentRule(rawValue: rule) else {
      throw fields.fault("long", expected: "split or truncate", found: "another")
    }
    self.rule = found
    try fields.refuseOthers()
    regime = DecodingRegime(tasks: [task], options: options, maxTokens: settings.maxTokens)
  }

  private static func document(_ fields: inout RequestFields) throws -> String {
    guard var text = try fields.text("document") else {
      throw fields.fault("document", expected: "a text", found: "none")
    }
    // As of a file.
    if text.unicodeScalars.first == "\u{FEFF}" { text.unicodeScalars.removeFirst() }
    guard !text.utf8.contains(0) else {
      throw fields.fault("document", expected: "a text", found: "binary data")
    }
    guard text.contains(where: { !$0.isWhitespace }) else {
      throw fields.fault("document", expected: "a text", found: "an empty one")
    }
    return text
  }

  private static func summary(_ fields: inout RequestFields) throws -> SummaryRequest {
    let sentences = try fields.integer("sentences", in: SummaryLength.sentenceCounts)
    let words = try fields.integer("words", in: SummaryLength.wordCounts)
    guard sentences == nil || words == nil else {
      throw fields.fault("words", expected: "either sentences or words", found: "both")
    }
    let focus = try fields.text("focus")?.trimmingWhitespace()
    guard focus?.isEmpty != true else {
      throw fields.fault("focus", expected: "a text", found: "an empty one")
    }
    return SummaryRequest(length: sentences.map { .sentences($0) } ?? words.map { .words($0) }, focus: focus)
  }
}
