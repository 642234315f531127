/// The facts of a decoder that its checkpoint states, the same for every file format.
public struct DecoderConfiguration: Sendable, Equatable {
  /// The families of decoders whose forward pass is implemented.
  public enum Family: String, Sendable, CaseIterable {
    case llama
    case qwen2
    case gemma3
    case t5
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

  /// What comes between the two products of the feed-forward block.
  public enum Activation: Sendable, Equatable {
    /// silu(gate) · up, as in the Llama family.
    case gatedSilu
    /// gelu(gate) · up, gelu by its tanh formula, as in Gemma and T5 1.1.
    case gatedGelu
    /// max(up, 0), without a gate, as in T5 1.0.
    case relu

    /// Whether there is a gate beside the matrix "up".
    public var isGated: Bool { self != .relu }
  }

  /// Layers that see the last tokens only.
  public struct SlidingWindow: Sendable, Equatable {
    /// Tokens a layer sees, the current one included.
    public var size: Int
    /// The layers it holds for.
    public var layers: Set<Int>
    /// The base of rotary frequencies in those layers, which are not stretched.
    public var rotaryBase: Float

    public init(size: Int, layers: Set<Int>, rotaryBase: Float) {
      self.size = size
      self.layers = layers
      self.rotaryBase = rotaryBase
    }
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
  public var activation = Activation.gatedSilu
  /// Queries are multiplied by it; 1 / √headSize unless the model says otherwise.
  public var queryScale: Float
  /// Embeddings are multiplied by it (Gemma: √hiddenSize).
  public var embeddingScale: Float = 1
  /// Whether each head of Q and K passes an RMSNorm of its own (Gemma 3).
  public var hasQueryKeyNorm = false
  /// Whether what a block adds to the residual stream passes another RMSNorm first (Gemma 3).
  public var hasPostNorms = false
  public var slidingWindow: SlidingWindow?
  /// Instead of rotary embedding, in T5.
  public var relativePositions: RelativePositions?
  /// The encoder that a decoder of T5 attends to; nil for a decoder that stands alone.
  public var encoder: Encoder?
  /// The normalised last hidden state is multiplied by it before the unembedding.
  public var outputScale: Float = 1

  /// Makes a configuration with the Llama family's settings for everything that has no parameter here.
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
    queryScale = 1 / Float(max(headSize, 1)).squareRoot()
  }
}

extension DecoderConfiguration.Family {
  /// What `config.json` calls it.
  var modelType: String {
    switch self {
    case .llama, .qwen2, .t5: rawValue
    // The text decoder alone; "gemma3" is the model that sees pictures too.
    case .gemma3: "gemma3_text"
    }
  }
}

extension DecoderConfiguration {
  /// Sets what Gemma 3 does unlike the Llama family.
  ///
  /// - Parameters:
  ///   - window: Tokens that most layers see.
  ///   - period: The last of every so many layers sees all tokens.
  ///   - localBase: The rotary base of the other layers.
  mutating func setGemma3(window: Int, period: Int, localBase: Float) {
    activation = .gatedGelu
    embeddingScale = Float(hiddenSize).squareRoot()
    hasQueryKeyNorm = true
    hasPostNorms = true
    // An absurd number of layers is refused later; it must not cost memory here.
    let layers = (0..<max(0, min(layerCount, 1024))).filter { period > 0 && ($0 + 1) % period != 0 }
    slidingWindow = SlidingWindow(size: window, layers: Set(layers), rotaryBase: localBase)
  }
}
