import FileFormats
import RealModule

extension DecoderConfiguration {
  /// How a layer knows the distance between two tokens: a number per head, learnt for ranges of distances, is added to
  /// the attention scores (Raffel et al., "Exploring the limits of transfer learning", 2020, section 2.1).
  public struct RelativePositions: Sendable, Equatable {
    /// Ranges told apart; half of them for each direction where both are seen.
    public var bucketCount: Int
    /// Distances from here on share a bucket.
    public var maximumDistance: Int

    /// Sets both numbers.
    public init(bucketCount: Int, maximumDistance: Int) {
      self.bucketCount = bucketCount
      self.maximumDistance = maximumDistance
    }

    /// The bucket of a key that stands `distance` tokens after the query; negative before it.
    public func bucket(distance: Int, isCausal: Bool) -> Int {
      var count = bucketCount
      var first = 0
      var length = max(-distance, 0)
      if !isCausal {
        count /= 2
        if distance > 0 { first = count }
        length = abs(distance)
      }
      let exact = count / 2
      if length < exact { return first + length }
      guard exact > 0, maximumDistance > exact else { return first + count - 1 }
      // Single precision and truncation, as in the original.
      let share =
        Float.log(Float(length) / Float(exact)) / Float(Double.log(Double(maximumDistance) / Double(exact)))
      return first + min(exact + Int(share * Float(count - exact)), count - 1)
    }
  }

  /// The encoder of an encoder–decoder; its layers have the decoder's sizes.
  public struct Encoder: Sendable, Equatable {
    /// Layers of the encoder.
    public var layerCount: Int
    /// The token that every output begins with; it is no part of the text.
    public var startToken: Int

    /// Sets both numbers.
    public init(layerCount: Int, startToken: Int) {
      self.layerCount = layerCount
      self.startToken = startToken
    }
  }

  /// Sets what T5 does unlike the Llama family.
  ///
  /// - Parameter scalesOutput: Whether the last hidden state is scaled by 1/√hiddenSize, as where the unembedding is
  ///   the embedding matrix.
  mutating func setT5(
    encoder: Encoder, relativePositions: RelativePositions, activation: Activation, scalesOutput: Bool
  ) {
    self.encoder = encoder
    self.relativePositions = relativePositions
    self.activation = activation
    queryScale = 1
    outputScale = scalesOutput ? 1 / Float(max(hiddenSize, 1)).squareRoot() : 1
  }

  /// The limits of what T5 has beside a decoder.
  func checkT5Limits(
    file: String, field: (PartialKeyPath<DecoderConfiguration>) -> String
  ) throws(CheckpointError) {
    if let encoder {
      guard (1...1024).contains(encoder.layerCount) else {
        throw .damaged(
          file, "\(field(\.encoder)): layers", expected: "1 to 1024", found: "\(encoder.layerCount)")
      }
      guard (0..<vocabularySize).contains(encoder.startToken) else {
        throw .damaged(
          file, "\(field(\.encoder)): decoder start token", expected: "in 0..<\(vocabularySize)",
          found: "\(encoder.startToken)")
      }
    }
    guard let relativePositions else { return }
    // A number for every distance is kept.
    guard contextLength <= 65_536 else {
      throw .damaged(file, field(\.contextLength), expected: "1 to 65536", found: "\(contextLength)")
    }
    guard (2...4096).contains(relativePositions.bucketCount), relativePositions.bucketCount % 2 == 0 else {
      throw .damaged(
        file, "\(field(\.relativePositions)): buckets", expected: "an even number from 2 to 4096",
        found: "\(relativePositions.bucketCount)")
    }
    guard (1...65_536).contains(relativePositions.maximumDistance) else {
      throw .damaged(
        file, "\(field(\.relativePositions)): largest distance", expected: "1 to 65536",
        found: "\(relativePositions.maximumDistance)")
    }
  }

  /// The tensors of a T5 model.
  var demandedT5Tensors: [(name: String, shape: [Int])] {
    guard let encoder, let relativePositions else { return [] }
    let inner = headCount * headSize
    var result: [(name: String, shape: [Int])] = [
      ("token_embd.weight", [vocabularySize, hiddenSize]),
      ("enc.output_norm.weight", [hiddenSize]),
      ("dec.output_norm.weight", [hiddenSize]),
      ("enc.blk.0.attn_rel_b.weight", [relativePositions.bucketCount, headCount]),
      ("dec.blk.0.attn_rel_b.weight", [relativePositions.bucketCount, headCount]),
    ]
    if !hasTiedEmbedding { result.append(("output.weight", [vocabularySize, hiddenSize])) }
    func attention(_ prefix: String) {
      result.append(("\(prefix)_norm.weight", [hiddenSize]))
      for name in ["q", "k", "v"] { result.append(("\(prefix)_\(name).weight", [inner, hiddenSize])) }
      result.append(("\(prefix)_o.weight", [hiddenSize, inner]))
    }
    for (stack, count) in [("enc", encoder.layerCount), ("dec", layerCount)] {
      for layer in 0..<count {
        let prefix = "\(stack).blk.\(layer)."
        attention(prefix + "attn")
        if stack == "dec" { attention(prefix + "cross_attn") }
        result.append((prefix + "ffn_norm.weight", [hiddenSize]))
        if activation.isGated { result.append((prefix + "ffn_gate.weight", [feedForwardSize, hiddenSize])) }
        result.append((prefix + "ffn_up.weight", [feedForwardSize, hiddenSize]))
        result.append((prefix + "ffn_down.weight", [hiddenSize, feedForwardSize]))
      }
    }
    return result
  }
}

