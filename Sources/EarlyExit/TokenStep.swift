import DecoderModels

/// One generated token.
public struct TokenStep: Sendable, Equatable {
  public var id: TokenID
  /// Text that became certain with this token. It may be empty: a token may be part of a character, or of what may
  /// become a stop string. The texts of all steps, joined, are the output.
  public var text: String
  /// Layers that were run for this token.
  public var layer: Int
  /// Why this is the last token, or `nil` when others follow.
  public var stopReason: StopReason?
  /// How the token came to its layer; `nil` where exits were not asked for, and for the first token, which the prompt's
  /// pass through all layers gives.
  public var depth: DepthRecord?

  public init(
    id: TokenID, text: String, layer: Int, stopReason: StopReason? = nil, depth: DepthRecord? = nil
  ) {
    self.id = id
    self.text = text
    self.layer = layer
    self.stopReason = stopReason
    self.depth = depth
  }
}

/// Why generation ended.
public enum StopReason: String, Sendable, Codable, CaseIterable {
  /// The model gave an end token.
  case endOfText = "end_of_text"
  /// As many tokens as were allowed.
  case maxTokens = "max_tokens"
  /// A stop string appeared.
  case stopString = "stop_string"
  /// Prompt and output fill the context.
  case contextFull = "context_full"
  /// Cancelled from outside; what was generated so far stands.
  case cancelled
}

/// A finished output.
public struct Generation: Sendable, Equatable {
  /// The output, without the end token and without a stop string.
  public var text: String
  /// Every generated token, an end token included.
  public var tokenIDs: [TokenID]
  public var promptTokenIDs: [TokenID]
  public var stopReason: StopReason
  /// Layers that were run for each generated token; empty when that is not known.
  public var layers: [Int]

  public init(
    text: String, tokenIDs: [TokenID], promptTokenIDs: [TokenID], stopReason: StopReason, layers: [Int] = []
  ) {
    self.text = text
    self.tokenIDs = tokenIDs
    self.promptTokenIDs = promptTokenIDs
    self.stopReason = stopReason
    self.layers = layers
  }
  /// The mean of ``layers``, or `nil` where there are none.
  public var averageLayer: Double? {
    layers.isEmpty ? nil : Double(layers.reduce(0, +)) / Double(layers.count)
  }
}
