import Tokenization
import Transformers

/// A conversation of several turns with one model. What was read and written stays cached, so that a turn costs its own
/// tokens and not the history's.
///
/// It has one owner: it is not to be shared between tasks.
public final class Conversation {
  /// What answers.
  public let model: LanguageModel
  /// How answers are generated. A seed counts on from turn to turn.
  public let options: GenerationOptions
  /// How answers come about: at full depth, with drafts or with exits.
  public let strategy: any DecodingStrategy
  /// What was said so far, a system turn first where there is one.
  public private(set) var messages: [ChatMessage]
  /// Tokens of the last turn's prompt that did not have to be read again.
  public private(set) var reusedTokens = 0
  private let opening: [ChatMessage]
  /// What the turn before has read.
  private var previous: Beginning?
  private var turns: UInt64 = 0

  /// - Parameters:
  ///   - model: What answers.
  ///   - options: How answers are generated.
  ///   - strategy: How they come about. Where it is not full depth, a turn reads the answer before it, too.
  ///   - messages: What was said before; ``reset()`` goes back to a system turn that it begins with.
  public init(
    model: LanguageModel, options: GenerationOptions = GenerationOptions(),
    strategy: any DecodingStrategy = FullDepth(), messages: [ChatMessage] = []
  ) {
    self.model = model
    self.options = options
    self.strategy = strategy
    self.messages = messages
    opening = Array(messages.prefix { $0.role == "system" })
  }

  /// Forgets everything but the system turn.
  public func reset() {
    messages = opening
    previous = nil
  }

  /// Answers a message. The message and the answer, as far as it came, become part of the conversation.
  ///
  /// - Parameters:
  ///   - text: What the user says.
  ///   - shouldStop: Asked before each token.
  ///   - each: Is handed every token; what a cancelled session had held back follows as
  ///     ``GenerationSession/cancelledText``.
  /// - Throws: The template's errors, ``GenerationError`` where the conversation no longer fits the context, and the
  ///   strategy's errors; the conversation is then as it was before.
  @discardableResult
  public func respond(
    to text: String, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    each: (TokenStep) throws -> Void = { _ in }
  ) throws -> any GenerationSession {
    let asked = messages + [ChatMessage(role: "user", content: text)]
    var options = options
    if case .random(var random) = options.sampling {
      random.seed &+= turns
      options.sampling = .random(random)
    }
    let session = try makeSession(prompt: try model.prompt(messages: asked), options, shouldStop)
    // What its cache is good for stands in the new session's.
    previous = nil
    while let step = try session.next() { try each(step) }
    messages = asked + [ChatMessage(role: "assistant", content: session.generation.text)]
    turns += 1
    let read = session as? any BeginningSession
    reusedTokens = read?.reusedTokens ?? 0
    previous = read?.beginning
    // At full depth the output, too, has passed all layers.
    if strategy is FullDepth, let plain = session as? DecodingSession { previous?.tokens = plain.tokens }
    return session
  }

  private func makeSession(
    prompt: [TokenID], _ options: GenerationOptions, _ shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    guard let strategy = strategy as? any BeginningSharing, let previous, !model.hasEncoder else {
      return try strategy.makeSession(model: model, prompt: prompt, options: options, shouldStop: shouldStop)
    }
    let shared = previous.count(previous.shared(with: prompt), for: options.applicability)
    return try strategy.makeSession(
      model: model, prompt: prompt, options: options,
      beginning: (previous, strategy.reusable(previous, count: shared)), shouldStop: shouldStop)
  }
}
