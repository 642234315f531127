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
  /// What was said so far, a system turn first where there is one.
  public private(set) var messages: [ChatMessage]
  /// Tokens of the last turn's prompt that did not have to be read again.
  public private(set) var reusedTokens = 0
  private let opening: [ChatMessage]
  private var previous: DecodingSession?
  private var turns: UInt64 = 0

  /// - Parameters:
  ///   - model: What answers.
  ///   - options: How answers are generated.
  ///   - messages: What was said before; ``reset()`` goes back to a system turn that it begins with.
  public init(
    model: LanguageModel, options: GenerationOptions = GenerationOptions(), messages: [ChatMessage] = []
  ) {
    self.model = model
    self.options = options
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
  ///     ``DecodingSession/cancelledText``.
  /// - Throws: The template's errors, and ``GenerationError`` where the conversation no longer fits the context; it is
  ///   then as it was before.
  @discardableResult
  public func respond(
    to text: String, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    each: (TokenStep) throws -> Void = { _ in }
  ) throws -> DecodingSession {
    let asked = messages + [ChatMessage(role: "user", content: text)]
    var options = options
    if case .random(var random) = options.sampling {
      random.seed &+= turns
      options.sampling = .random(random)
    }
    let prompt = try model.prompt(messages: asked)
    let session = try DecodingSession(
      model: model, prompt: prompt, options: options, beginning: beginning(of: prompt),
      shouldStop: shouldStop)
    // What its cache is good for stands in the new session's.
    previous = nil
    while let step = try session.next() { try each(step) }
    messages = asked + [ChatMessage(role: "assistant", content: session.generation.text)]
    reusedTokens = session.reusedTokens
    turns += 1
    previous = session
    return session
  }

  /// The turn before, and how many of its tokens a prompt begins with.
  private func beginning(of prompt: [TokenID]) -> (read: Beginning, count: Int)? {
    guard let previous, !model.hasEncoder else { return nil }
    return (previous.beginning, zip(previous.tokens, prompt).prefix { $0.0 == $0.1 }.count)
  }
}
