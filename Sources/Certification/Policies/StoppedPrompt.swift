import Generation

/// Where the tokens of a prompt stop, as policies of exits and of drafts write it down.
public struct StoppedPrompt: Codable, Sendable, Equatable {
  /// The layer after which they do.
  public var layer: Int
  /// The last tokens, which pass all layers.
  public var deepTokens: Int

  enum CodingKeys: String, CodingKey {
    case layer
    case deepTokens = "deep_tokens"
  }

  /// The layer, and the last tokens as this program reads prompts.
  public init(layer: Int) {
    self.layer = layer
    deepTokens = LanguageModel.deepPromptTokens
  }
}
