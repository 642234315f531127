/// The facts of a decoder that its checkpoint states, the same for every file format.
public struct DecoderConfiguration: Sendable, Equatable {
  /// The families of decoders whose forward pass is implemented.
  public enum Family: String, Sendable, CaseIterable {
    /// Llama 1 to 3, SmolLM and SmolLM2.
    case llama
    /// Mistral: Llama, with a sliding window in its first version.
    case mistral
    /// Qwen 2 and 2.5: biases of queries, keys and values.
    case qwen2
    /// Qwen 3: norms of queries and keys.
    case qwen3
    /// SmolLM3: every fourth layer without positions.
    case smolLM3 = "smollm3"
    /// Phi-3: fused projections, longrope.
    case phi3
    /// Gemma 2: capped scores and logits, windows in every second layer.
    case gemma2
    /// Gemma 3's text decoder: norms of queries and keys, windows in five of six layers.
    case gemma3
    /// OLMo 2: norms after the blocks in the place of those before.
    case olmo2
    /// Granite 3: factors of embeddings, residuals, scores and logits.
    case granite
    /// T5, FLAN-T5 and mT5: an encoder, and relative positions.
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
    /// Nothing of the kind.
    case none
    /// Every frequency is divided by `factor`.
    case linear(factor: Float)
    /// Llama 3's rule: long wavelengths are divided by `factor`, short ones kept, the ones between interpolated.
    case llama3(factor: Float, lowFrequencyFactor: Float, highFrequencyFactor: Float, originalContext: Int)
    /// Divisors per frequency that the file states itself (GGUF's `rope_freqs.weight`), one per pair.
    case divisors([Float])
    /// YaRN (Peng et al., 2023): frequencies that turn less than `betaSlow` times within the original context are
    /// divided by `factor`, those that turn more than `betaFast` times kept, those between interpolated; cosines and
    /// sines are multiplied by `magnitude`.
    case yarn(
      factor: Float, originalContext: Int, betaFast: Float, betaSlow: Float, magnitude: Float,
      roundsRange: Bool)
    /// The base grows with the room that a sequence has ("dynamic NTK"), from the original context on.
    case dynamic(factor: Float, originalContext: Int)
    /// Divisors per frequency, one list for sequences with room for no more than the original context and one for
    /// longer ones (LongRoPE; Phi-3); cosines and sines are multiplied by `magnitude`.
    case longRope(short: [Float], long: [Float], originalContext: Int, magnitude: Float)
  }

  /// Whether queries and keys pass an RMSNorm of their own.
  public enum QueryKeyNorm: Sendable, Equatable {
    /// No norm.
    case none
    /// Each head by itself, all with the same weights (Gemma 3, Qwen 3).
    case heads
    /// All heads of a token together (OLMo 2).
    case whole
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
    /// The base of rotary frequencies in those layers, which are not stretched; nil where they are those of all layers.
    public var rotaryBase: Float?

    /// Sets the window and the layers that have it.
    public init(size: Int, layers: Set<Int>, rotaryBase: Float?) {
      self.size = size
      self.layers = layers
      self.rotaryBase = rotaryBase
    }
  }

  /// Whose forward pass it is.
  public var family: Family
  /// What the files call the model; empty where they do not.
  public var name: String
  /// Layers of the decoder.
  public var layerCount: Int
  /// Numbers of a hidden state.
  public var hiddenSize: Int
  /// Numbers between the two products of a feed-forward block.
  public var feedForwardSize: Int
  /// Heads of queries.
  public var headCount: Int
  /// Heads of keys and values; a divisor of ``headCount``.
  public var keyValueHeadCount: Int
  /// Numbers of one head.
  public var headSize: Int
  /// Rows of the embedding.
  public var vocabularySize: Int
  /// Tokens that the model was trained to attend to.
  public var contextLength: Int
  /// Added to the mean square before the root is taken, in every norm.
  public var normEpsilon: Float
  /// The base of rotary frequencies: 10,000 unless the files say otherwise.
  public var rotaryBase: Float
  /// Numbers of each head that are rotated; even, at most `headSize`.
  public var rotaryDimension: Int
  /// How rotated numbers lie in a head.
  public var rotaryLayout: RotaryLayout
  /// How rotary frequencies are stretched.
  public var rotaryScaling: RotaryScaling
  /// Whether Q, K and V have a bias (Qwen 2).
  public var hasAttentionBias: Bool
  /// Whether the output matrix of attention has a bias.
  public var hasOutputBias = false
  /// Whether gate, up and down have biases.
  public var hasFeedForwardBias = false
  /// Whether the unembedding is the embedding matrix.
  public var hasTiedEmbedding: Bool
  /// What the gate of a feed-forward block passes.
  public var activation = Activation.gatedSilu
  /// Queries are multiplied by it; 1 / √headSize unless the model says otherwise.
  public var queryScale: Float
  /// Embeddings are multiplied by it (Gemma: √hiddenSize).
  public var embeddingScale: Float = 1
  /// Whether queries and keys pass a norm of their own.
  public var queryKeyNorm = QueryKeyNorm.none
  /// Whether a block's input passes an RMSNorm; in OLMo 2 only its output does.
  public var hasInputNorms = true
  /// Whether what a block adds to the residual stream passes another RMSNorm first (Gemma, OLMo 2).
  public var hasPostNorms = false
  /// The window of layers that do not attend to everything; `nil` where all do.
  public var slidingWindow: SlidingWindow?
  /// Layers whose queries and keys are not rotated (SmolLM3).
  public var layersWithoutPositions: Set<Int> = []
  /// What blocks add to the residual stream is multiplied by it (Granite).
  public var residualScale: Float = 1
  /// Attention scores s become c tanh(s / c) (Gemma 2).
  public var attentionLogitCap: Float?
  /// Logits x become c tanh(x / c) (Gemma 2).
  public var outputLogitCap: Float?
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
