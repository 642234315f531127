import Transformers

/// Decodes one prompt, a token each time ``next()`` is called.
///
/// A session has one owner: it is not to be shared between tasks.
public final class DecodingSession: GenerationSession, PassSharing, BeginningSession, PromptHolding {
  /// Seconds spent so far, by phase.
  public private(set) var timings = SessionTimings()
  private var sequence: SequenceDecoding
  private let model: LanguageModel
  private let options: GenerationOptions
  /// What is held back, where a tripwire may take it back.
  private var watched: WatchedOutput?
  private var buffers: DecodingBuffers
  private var stepper: (any TokenStepper)?
  /// Steps that were chosen and not handed out, the next one first.
  private var ready: [TokenStep] = []
  private let runner = PassRunner()
  private let shouldStop: () -> Bool
  private let clock = ContinuousClock()

  /// - Parameters:
  ///   - beginning: What a sequence has read that began with the same tokens, and how many: they are not read again.
  ///   - stepper: Chooses every token after the first; `nil` for a pass through all layers.
  ///   - shouldStop: Asked before each token, and before each part of a long prompt.
  /// - Throws: ``GenerationError`` for options out of range or a prompt that does not fit.
  package init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions,
    beginning: (read: Beginning, count: Int)? = nil, stepper: (any TokenStepper)? = nil,
    shouldStop: @escaping () -> Bool
  ) throws {
    sequence = try SequenceDecoding(model: model, prompt: prompt, options: options, beginning: beginning)
    buffers = DecodingBuffers(decoder: model.decoder)
    self.stepper = stepper
    watched = stepper == nil && options.promptDepth == nil ? nil : options.tripwire.map(WatchedOutput.init)
    self.model = model
    self.options = options
    self.shouldStop = shouldStop
  }

  /// The output so far, what ``next()`` holds back included.
  ///
  /// After a cancellation, its text ends with what ``next()`` had held back: see ``cancelledText``.
  public var generation: Generation { sequence.makeGeneration() }
  /// Why the output ended, or `nil` while it has not.
  public var stopReason: StopReason? {
    ready.isEmpty && watched?.isEmpty ?? true ? sequence.stopReason : nil
  }
  /// Text that no step has shown, because decoding was cancelled while it could still become a stop string or was an
  /// incomplete character. Empty for any other end.
  public private(set) var cancelledText = ""

  /// Decodes one token.
  ///
  /// - Returns: `nil` after the last token, and when `shouldStop` says so.
  /// - Throws: `DecoderError` and the tokenizer's errors.
  public func next() throws -> TokenStep? { try nextAlone(runner, shouldStop: shouldStop) }

  package func takeStep() -> TokenStep? {
    guard watched != nil else { return ready.isEmpty ? nil : ready.removeFirst() }
    return watched?.next(isOver: sequence.stopReason != nil)
  }

  private func append(_ step: TokenStep) throws {
    guard watched != nil else { return ready.append(step) }
    guard let kept = watched?.append(step) else { return }
    // What is read again needs nothing of the cache so far.
    if sequence.stoppedAfter == nil { try stepper?.complete(sequence) }
    sequence = try sequence.cut(to: kept, model: model, options: options)
    stepper = nil
  }

  package func beginPass(beside others: Int) throws -> PassWork? {
    let start = clock.now
    defer { timings.decode += (clock.now - start).seconds }
    if let stepper { return try stepper.pass(sequence) { try self.append($0) } }
    return try sequence.fullDepthPass(of: model.decoder) { try self.append($0) }
  }

  package func endPass(seconds: Double) { timings.decode += seconds }

  /// The prompt and the output, as the decoder reads them.
  var tokens: [TokenID] { sequence.prompt + sequence.generated }
  package var beginning: Beginning { sequence.beginning }
  /// Tokens of the prompt that another sequence had read already.
  package var reusedTokens: Int { sequence.reusedCount }

  package var readSequence: SequenceDecoding? { sequence.generated.isEmpty ? nil : sequence }

  package var hasUnreadParts: Bool { sequence.hasUnreadParts }

  package func readPart() throws {
    let start = clock.now
    let isAgain = !sequence.generated.isEmpty
    defer { timings.add((clock.now - start).seconds, isDecoding: isAgain) }
    try buffers.readPart(of: sequence)
    guard !isAgain, !sequence.hasUnreadParts, let step = try buffers.finishPrompt(of: sequence) else {
      return
    }
    if !sequence.isCovered { stepper = nil }
    // Full depth of prompt and output is what others would be brought back to.
    if stepper == nil, sequence.stoppedAfter == nil { watched = nil }
    try append(step)
  }

  /// The keys and values so far: of the prompt and of every token of the output but the last.
  public var cache: KeyValueCache { sequence.cache }

  /// Runs the layers that tokens skipped with deferred completion, so that ``cache`` is that of a full-depth run on
  /// the same tokens. An output that nothing follows does not need it.
  public func completeCache() throws {
    try stepper?.complete(sequence)
  }

  package func cancel() { cancelledText = sequence.cancel() }
}

extension Duration {
  /// The duration in seconds.
  package var seconds: Double {
    Double(components.seconds) + Double(components.attoseconds) * 1e-18
  }
}

extension LanguageModel {
  /// Begins to decode after a prompt given as tokens, at full depth.
  ///
  /// - Parameters:
  ///   - prompt: Tokens, at least one; see ``prompt(raw:special:)`` and ``prompt(user:)``.
  ///   - options: How the output is generated.
  ///   - shouldStop: Asked before each token; by default, whether the current task is cancelled.
  /// - Throws: ``GenerationError`` for options out of range or a prompt that does not fit.
  public func makeSession(
    prompt: [TokenID], options: GenerationOptions = GenerationOptions(),
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> DecodingSession {
    try DecodingSession(model: self, prompt: prompt, options: options, shouldStop: shouldStop)
  }

  /// Begins to decode after a prompt given as tokens, by any strategy.
  ///
  /// Parameters and errors are those of ``makeSession(prompt:options:shouldStop:)``, and the strategy's own.
  public func makeSession(
    prompt: [TokenID], options: GenerationOptions = GenerationOptions(), strategy: any DecodingStrategy,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> any GenerationSession {
    try strategy.makeSession(model: self, prompt: prompt, options: options, shouldStop: shouldStop)
  }

  /// Answers a message, token by token.
  ///
  /// The text goes into the model's prompt template as a user's turn. Ending the loop ends the decoding.
  public func generate(
    _ message: String, options: GenerationOptions = GenerationOptions(),
    strategy: any DecodingStrategy = FullDepth()
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    stream { try makeSession(prompt: prompt(user: message), options: options, strategy: strategy) }
  }

  /// Goes on after a prompt given as tokens, token by token.
  public func generate(
    prompt: [TokenID], options: GenerationOptions = GenerationOptions(),
    strategy: any DecodingStrategy = FullDepth()
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    stream { try makeSession(prompt: prompt, options: options, strategy: strategy) }
  }

  func stream(
    _ makeSession: @escaping @Sendable () throws -> any GenerationSession
  ) -> AsyncThrowingStream<TokenStep, any Error> {
    AsyncThrowingStream { continuation in
      let task = Task {
        do {
          let session = try makeSession()
          while let step = try session.next() { continuation.yield(step) }
          continuation.finish()
        } catch {
          continuation.finish(throwing: error)
        }
      }
      continuation.onTermination = { _ in task.cancel() }
    }
  }
}
