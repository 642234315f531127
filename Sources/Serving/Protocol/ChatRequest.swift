import Generation
import RiskControl

/// The body of `POST /v1/chat/completions`.
struct ChatRequest: Sendable {
  var messages: [ChatMessage]
  var settings: OutputSettings

  /// Turns of a conversation, at most.
  static let messageLimit = 2048

  /// - Throws: ``APIError`` for what is missing, wrong or not offered.
  init(_ fields: inout RequestFields) throws {
    guard let values = try fields.array("messages"), !values.isEmpty else {
      throw fields.fault("messages", expected: "at least one", found: "none")
    }
    guard values.count <= Self.messageLimit else {
      throw fields.fault("messages", expected: "at most \(Self.messageLimit)", found: "\(values.count)")
    }
    messages = try values.enumerated().map { try Self.message($1, place: "messages[\($0)]") }
    settings = try OutputSettings(&fields)
    let noTools = "tools are not offered"
    try fields.allow("tools", only: [.array([])], because: noTools)
    try fields.allow("functions", only: [.array([])], because: noTools)
    try fields.allow("tool_choice", only: [.text("none"), .text("auto")], because: noTools)
    try fields.allow("function_call", only: [.text("none"), .text("auto")], because: noTools)
    fields.ignore("parallel_tool_calls")
    try fields.allow("modalities", only: [.array([.text("text")])], because: "outputs are texts")
    try fields.allow("audio", only: [], because: "outputs are texts")
    try fields.allow("prediction", only: [], because: "predicted outputs are not offered")
    settings.format = try ResponseFormat(&fields)
    settings.topProbabilities = try Self.topProbabilities(&fields)
    try fields.refuseOthers()
  }

  /// OpenAI's own limit.
  static let topLimit = 20

  private static func topProbabilities(_ fields: inout RequestFields) throws -> Int? {
    let isWanted = try fields.boolean("logprobs") ?? false
    let count = try fields.integer("top_logprobs", in: 0...topLimit)
    guard isWanted else {
      if let count, count > 0 {
        throw fields.fault("top_logprobs", expected: "no such field without logprobs", found: "\(count)")
      }
      return nil
    }
    return count ?? 0
  }

  private static func message(_ value: JSONValue, place: String) throws -> ChatMessage {
    guard case .object(let values) = value else {
      throw APIError.invalid("\(place): expected an object, found \(value.kind)", param: place)
    }
    var fields = RequestFields(values, place: place + ".")
    guard let role = try fields.text("role") else {
      throw fields.fault("role", expected: "system, developer, user or assistant", found: "none")
    }
    let known = ["system": "system", "developer": "system", "user": "user", "assistant": "assistant"]
    guard let name = known[role] else {
      throw APIError.unsupported(
        "expected system, developer, user or assistant, found another", param: fields.path("role"))
    }
    let text = try content(&fields, isOptional: name == "assistant")
    try fields.allow("tool_calls", only: [.array([])], because: "tools are not offered")
    try fields.allow("function_call", only: [], because: "tools are not offered")
    try fields.allow("audio", only: [], because: "only texts are read")
    try fields.allow("refusal", only: [], because: "a refusal is given as content")
    try fields.allow("name", only: [], because: "the model's template has no place for names")
    try fields.refuseOthers()
    return ChatMessage(role: name, content: text)
  }

  private static func content(_ fields: inout RequestFields, isOptional: Bool) throws -> String {
    switch fields.value("content") {
    case .text(let text): return text
    case .array(let parts):
      return try parts.enumerated().map { index, part in
        let place = fields.path("content[\(index)]")
        guard case .object(let values) = part else {
          throw APIError.invalid("\(place): expected an object, found \(part.kind)", param: place)
        }
        var part = RequestFields(values, place: place + ".")
        guard try part.text("type") == "text" else {
          throw APIError.unsupported("only parts of the type text are read", param: part.path("type"))
        }
        guard let text = try part.text("text") else {
          throw part.fault("text", expected: "a text", found: "none")
        }
        try part.refuseOthers()
        return text
      }.joined()
    case nil where isOptional: return ""
    case let value:
      throw fields.fault("content", expected: "a text or an array of parts", found: value?.kind ?? "none")
    }
  }
}
