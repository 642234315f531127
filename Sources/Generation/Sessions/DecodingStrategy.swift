import Transformers

/// How an output comes about: at full depth, with early exits, with drafts, or by following several beams.
///
/// A strategy is immutable and may be used for any number of prompts at a time; what changes lives in its sessions.
public protocol DecodingStrategy: Sendable {
  /// Begins to decode after a prompt.
  ///
  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - prompt: Tokens, at least one.
  ///   - options: How the output is generated.
  ///   - shouldStop: Asked before each token, and before each part of a long prompt.
  /// - Throws: ``GenerationError`` for options out of range or a prompt that does not fit, and the strategy's own
  ///   errors.
  func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession
}

/// One output while it is decoded, whatever the strategy.
///
/// A session has one owner: it is not to be shared between tasks.
public protocol GenerationSession: AnyObject {
  /// The output so far.
  var generation: Generation { get }
  /// Why the output ended, or `nil` while it has not.
  var stopReason: StopReason? { get }
  /// Text that no step has shown, because decoding was cancelled while it could still become a stop string or was an
  /// incomplete character. Empty for any other end.
  var cancelledText: String { get }
  /// Seconds spent so far.
  var timings: SessionTimings { get }
  /// Decodes until the next token is certain.
  ///
  /// - Returns: `nil` after the last token, and when the session was told to stop.
  func next() throws -> TokenStep?
}

/// A session whose prompt may be read a part at a time, so that others get their turns between.
package protocol PartwiseReading: GenerationSession {
  /// Whether parts of the prompt have not passed the layers.
  var hasUnreadParts: Bool { get }
  /// Runs the next part of the prompt; the last one gives the first token. ``GenerationSession/next()`` reads what is
  /// left.
  func readPart() throws
}

/// A session whose passes over the model may be shared with those of other sequences.
///
/// ``GenerationSession/next()`` runs them one by one; ``BatchDecoder`` begins those of all sessions under way, runs
/// them together, and takes the steps that came of them.
package protocol PassSharing: PartwiseReading {
  /// What the next pass needs of the model, once the prompt is read; `nil` where the output has ended.
  ///
  /// - Parameter others: How many other sequences share the pass.
  func beginPass(beside others: Int) throws -> PassWork?
  /// Settles a pass that is through.
  ///
  /// - Parameter seconds: What of the model's time it is to count.
  func endPass(seconds: Double) throws
  /// The next step that is certain already; `nil` where that takes a pass, or the output has ended.
  func takeStep() -> TokenStep?
  /// Ends the output from outside.
  func cancel()
}

extension PassSharing {
  /// Runs parts of the prompt and passes by themselves until the next step is certain.
  package func nextAlone(_ runner: PassRunner, shouldStop: () -> Bool) throws -> TokenStep? {
    while true {
      if let step = takeStep() { return step }
      guard stopReason == nil else { return nil }
      if shouldStop() {
        cancel()
        continue
      }
      guard hasUnreadParts else {
        try endPass(seconds: runner.run(beginPass(beside: 0)))
        continue
      }
      while hasUnreadParts {
        if shouldStop() { cancel() } else { try readPart() }
      }
    }
  }
}

/// Seconds that a session has spent, by phase.
public struct SessionTimings: Sendable, Equatable {
  /// From the first token of the prompt to the first token of the output.
  public var prefill: Double = 0
  /// From the first token of the output to the last.
  public var decode: Double = 0

  /// No time at all.
  public init() {}

  /// Adds seconds of reading: a prompt's, or, where an output is brought back, those of prompt and output again.
  package mutating func add(_ seconds: Double, isDecoding: Bool) {
    if isDecoding { decode += seconds } else { prefill += seconds }
  }
}

/// A strategy whose sessions read every token of the prompt to full depth, so that they may go on from what another
/// sequence has read.
package protocol BeginningSharing: DecodingStrategy {
  /// Begins to decode after a prompt.
  ///
  /// - Parameter beginning: What a sequence has read that began with the same tokens, and how many.
  func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws -> any BeginningSession
  /// Of some tokens that a prompt shares with a beginning those that need not be read again.
  func reusable(_ beginning: Beginning, count: Int) -> Int
}

extension BeginningSharing {
  /// All of them: nothing looks at the states of the prompt.
  package func reusable(_ beginning: Beginning, count: Int) -> Int { count }
}

/// Every token passes every layer.
public struct FullDepth: DecodingStrategy, BeginningSharing {
  /// The only one there is.
  public init() {}

  /// Begins an output at full depth.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    try DecodingSession(model: model, prompt: prompt, options: options, shouldStop: shouldStop)
  }

  package func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws -> any BeginningSession {
    try DecodingSession(
      model: model, prompt: prompt, options: options, beginning: beginning, shouldStop: shouldStop)
  }
}

/// Chooses the next token of a sequence in another way than by a pass through all layers.
package protocol TokenStepper: AnyObject {
  /// A pass of the last token; `take` is given the token that comes next. `nil` where the sequence has ended.
  func pass(
    _ sequence: SequenceDecoding, _ take: @escaping (TokenStep) throws -> Void
  ) throws -> PassWork?
  /// Runs what tokens so far have left out, so that the cache is that of a full-depth run.
  func complete(_ sequence: SequenceDecoding) throws
}
