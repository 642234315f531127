import Transformers

/// One generated token.
public struct TokenStep: Sendable, Equatable {
  /// The token.
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
  /// Who wrote the token; `nil` where nothing is drafted.
  public var source: TokenSource?
  /// The natural logarithm of the token's probability, as ``Generation/logProbabilities`` has it; `nil` where it is not
  /// recorded.
  public var logProbability: Double?
  /// The most probable tokens in its place; `nil` where they are not kept.
  public var alternatives: [TokenAlternative]?

  /// Puts a step together.
  public init(
    id: TokenID, text: String, layer: Int, stopReason: StopReason? = nil, depth: DepthRecord? = nil,
    source: TokenSource? = nil
  ) {
    self.id = id
    self.text = text
    self.layer = layer
    self.stopReason = stopReason
    self.depth = depth
    self.source = source
  }
}

/// Who wrote a token of an output that was drafted ahead.
public struct TokenSource: Sendable, Equatable {
  /// Who a token of the output comes from.
  public enum Writer: String, Sendable, Codable, CaseIterable {
    /// A model, or a model's first layers; the token was verified and kept.
    case draft
    /// The text before it, where the same words stood; the token was verified and kept.
    case lookup
    /// The large model, where nothing was drafted or after a draft that was kept whole.
    case target
    /// The large model, in the place of a drafted token that was rolled back.
    case corrected
  }

  /// Who wrote it.
  public var writer: Writer
  /// Drafted tokens that were rolled back here, that in whose place this one stands included.
  public var discarded: Int

  /// Puts a source together.
  public init(_ writer: Writer, discarded: Int = 0) {
    self.writer = writer
    self.discarded = discarded
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
  /// The output has the length that was asked for.
  case length
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
  /// The prompt's tokens.
  public var promptTokenIDs: [TokenID]
  /// Why the output ended.
  public var stopReason: StopReason
  /// Layers that were run for each generated token; empty when that is not known.
  public var layers: [Int]
  /// The natural logarithms of the generated tokens' probabilities, among the tokens that each was chosen from and
  /// before sampling's filters; empty unless ``GenerationOptions/recordsProbabilities`` asked for them.
  public var logProbabilities: [Double] = []
  /// The most probable tokens at each place, the first first: as many as ``GenerationOptions/topProbabilities`` asked
  /// for.
  public var alternatives: [[TokenAlternative]] = []
  /// Whether the prompt is like those that exits or drafts were calibrated on; `nil` where no guard looked.
  public var applicability: Applicability?
  /// How probable it is that the text answers the question, where an ``AnswerabilityClassifier`` decided on that.
  public var answerability: Double?
  /// After how many tokens it was brought back to full depth, because it began to repeat itself; `nil` where it was
  /// not.
  public var trippedAt: Int?

  /// Puts a generation together.
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
