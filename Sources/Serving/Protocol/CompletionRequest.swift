import Generation
import RiskControl
import Transformers

/// The body of `POST /v1/completions`.
struct CompletionRequest: Sendable {
  enum Prompt: Sendable {
    case text(String)
    case tokens([TokenID])
  }

  var prompts: [Prompt]
  /// Whether outputs begin with their prompts.
  var echoes: Bool
  var settings: OutputSettings

  /// Tokens to generate where the request does not say: OpenAI's own number.
  static let usualMaxTokens = 16
  /// Prompts of a request, at most.
  static let promptLimit = 64

  /// OpenAI's own limit.
  static let topLimit = 5

  /// - Throws: ``APIError`` for what is missing, wrong or not offered.
  init(_ fields: inout RequestFields) throws {
    prompts = try Self.prompts(&fields)
    guard prompts.count <= Self.promptLimit else {
      throw fields.fault("prompt", expected: "at most \(Self.promptLimit)", found: "\(prompts.count)")
    }
    echoes = try fields.boolean("echo") ?? false
    settings = try OutputSettings(&fields)
    try fields.allow(
      "best_of", only: [.number(1), .number(Double(settings.count))], because: "only n itself is offered")
    try fields.allow("suffix", only: [.text("")], because: "texts are not filled in")
    settings.topProbabilities = try fields.integer("logprobs", in: 0...Self.topLimit)
    if echoes, settings.topProbabilities != nil {
      throw APIError.unsupported("probabilities of the prompt, with echo, are not offered", param: "logprobs")
    }
    try fields.refuseOthers()
  }

  private static func prompts(_ fields: inout RequestFields) throws -> [Prompt] {
    let expected = "a text, an array of texts, tokens, or an array of such"
    switch fields.value("prompt") {
    case .text(let text): return [.text(text)]
    case .array(let values) where !values.isEmpty:
      if case .number = values[0] { return [.tokens(try tokens(values, fields))] }
      return try values.map { value in
        switch value {
        case .text(let text): return .text(text)
        case .array(let inner) where !inner.isEmpty: return .tokens(try tokens(inner, fields))
        default: throw fields.fault("prompt", expected: expected, found: value.kind)
        }
      }
    case let value: throw fields.fault("prompt", expected: expected, found: value?.kind ?? "none")
    }
  }

  private static func tokens(_ values: [JSONValue], _ fields: RequestFields) throws -> [TokenID] {
    try values.map { value in
      guard case .number(let number) = value, let token = TokenID(exactly: number) else {
        throw fields.fault("prompt", expected: "tokens", found: value.kind)
      }
      return token
    }
  }
}
