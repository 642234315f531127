/// The facts of a decoder that its checkpoint states, the same for every file format.
public struct DecoderConfiguration: Sendable, Equatable {
  /// The families of decoders whose forward pass is implemented.
  public enum Family: String, Sendable, CaseIterable {
    case llama
    case qwen2
  }

  /// How the two numbers that rotary embedding turns together lie in a head.
  public enum RotaryLayout: Sendable, Equatable {
    /// Neighbours: (0, 1), (2, 3), … as in GGUF files of the Llama family.
    case interleaved
    /// Halves: (0, d/2), (1, d/2 + 1), … as in Hugging Face checkpoints and GGUF files of Qwen 2.
    case halves
  }

  /// How rotary frequencies are stretched for contexts longer than the model was first trained on.
  public enum RotaryScaling: Sendable, Equatable {
    case none
    /// Every frequency is divided by `factor`.
    case linear(factor: Float)
    /// Llama 3's rule: long wavelengths are divided by `factor`, short ones kept, the ones between interpolated.
    case llama3(factor: Float, lowFrequencyFactor: Float, highFrequencyFactor: Float, originalContext: Int)
    /// Divisors per frequency that the file states itself (GGUF's `rope_freqs.weight`), one per pair.
    case divisors([Float])
  }

  public var family: Family
  public var name: String
  public var layerCount: Int
  public var hiddenSize: Int
  public var feedForwardSize: Int
  public var headCount: Int
  public var keyValueHeadCount: Int
  public var headSize: Int
  public var vocabularySize: Int
  public var contextLength: Int
  public var normEpsilon: Float
  public var rotaryBase: Float
  /// Numbers of each head that are rotated; even, at most `headSize`.
  public var rotaryDimension: Int
  public var rotaryLayout: RotaryLayout
  public var rotaryScaling: RotaryScaling
  /// Whether Q, K and V have a bias (Qwen 2).
  public var hasAttentionBias: Bool
  /// Whether the unembedding is the embedding matrix.
  public var hasTiedEmbedding: Bool

  public init(
    family: Family, name: String, layerCount: Int, hiddenSize: Int, feedForwardSize: Int, headCount: Int,
    keyValueHeadCount: Int, headSize: Int, vocabularySize: Int, contextLength: Int, normEpsilon: Float,
    rotaryBase: Float, rotaryDimension: Int, rotaryLayout: RotaryLayout, rotaryScaling: RotaryScaling,
    hasAttentionBias: Bool, hasTiedEmbedding: Bool
  ) {
    self.family = family
    self.name = name
    self.layerCount = layerCount
    self.hiddenSize = hiddenSize
    self.feedForwardSize = feedForwardSize
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headSize = headSize
    self.vocabularySize = vocabularySize
    self.contextLength = contextLength
    self.normEpsilon = normEpsilon
    self.rotaryBase = rotaryBase
    self.rotaryDimension = rotaryDimension
    self.rotaryLayout = rotaryLayout
    self.rotaryScaling = rotaryScaling
    self.hasAttentionBias = hasAttentionBias
    self.hasTiedEmbedding = hasTiedEmbedding
  }
}
