import ChatTemplates
import Tokenization
import Transformers

/// A turn of a conversation.
public struct ChatMessage: Sendable, Equatable {
  /// `system`, `user` or `assistant`, or what else a model's template knows.
  public var role: String
  /// What is said, as text.
  public var content: String

  /// Puts a turn together.
  public init(role: String, content: String) {
    self.role = role
    self.content = content
  }
}

/// A checkpoint's own chat template, which is run to write a prompt.
public struct PromptProgram: Sendable, Equatable {
  /// The template as the checkpoint has it.
  public let source: String
  /// Names of tokens that it may write: `bos_token` and so on.
  public let tokens: [String: String]
  private let template: ChatTemplate

  /// Reads a template.
  ///
  /// - Throws: `TemplateError` of `ChatTemplates`.
  public init(source: String, tokens: [String: String]) throws(TemplateError) {
    self.source = source
    self.tokens = tokens
    template = try ChatTemplate(source)
  }

  /// Whether two programs have the same source and special tokens.
  public static func == (first: PromptProgram, second: PromptProgram) -> Bool {
    first.source == second.source && first.tokens == second.tokens
  }

  /// The prompt of a conversation, up to where the model's own turn begins, in pieces that know their origin.
  func pieces(_ messages: [ChatMessage]) throws(TemplateError) -> [PromptPiece] {
    var variables: [String: TemplateValue] = tokens.mapValues { .trusted($0) }
    // A role is the program's own word, not something that a document says.
    variables["messages"] = .list(
      messages.map { .map(TemplateMap([("role", .trusted($0.role)), ("content", .content($0.content))])) })
    variables["add_generation_prompt"] = .bool(true)
    variables["tools"] = TemplateValue.none
    variables["documents"] = TemplateValue.none
    return try template.render(variables).pieces.map { PromptPiece($0.text, isContent: $0.isContent) }
  }
}
