import Tokenization
import Transformers

/// How a conversation is written down for a model.
///
/// A prompt is built from token IDs, not from text. Markers are the vocabulary's special tokens. What a document or a
/// question says is encoded as text, so that nothing in it can forge a turn.
public enum PromptTemplate: Sendable, Equatable {
  /// `<|im_start|>role`, the message, `<|im_end|>`: SmolLM2, Qwen 2. `system` stands before the first user turn.
  case chatML(system: String?)
  /// `<|start_header_id|>role<|end_header_id|>`, the message, `<|eot_id|>`: Llama 3.
  case llama3
  /// `<start_of_turn>user`, the message, `<end_of_turn>`: Gemma.
  case gemma
  /// The message alone, for models that were not trained on conversations.
  case plain
  /// The checkpoint's own template, run as a program.
  case program(PromptProgram)

  /// The template of that name, or `nil` if there is none.
  ///
  /// - Parameters:
  ///   - name: `chatml`, `llama3` or `plain`.
  ///   - system: What stands in the system turn; ChatML alone has one.
  public init?(name: String, system: String? = nil) {
    switch name {
    case "chatml": self = .chatML(system: system)
    case "llama3": self = .llama3
    case "gemma": self = .gemma
    case "plain": self = .plain
    default: return nil
    }
  }

  /// The name that ``init(name:system:)`` knows it by.
  public var name: String {
    switch self {
    case .chatML: "chatml"
    case .llama3: "llama3"
    case .gemma: "gemma"
    case .plain: "plain"
    case .program: "chat template"
    }
  }

  /// The same without a system turn, for models that are asked in the reader's style: they were trained on ChatML
  /// without one, whatever the template that their files inherited writes by itself.
  var withoutSystem: PromptTemplate {
    switch self {
    case .chatML: .chatML(system: nil)
    case .program(let program) where program.source.contains("<|im_start|>"): .chatML(system: nil)
    default: self
    }
  }
}

extension PromptTemplate {
  /// The tokens of a conversation, ending where the model's own turn begins.
  ///
  /// - Parameters:
  ///   - messages: What was said; special tokens spelled in it stay text.
  ///   - start: The token a text begins with, for models that want one; a program writes it itself.
  ///   - model: The model's name, for messages.
  /// - Throws: ``GenerationError/missingSpecialToken(model:template:token:)``,
  ///   ``GenerationError/option(field:expected:found:)`` for a role that the template has no turn for, the program's
  ///   errors and the tokenizer's.
  func encode(
    _ messages: [ChatMessage], tokenizer: any Tokenizer, start: TokenID?, model: String
  ) throws -> [TokenID] {
    func special(_ token: String) throws -> TokenID {
      guard let id = tokenizer.id(ofSpecial: token) else {
        throw GenerationError.missingSpecialToken(model: model, template: name, token: token)
      }
      return id
    }
    func text(_ text: String) throws -> [TokenID] { try tokenizer.encode(text, special: .asText) }
    func refuse(_ message: ChatMessage) -> GenerationError {
      .option(field: "messages", expected: "roles that \(name) has", found: "\"\(message.role)\"")
    }
    if case .program(let program) = self { return try tokenizer.encode(program.pieces(messages)) }

    var tokens: [TokenID] = start.map { [$0] } ?? []
    switch self {
    case .program: break
    case .plain:
      guard messages.count == 1, messages[0].role == "user" else {
        throw GenerationError.option(
          field: "messages", expected: "one of the user, for a model without turns",
          found: messages.map(\.role).joined(separator: ", "))
      }
      tokens += try text(messages[0].content)
    case .chatML(let system):
      let (opening, closing) = (try special("<|im_start|>"), try special("<|im_end|>"))
      var turns = messages
      if let system, turns.first?.role != "system" {
        turns.insert(.init(role: "system", content: system), at: 0)
      }
      for turn in turns {
        guard ["system", "user", "assistant"].contains(turn.role) else { throw refuse(turn) }
        tokens += try [opening] + text(turn.role + "\n" + turn.content) + [closing] + text("\n")
      }
      tokens += try [opening] + text("assistant\n")
    case .llama3:
      let (opening, closing) = (try special("<|start_header_id|>"), try special("<|end_header_id|>"))
      for turn in messages {
        guard ["system", "user", "assistant"].contains(turn.role) else { throw refuse(turn) }
        tokens += try [opening] + text(turn.role) + [closing] + text("\n\n" + turn.content)
        tokens.append(try special("<|eot_id|>"))
      }
      tokens += try [opening] + text("assistant") + [closing] + text("\n\n")
    case .gemma:
      let (opening, closing) = (try special("<start_of_turn>"), try special("<end_of_turn>"))
      for turn in messages {
        // The family has no system turn.
        guard let role = ["user": "user", "assistant": "model"][turn.role] else { throw refuse(turn) }
        tokens += try [opening] + text(role + "\n" + turn.content) + [closing] + text("\n")
      }
      tokens += try [opening] + text("model\n")
    }
    return tokens
  }
}
