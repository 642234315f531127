import Foundation
import Generation
import RiskControl

/// How outputs are told: the JSON of `/v1/chat/completions` and of `/v1/completions`, whole and in chunks.
struct Reply: Sendable {
  enum Kind: Sendable {
    case chat
    case completion
  }

  /// What is known of one output when it is complete.
  struct Output: Sendable {
    var generation: Generation
    /// What stands before it, where the prompt is told too.
    var echo = ""
  }

  let kind: Kind
  let model: String
  let fingerprint: String
  /// Whether chunks have the key `usage`.
  var includesUsage = false
  /// Tells how likely tokens were; `nil` where that is not asked for.
  var tokens: TokenProbabilities?
  let id: String
  let created: Int

  init(_ kind: Kind, model: String, fingerprint: String) {
    self.kind = kind
    self.model = model
    self.fingerprint = fingerprint
    id = (kind == .chat ? "chatcmpl-" : "cmpl-") + Self.randomName()
    created = Int(Date().timeIntervalSince1970)
  }

  /// 24 hexadecimal digits.
  static func randomName() -> String {
    let digits = Array("0123456789abcdef")
    return String((0..<24).map { _ in digits[Int.random(in: 0..<16)] })
  }

  /// `stop` where the output ended by itself or by a stop string, `length` where it was cut.
  static func finishReason(_ reason: StopReason) -> String {
    switch reason {
    case .endOfText, .stopString, .length: "stop"
    case .maxTokens, .contextFull, .cancelled: "length"
    }
  }

  /// The answer to a request that does not stream.
  func whole(_ outputs: [Output], usage: JSONValue, egress: JSONValue) -> JSONValue {
    let choices = outputs.enumerated().map { index, output in
      let text = output.echo + output.generation.text
      var choice: [String: JSONValue] = [
        "index": .integer(index), "logprobs": logprobs(of: output.generation),
        "finish_reason": .text(Self.finishReason(output.generation.stopReason)),
      ]
      switch kind {
      case .chat:
        choice["message"] = .object([
          "role": .text("assistant"), "content": .text(text), "refusal": .null,
        ])
      case .completion: choice["text"] = .text(text)
      }
      return JSONValue.object(choice)
    }
    var answer = frame(isChunk: false)
    answer["choices"] = .array(choices)
    answer["usage"] = usage
    answer["egress"] = egress
    return .object(answer)
  }

  /// What an output begins with: in a chat, the role.
  func opening(_ index: Int, echo: String) -> JSONValue? {
    switch kind {
    case .chat: chunk(index, delta: ["role": .text("assistant"), "content": .text("")])
    case .completion: echo.isEmpty ? nil : chunk(index, text: echo)
    }
  }

  /// The next text of an output, and how likely its token was.
  func chunk(_ index: Int, text: String, logprobs: JSONValue = .null) -> JSONValue {
    switch kind {
    case .chat:
      chunk([("delta", .object(["content": .text(text)])), ("logprobs", logprobs)], index, finish: .null)
    case .completion: chunk([("text", .text(text)), ("logprobs", logprobs)], index, finish: .null)
    }
  }

  /// How likely a token was, where that is asked for and it is one of the text.
  func logprobs(_ told: TokenProbabilities.Told?, offset: inout Int) -> JSONValue {
    guard let tokens, let told else { return .null }
    return kind == .chat ? tokens.chat([told]) : tokens.completion([told], offset: &offset)
  }

  private func logprobs(of generation: Generation) -> JSONValue {
    guard let tokens else { return .null }
    var offset = 0
    let told = tokens.told(generation)
    return kind == .chat ? tokens.chat(told) : tokens.completion(told, offset: &offset)
  }

  /// The end of an output.
  func ending(_ index: Int, _ reason: StopReason, egress: JSONValue) -> JSONValue {
    let finish = JSONValue.text(Self.finishReason(reason))
    let value =
      switch kind {
      case .chat: chunk([("delta", .object([:]))], index, finish: finish)
      case .completion: chunk([("text", .text(""))], index, finish: finish)
      }
    guard case .object(var fields) = value else { return value }
    fields["egress"] = egress
    return .object(fields)
  }

  /// The number of tokens, after all outputs of a stream.
  func closing(usage: JSONValue) -> JSONValue {
    var chunk = frame(isChunk: true)
    chunk["choices"] = .array([])
    chunk["usage"] = usage
    return .object(chunk)
  }

  private func chunk(_ index: Int, delta: [String: JSONValue]) -> JSONValue {
    chunk([("delta", .object(delta))], index, finish: .null)
  }

  private func chunk(_ content: [(String, JSONValue)], _ index: Int, finish: JSONValue) -> JSONValue {
    var choice: [String: JSONValue] = [
      "index": .integer(index), "logprobs": .null, "finish_reason": finish,
    ]
    for (name, value) in content { choice[name] = value }
    var chunk = frame(isChunk: true)
    chunk["choices"] = .array([.object(choice)])
    if includesUsage { chunk["usage"] = .null }
    return .object(chunk)
  }

  private func frame(isChunk: Bool) -> [String: JSONValue] {
    let object =
      switch kind {
      case .chat: isChunk ? "chat.completion.chunk" : "chat.completion"
      case .completion: "text_completion"
      }
    return [
      "id": .text(id), "object": .text(object), "created": .integer(created), "model": .text(model),
      "system_fingerprint": .text(fingerprint),
    ]
  }

  /// Tokens of the prompts, each counted once, and of all outputs.
  static func usage(promptTokens: Int, outputTokens: Int) -> JSONValue {
    .object([
      "prompt_tokens": .integer(promptTokens), "completion_tokens": .integer(outputTokens),
      "total_tokens": .integer(promptTokens + outputTokens),
    ])
  }
}
