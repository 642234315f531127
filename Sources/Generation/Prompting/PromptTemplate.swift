import Tokenization
import Transformers

/// How a conversation is written down for a model.
///
/// A prompt is built from token IDs, not from text: markers are the vocabulary's special tokens, and what a document or
/// a question says is encoded as text, so that nothing in it can forge a turn.
public enum PromptTemplate: Sendable, Equatable {
  /// `<|im_start|>role`, the message, `<|im_end|>`: SmolLM2, Qwen 2. `system` stands before the first user turn.
  case chatML(system: String?)
  /// `<|start_header_id|>role<|end_header_id|>`, the message, `<|eot_id|>`: Llama 3.
  case llama3
  /// `<start_of_turn>user`, the message, `<end_of_turn>`: Gemma.
  case gemma
  /// The message alone, for models that were not trained on conversations.
  case plain

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

  /// The template that a checkpoint's chat template (a Jinja program) amounts to, or `nil` when it is none of these.
  ///
  /// The program is not run. Its markers tell the kind; a ChatML system turn is taken over when the program writes one
  /// as fixed text.
  public init?(chatTemplate: String) {
    if chatTemplate.contains("<|im_start|>") {
      self = .chatML(system: Self.fixedSystemTurn(chatTemplate))
    } else if chatTemplate.contains("<|start_header_id|>"), chatTemplate.contains("<|eot_id|>") {
      self = .llama3
    } else if chatTemplate.contains("<start_of_turn>"), chatTemplate.contains("<end_of_turn>") {
      self = .gemma
    } else {
      return nil
    }
  }

  /// The name that ``init(name:system:)`` knows it by.
  public var name: String {
    switch self {
    case .chatML: "chatml"
    case .llama3: "llama3"
    case .gemma: "gemma"
    case .plain: "plain"
    }
  }

  /// The same without a system turn.
  var withoutSystem: PromptTemplate {
    if case .chatML = self { .chatML(system: nil) } else { self }
  }

  private static func fixedSystemTurn(_ chatTemplate: String) -> String? {
    // The newline after the role is a real one or the two characters `\n`, by how the template was stored.
    for opening in ["<|im_start|>system\n", #"<|im_start|>system\n"#] {
      var rest = chatTemplate[...]
      while let found = rest.firstRange(of: opening) {
        rest = rest[found.upperBound...]
        guard let end = rest.firstRange(of: "<|im_end|>") else { break }
        let text = rest[..<end.lowerBound]
        // Quotes and braces mean that the program puts something together here.
        if !text.isEmpty, !text.contains(where: { "'\"{}".contains($0) }) { return String(text) }
      }
    }
    return nil
  }
}

extension PromptTemplate {
  /// The tokens of a conversation of one user turn, ending where the model's own turn begins.
  ///
  /// - Parameters:
  ///   - message: What the user says; special tokens spelled in it stay text.
  ///   - start: The token a text begins with, for models that want one.
  ///   - model: The model's name, for messages.
  /// - Throws: ``GenerationError/missingSpecialToken(model:template:token:)``, and the tokenizer's errors.
  func encode(
    user message: String, tokenizer: any Tokenizer, start: TokenID?, model: String
  ) throws -> [TokenID] {
    func special(_ token: String) throws -> TokenID {
      guard let id = tokenizer.id(ofSpecial: token) else {
        throw GenerationError.missingSpecialToken(model: model, template: name, token: token)
      }
      return id
    }
    func text(_ text: String) throws -> [TokenID] { try tokenizer.encode(text, special: .asText) }

    var tokens: [TokenID] = start.map { [$0] } ?? []
    switch self {
    case .plain:
      tokens += try text(message)
    case .chatML(let system):
      let (opening, closing) = (try special("<|im_start|>"), try special("<|im_end|>"))
      if let system {
        tokens += try [opening] + text("system\n" + system) + [closing] + text("\n")
      }
      tokens += try [opening] + text("user\n" + message) + [closing] + text("\n")
      tokens += try [opening] + text("assistant\n")
    case .llama3:
      let (opening, closing) = (try special("<|start_header_id|>"), try special("<|end_header_id|>"))
      tokens += try [opening] + text("user") + [closing] + text("\n\n" + message) + [special("<|eot_id|>")]
      tokens += try [opening] + text("assistant") + [closing] + text("\n\n")
    case .gemma:
      let (opening, closing) = (try special("<start_of_turn>"), try special("<end_of_turn>"))
      tokens += try [opening] + text("user\n" + message) + [closing] + text("\n")
      tokens += try [opening] + text("model\n")
    }
    return tokens
  }
}