/// The part of T5's `config.json` that the forward pass depends on, in the spelling of the file.
struct T5HuggingFaceConfiguration: Decodable {
  var vocab_size: Double
  var d_model: Double
  var d_kv: Double
  var d_ff: Double
  var num_layers: Double
  var num_decoder_layers: Double?
  var num_heads: Double
  var relative_attention_num_buckets: Double?
  var relative_attention_max_distance: Double?
  var layer_norm_epsilon: Double?
  var feed_forward_proj: String?
  var n_positions: Double?
  var decoder_start_token_id: Double?
  var pad_token_id: Double?
  var tie_word_embeddings: Bool?
  /// Newer files state the scaling of the output by itself.
  var scale_decoder_outputs: Bool?

  /// What all T5 models were trained with, where the file does not say it.
  static let usualContext = 512

  func configuration(_ path: String, name: String) throws(CheckpointError) -> DecoderConfiguration {
    func whole(_ value: Double, _ field: String) throws(CheckpointError) -> Int {
      guard let result = Int(exactly: value) else {
        throw .damaged(path, field, expected: "an integer", found: "\(value)")
      }
      return result
    }
    let activation: DecoderConfiguration.Activation
    switch feed_forward_proj ?? "relu" {
    case "relu": activation = .relu
    case "gated-gelu", "gated-gelu_new": activation = .gatedGelu
    case "gated-silu": activation = .gatedSilu
    case let other:
      throw .unsupported(
        path, "feed_forward_proj", expected: "relu, gated-gelu or gated-silu",
        found: "\"\(CheckpointError.printable(other))\"")
    }
    let heads = try whole(num_heads, "num_heads")
    // Files that state the scaling call every model tied; those without it have an unembedding of their own.
    let isTied = (tie_word_embeddings ?? true) && scale_decoder_outputs != false
    var result = DecoderConfiguration(
      family: .t5, name: name,
      layerCount: try whole(num_decoder_layers ?? num_layers, "num_decoder_layers"),
      hiddenSize: try whole(d_model, "d_model"), feedForwardSize: try whole(d_ff, "d_ff"), headCount: heads,
      keyValueHeadCount: heads, headSize: try whole(d_kv, "d_kv"),
      vocabularySize: try whole(vocab_size, "vocab_size"),
      contextLength: try whole(n_positions ?? Double(Self.usualContext), "n_positions"),
      normEpsilon: Float(layer_norm_epsilon ?? 1e-6), rotaryBase: 10_000, rotaryDimension: 0,
      rotaryLayout: .halves, rotaryScaling: .none, hasAttentionBias: false, hasTiedEmbedding: isTied)
    result.setT5(
      encoder: DecoderConfiguration.Encoder(
        layerCount: try whole(num_layers, "num_layers"),
        startToken: try whole(decoder_start_token_id ?? pad_token_id ?? 0, "decoder_start_token_id")),
      relativePositions: DecoderConfiguration.RelativePositions(
        bucketCount: try whole(relative_attention_num_buckets ?? 32, "relative_attention_num_buckets"),
        maximumDistance: try whole(relative_attention_max_distance ?? 128, "relative_attention_max_distance")),
      activation: activation, scalesOutput: scale_decoder_outputs ?? isTied)
    try result.checkLimits(file: path, field: Self.field)
    return result
  }

  private static func field(_ property: PartialKeyPath<DecoderConfiguration>) -> String {
    switch property {
    case \.layerCount: "num_decoder_layers"
    case \.hiddenSize: "d_model"
    case \.feedForwardSize: "d_ff"
    case \.headCount, \.keyValueHeadCount: "num_heads"
    case \.headSize: "d_kv"
    case \.vocabularySize: "vocab_size"
    case \.contextLength: "n_positions"
    case \.normEpsilon: "layer_norm_epsilon"
    case \.relativePositions: "relative_attention"
    case \.encoder: "encoder"
    default: "configuration"
    }
  }
}
