import Transformers

extension LanguageModel {
  /// Begins a task on a document of any length.
  ///
  /// A document that does not fit the context is treated by `rule`, and `observe` is told; the parts of a split one are
  /// decoded before this function returns, several at a time.
  ///
  /// - Parameters:
  ///   - task: What is asked about the document.
  ///   - document: A text that is not empty.
  ///   - options: How the output, and the outputs of parts, are generated.
  ///   - strategy: How the output, and those of parts, come about.
  ///   - rule: What happens to a document that does not fit.
  ///   - raw: Leaves the prompt template out.
  ///   - shouldStop: Asked before each token.
  ///   - observe: Told when the document did not fit.
  /// - Returns: The session of the final text, or `nil` when `shouldStop` said so before it.
  /// - Throws: ``GenerationError``, `DecoderError`, and the tokenizer's errors.
  public func makeSession(
    for task: DocumentTask, document: String, options: GenerationOptions,
    strategy: any DecodingStrategy = FullDepth(), rule: LongDocumentRule = .split,
    raw: Bool = false, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    observe: (LongDocumentNote) -> Void = { _ in }
  ) throws -> (any GenerationSession)? {
    let prompt = try makePrompt(
      for: task, document: document, options: options, strategy: strategy, rule: rule, raw: raw,
      shouldStop: shouldStop, observe: observe)
    let options = try self.options(options, for: task, document: document, raw: raw)
    return try prompt.map {
      try makeSession(prompt: $0, options: options, strategy: strategy, shouldStop: shouldStop)
    }
  }

  /// The prompt of a task on a document of any length, for a session of another kind.
  ///
  /// Parameters and errors are those of ``makeSession(for:document:options:strategy:rule:raw:shouldStop:observe:)``.
  ///
  /// - Returns: `nil` when `shouldStop` said so before it was there.
  public func makePrompt(
    for task: DocumentTask, document: String, options: GenerationOptions,
    strategy: any DecodingStrategy = FullDepth(), rule: LongDocumentRule = .split,
    raw: Bool = false, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    observe: (LongDocumentNote) -> Void = { _ in }
  ) throws -> [TokenID]? {
    // An answer's own are not needed for its prompt, and its spans are not made twice.
    var options = options
    if case .summary = task { options = try self.options(options, for: task, document: document, raw: raw) }
    // By the whole document: its parts are of another length, and the text of their summaries of another kind.
    let task = completed(task, document: document)
    var document = document
    var round = 0
    while true {
      switch try plan(task, document: document, options: options, rule: roundRule(rule, round), raw: raw) {
      case .whole(let prompt, let note):
        if let note { observe(note) }
        return prompt
      case .parts(let parts, let note):
        observe(note)
        let batch = BatchDecoder(model: self, shouldStop: shouldStop)
        guard let outputs = try batch.run(parts, strategy: strategy) else {
          return nil
        }
        document = Self.join(outputs)
        round += 1
      }
    }
  }

  /// Summarises a document, token by token. One that is longer than the context is summarised in parts first.
  public func summarize(
    _ document: String, options: GenerationOptions = GenerationOptions(maxTokens: 160),
    strategy: any DecodingStrategy = FullDepth()
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    stream(for: .summarize, document: document, options: options, strategy: strategy)
  }

  /// Answers a question on a document, token by token. Of a document that is longer than the context, the passages
  /// nearest to the question are read.
  public func answer(
    _ question: String, document: String, options: GenerationOptions = GenerationOptions(maxTokens: 48),
    strategy: any DecodingStrategy = FullDepth()
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    stream(for: .answer(question: question), document: document, options: options, strategy: strategy)
  }

  private func stream(
    for task: DocumentTask, document: String, options: GenerationOptions, strategy: any DecodingStrategy
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    stream {
      guard let session = try makeSession(for: task, document: document, options: options, strategy: strategy)
      else {
        throw CancellationError()
      }
      return session
    }
  }

  /// Summaries of parts nearly always halve a text. Where they do not, splitting would go on for ever, so from the
  /// fourth round on the text is cut.
  package func roundRule(_ rule: LongDocumentRule, _ round: Int) -> LongDocumentRule {
    round < 4 ? rule : .truncate
  }

  package static func join(_ outputs: [Generation]) -> String {
    outputs.map { $0.text.trimmingWhitespace() }.joined(separator: "\n")
  }
}

extension String {
  /// The text without white space at its ends.
  package func trimmingWhitespace() -> String {
    guard let first = firstIndex(where: { !$0.isWhitespace }),
      let last = lastIndex(where: { !$0.isWhitespace })
    else { return "" }
    return String(self[first...last])
  }
}
