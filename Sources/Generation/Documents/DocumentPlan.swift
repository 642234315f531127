import Transformers

/// What to decode next for a document: the task itself, or parts whose outputs become the document.
package enum DocumentPlan {
  case whole([TokenID], LongDocumentNote?)
  case parts([DocumentPart], LongDocumentNote)

  /// What had to be done to make the document fit, or `nil`.
  package var note: LongDocumentNote? {
    switch self {
    case .whole(_, let note): note
    case .parts(_, let note): note
    }
  }
}

/// A part of a document that does not fit, as it is summarised on its own.
package struct DocumentPart: Sendable {
  package let prompt: [TokenID]
  /// Those of the document, but that a part's summary begins with who speaks in it.
  package let options: GenerationOptions
}

extension LanguageModel {
  /// The prompt of a task on a document.
  ///
  /// - Parameters:
  ///   - task: What is asked about the document.
  ///   - document: The text, whatever its length.
  ///   - raw: Leaves the prompt template out: the request stands alone.
  public func prompt(for task: DocumentTask, document: String, raw: Bool = false) throws -> [TokenID] {
    if hasEncoder {
      return try prompt(raw: task.source(document: document, prefix: raw ? "" : summaryPrefix))
    }
    let message = promptStyle.message(completed(task, document: document), document: document)
    if raw || promptStyle.isContinued(task) { return try prompt(raw: message) }
    return try prompt(
      messages: [ChatMessage(role: "user", content: message)],
      template: promptStyle == .reader ? promptTemplate?.withoutSystem : promptTemplate)
  }

  /// The task as the model is asked it: a summary that always has a length gets that which is usual for such a text.
  ///
  /// - Complexity: O(n)
  public func completed(_ task: DocumentTask, document: String) -> DocumentTask {
    guard promptStyle.hasUsualLength, case .summary(var request) = task, request.length == nil else {
      return task
    }
    request.length = TextKind(of: document).usualLength
    return .summary(request)
  }

  /// Options with what the task says about the output: a summary ends at the length asked for, that of a conversation
  /// begins with who speaks, an extractive answer is a span of the document, and a model that can tell whether a
  /// document answers a question is asked.
  ///
  /// - Parameters:
  ///   - options: What was asked for beside the task.
  ///   - task: What is asked about the document.
  ///   - document: The text, whatever its length.
  ///   - raw: Whether the request stands alone, without the prompt template.
  /// - Throws: ``GenerationError/option(field:expected:found:)`` for an extractive summary and for a classifier
  ///   of another model, and the tokenizer's errors.
  public func options(
    _ options: GenerationOptions, for task: DocumentTask, document: String, raw: Bool = false
  ) throws -> GenerationOptions {
    var options = options
    options.endsWithLine = promptStyle.isContinued(task)
    switch completed(task, document: document) {
    case .summary(let request):
      guard options.isExtractive != true else {
        throw GenerationError.option(field: "extractive", expected: "used for answers", found: "a summary")
      }
      options.length = request.length ?? options.length
      // A reader has learned to say that a text does not tell. Of a summary that is never true.
      if promptStyle == .reader {
        options.opening = try opening(of: document)
        options.forbiddenOpening = Array(
          try tokenizer.encode(PromptStyle.refusal, special: .asText).prefix(2))
        options.leastLength = try floor(of: options.length, document: document)
      }
    case .answer:
      if options.isExtractive ?? (promptStyle.isExtractive && options.grammar == nil) {
        options.spans = try spans(of: document)
      }
      // The classifier has learned from prompts that end with the template.
      if promptStyle == .reader, !raw, options.grammar == nil, let answerability {
        try answerability.check(decoder.configuration)
        options.answerability = AnswerabilityRule(
          classifier: answerability,
          refusal: try tokenizer.encode(PromptStyle.refusal, special: .asText) + endTokens.sorted().prefix(1))
      }
    }
    return options
  }

  /// What a summary has to begin with.
  private func opening(of document: String) throws -> [TokenID] {
    try PromptStyle.opening(of: document).map { try tokenizer.encode($0, special: .asText) } ?? []
  }

  /// As many sentences as were asked for, or as the document has where these are fewer; four fifths of the words, and
  /// no more than half of the document's.
  private func floor(of length: SummaryLength?, document: String) throws -> SentenceFloor? {
    let least: SummaryLength
    switch length {
    case nil: return nil
    case .sentences(let count)?:
      least = .sentences(min(count, SentenceBoundary.ranges(in: document[...]).count))
    case .words(let count)?:
      let share = Int((1 - SentenceLimiter.tolerance) * Double(count))
      least = .words(min(share, document.split(whereSeparator: \.isWhitespace).count / 2))
    }
    return SentenceFloor(
      length: least, table: try tokenTable.table(tokenizer),
      forbiddenOpening: Array(try tokenizer.encode(" " + PromptStyle.refusal, special: .asText).prefix(2)))
  }

  /// Makes a document fit the context, by the rule given.
  ///
  /// - Throws: ``GenerationError/emptyText(field:)`` for a document of white space only,
  ///   ``GenerationError/promptTooLong(tokens:context:)`` when not even a few words of it would fit.
  package func plan(
    _ task: DocumentTask, document: String, options: GenerationOptions, rule: LongDocumentRule, raw: Bool
  ) throws -> DocumentPlan {
    guard document.contains(where: { !$0.isWhitespace }) else {
      throw GenerationError.emptyText(field: "document")
    }
    if case .answer(let question) = task {
      guard question.contains(where: { !$0.isWhitespace }) else {
        throw GenerationError.emptyText(field: "question")
      }
      guard question.unicodeScalars.contains(where: \.isPartOfWord) else {
        throw GenerationError.option(field: "question", expected: "a text with words", found: "marks alone")
      }
    }
    let context = try options.validatedContext(contextLength: contextLength)
    let prompt = try prompt(for: task, document: document, raw: raw)
    // Room for the output is kept free: a prompt that fills the context would get an answer of one token.
    // An encoder's text has the context for itself.
    let output = hasEncoder ? 0 : min(options.maxTokens, context / 2)
    if prompt.count + output <= context { return .whole(prompt, nil) }

    let splitter = DocumentSplitter(tokenizer: tokenizer)
    let tokens = try splitter.tokenCount(document)
    let frame = try self.prompt(for: task, document: "", raw: raw).count
    // A few tokens to spare: text encoded in place may differ by some from text encoded alone.
    let budget = context - output - frame - 8
    guard budget >= 16 else { throw GenerationError.promptTooLong(tokens: prompt.count, context: context) }

    switch (rule, task) {
    case (.truncate, _):
      let kept = try splitter.beginning(of: document, budget: budget)
      return .whole(
        try self.prompt(for: task, document: kept, raw: raw),
        .truncated(tokens: tokens, kept: try splitter.tokenCount(kept)))
    case (.split, .summary):
      // A summary as long as its part would never end.
      let parts = try splitter.parts(of: document, budget: max(budget, 1))
      let prompts = try parts.map { part in
        var own = options
        if !own.opening.isEmpty { own.opening = try opening(of: part) }
        return DocumentPart(prompt: try self.prompt(for: task, document: part, raw: raw), options: own)
      }
      return .parts(prompts, .split(tokens: tokens, parts: parts.count))
    case (.split, .answer(let question)):
      return try selectPassages(
        task, question: question, document: document, tokens: tokens, budget: budget, raw: raw)
    }
  }

  private func selectPassages(
    _ task: DocumentTask, question: String, document: String, tokens: Int, budget: Int, raw: Bool
  ) throws -> DocumentPlan {
    let splitter = DocumentSplitter(tokenizer: tokenizer)
    // Small passages pick out what matters; too small ones lose what a sentence refers to.
    let passages = try splitter.parts(of: document, budget: min(budget, 256), balanced: false)
    var chosen: Set<Int> = []
    var room = budget
    for index in PassageSelection.ranking(of: passages, question: question) {
      let size = try splitter.tokenCount(passages[index])
      if size > room { break }
      chosen.insert(index)
      room -= size
    }
    let text = chosen.sorted().map { passages[$0] }.joined()
    return .whole(
      try prompt(for: task, document: text, raw: raw),
      .selected(tokens: tokens, passages: chosen.count, of: passages.count))
  }
}
