import FileFormats

extension DecoderConfiguration {
  /// Reads the configuration from the `config.json` of a Hugging Face directory.
  ///
  /// - Parameter name: the model's name, which `config.json` need not state.
  init(huggingFace file: MappedFile, name: String) throws(CheckpointError) {
    guard file.bytes.count <= HuggingFaceConfiguration.byteLimit else {
      throw .damaged(
        file.path, "", expected: "at most \(HuggingFaceConfiguration.byteLimit) bytes",
        found: "\(file.bytes.count)")
    }
    let kind = try JSONStructure.decode(ModelKind.self, from: file.bytes, file: file.path, field: "")
    // mT5 is T5 1.1 with another vocabulary.
    if kind.model_type == "t5" || kind.model_type == "mt5" {
      self = try JSONStructure.decode(
        T5HuggingFaceConfiguration.self, from: file.bytes, file: file.path, field: ""
      ).configuration(file.path, name: name)
      return
    }
    let stated = try JSONStructure.decode(
      HuggingFaceConfiguration.self, from: file.bytes, file: file.path, field: "")
    let family = try stated.family(file.path)
    try stated.refuseForeignFeatures(file.path, family: family)
    func whole(_ value: Double, _ field: String) throws(CheckpointError) -> Int {
      try HuggingFaceConfiguration.whole(value, field, file.path)
    }
    let hiddenSize = try whole(stated.hidden_size, "hidden_size")
    let headCount = try whole(stated.num_attention_heads, "num_attention_heads")
    guard hiddenSize > 0, headCount > 0 else {
      throw .damaged(
        file.path, "num_attention_heads", expected: "positive head count and hidden size",
        found: "\(headCount) and \(hiddenSize)")
    }
    let headSize = try whole(stated.head_dim ?? Double(hiddenSize / headCount), "head_dim")
    let description = family.description
    let partial = stated.rope_parameters?.all.partial_rotary_factor ?? stated.partial_rotary_factor ?? 1
    guard partial > 0, partial <= 1 else {
      throw .damaged(
        file.path, "partial_rotary_factor", expected: "above 0 and at most 1", found: "\(partial)")
    }
    let contextLength = try whole(stated.max_position_embeddings, "max_position_embeddings")
    let rotaryDimension = Int(Double(max(0, min(headSize, 1 << 20))) * partial)
    self.init(
      family: family,
      name: name,
      layerCount: try whole(stated.num_hidden_layers, "num_hidden_layers"),
      hiddenSize: hiddenSize,
      feedForwardSize: try whole(stated.intermediate_size, "intermediate_size"),
      headCount: headCount,
      keyValueHeadCount: try whole(stated.num_key_value_heads ?? Double(headCount), "num_key_value_heads"),
      headSize: headSize,
      vocabularySize: try whole(stated.vocab_size, "vocab_size"),
      contextLength: contextLength,
      normEpsilon: Float(stated.rms_norm_eps),
      rotaryBase: Float(stated.rotaryBase(description)),
      rotaryDimension: rotaryDimension,
      rotaryLayout: .halves,
      rotaryScaling: try stated.rotaryScaling(
        file.path, contextLength: contextLength, dimension: rotaryDimension),
      hasAttentionBias: description.hasQueryBias || stated.attention_bias == true,
      hasTiedEmbedding: stated.tie_word_embeddings ?? description.isTiedByDefault)
    apply(description)
    hasOutputBias = stated.attention_bias == true && description.biasesOutput
    hasFeedForwardBias = stated.mlp_bias == true
    if case .dynamic(let factor, let original) = rotaryScaling, factor >= 1, factor <= 1024 {
      // The rule is for sequences longer than those the model was trained on.
      self.contextLength = max(contextLength, Int(Float(min(original, 1 << 24)) * factor))
    }
    try stated.setWindow(&self, description, file.path)
    try stated.setPositionless(&self, file.path)
    if let scalar = stated.query_pre_attn_scalar { queryScale = 1 / Float(scalar).squareRoot() }
    if family == .granite {
      embeddingScale = Float(stated.embedding_multiplier ?? 1)
      residualScale = Float(stated.residual_multiplier ?? 1)
      queryScale = Float(stated.attention_multiplier ?? 1)
      outputScale = 1 / Float(stated.logits_scaling ?? 1)
    }
    if family == .gemma2 {
      attentionLogitCap = stated.attn_logit_softcapping.map { Float($0) }
      outputLogitCap = stated.final_logit_softcapping.map { Float($0) }
    }
    try checkLimits(file: file.path, field: HuggingFaceConfiguration.field)
  }
}

/// What tells which fields `config.json` has.
private struct ModelKind: Decodable {
  var model_type: String
}

/// The part of `config.json` that a decoder's forward pass depends on, in the spelling of the file.
///
/// Numbers are decoded as `Double`: when one does not fit an integer type, Foundation's error does not say which.
struct HuggingFaceConfiguration: Decodable {
  static let byteLimit = 16_000_000

  var model_type: String
  var hidden_size: Double
  var intermediate_size: Double
  var num_hidden_layers: Double
  var num_attention_heads: Double
  var num_key_value_heads: Double?
  var head_dim: Double?
  var vocab_size: Double
  var max_position_embeddings: Double
  var rms_norm_eps: Double
  var rope_theta: Double?
  var rope_scaling: Rotary?
  /// Newer files put base and scaling into one object.
  var rope_parameters: RotaryByLayer?
  var tie_word_embeddings: Bool?
  var attention_bias: Bool?
  var mlp_bias: Bool?
  var hidden_act: String?
  var use_sliding_window: Bool?
  var partial_rotary_factor: Double?
  var sliding_window: Double?
  var sliding_window_pattern: Double?
  var layer_types: [String]?
  var rope_local_base_freq: Double?
  var query_pre_attn_scalar: Double?
  var hidden_activation: String?
  var attn_logit_softcapping: Double?
  var final_logit_softcapping: Double?
  var use_bidirectional_attention: Bool?
  var quantization_config: Quantization?
  var max_window_layers: Double?
  var no_rope_layers: [Double]?
  var no_rope_layer_interval: Double?
  var original_max_position_embeddings: Double?
  var embedding_multiplier: Double?
  var residual_multiplier: Double?
  var attention_multiplier: Double?
  var logits_scaling: Double?
  var num_local_experts: Double?
  var num_experts: Double?

  struct Quantization: Decodable {
    var quant_method: String?
  }

  struct Rotary: Decodable {
    /// Older files call it `type`.
    var rope_type: String?
    var type: String?
    var rope_theta: Double?
    var factor: Double?
    var low_freq_factor: Double?
    var high_freq_factor: Double?
    var original_max_position_embeddings: Double?
    var partial_rotary_factor: Double?
    var attention_factor: Double?
    var beta_fast: Double?
    var beta_slow: Double?
    var mscale: Double?
    var mscale_all_dim: Double?
    var truncate: Bool?
    var short_factor: [Double]?
    var long_factor: [Double]?
  }

  /// One set of parameters, or one for each kind of layer.
  struct RotaryByLayer: Decodable {
    var all: Rotary
    var sliding: Rotary?

    private struct Kinds: Decodable {
      var full_attention: Rotary?
      var sliding_attention: Rotary?
    }

    init(from decoder: any Decoder) throws {
      let kinds = try Kinds(from: decoder)
      sliding = kinds.sliding_attention
      all = try kinds.full_attention ?? Rotary(from: decoder)
    }
  }

  func rotaryBase(_ description: FamilyDescription) -> Double {
    rope_parameters?.all.rope_theta ?? rope_theta ?? description.usualRotaryBase
  }

  var localRotaryBase: Double { rope_parameters?.sliding?.rope_theta ?? rope_local_base_freq ?? 10_000 }

  /// A number that must be an integer.
  static func whole(_ value: Double, _ field: String, _ path: String) throws(CheckpointError) -> Int {
    guard let result = Int(exactly: value) else {
      throw .damaged(path, field, expected: "an integer", found: "\(value)")
    }
    return result
  }

  func family(_ path: String) throws(CheckpointError) -> DecoderConfiguration.Family {
    guard let family = DecoderConfiguration.Family(modelType: model_type) else {
      throw .unsupported(
        path, "model_type",
        expected: DecoderConfiguration.Family.allCases.map(\.description.modelType).joined(separator: " or "),
        found: "\"\(CheckpointError.printable(model_type))\""
          + DecoderConfiguration.Family.hint(for: model_type))
    }
    return family
  }

  /// Features that change the forward pass and that no tensor's name gives away.
  func refuseForeignFeatures(
    _ path: String, family: DecoderConfiguration.Family
  ) throws(CheckpointError) {
    let activations = family.description.activationNames
    // Gemma 2 states the exact function too, and computes by the formula of `hidden_activation`.
    let stated =
      hidden_activation == nil ? [("hidden_act", hidden_act)] : [("hidden_activation", hidden_activation)]
    for (field, found) in stated {
      guard let found, !activations.contains(found) else { continue }
      throw .unsupported(
        path, field, expected: activations[0], found: "\"\(CheckpointError.printable(found))\"")
    }
    for (field, found) in [
      ("attn_logit_softcapping", attn_logit_softcapping),
      ("final_logit_softcapping", final_logit_softcapping),
    ] {
      if let found, family != .gemma2 { throw .unsupported(path, field, expected: "null", found: "\(found)") }
    }
    if use_bidirectional_attention == true {
      throw .unsupported(path, "use_bidirectional_attention", expected: "false", found: "true")
    }
    for (field, found) in [("num_local_experts", num_local_experts), ("num_experts", num_experts)] {
      if let found, found != 0 {
        throw .unsupported(path, field, expected: "a model without experts", found: "\(found)")
      }
    }
    if let quantization_config {
      throw .unsupported(
        path, "quantization_config", expected: "weights of F32, F16 or BF16",
        found: CheckpointError.printable(quantization_config.quant_method ?? "another"))
    }
  }

  /// What `config.json` calls a property of the configuration.
  static func field(_ property: PartialKeyPath<DecoderConfiguration>) -> String {
    switch property {
    case \.layerCount: "num_hidden_layers"
    case \.hiddenSize: "hidden_size"
    case \.feedForwardSize: "intermediate_size"
    case \.headCount: "num_attention_heads"
    case \.keyValueHeadCount: "num_key_value_heads"
    case \.headSize, \.rotaryDimension: "head_dim"
    case \.vocabularySize: "vocab_size"
    case \.contextLength: "max_position_embeddings"
    case \.normEpsilon: "rms_norm_eps"
    case \.rotaryBase: "rope_theta"
    case \.rotaryScaling: "rope_scaling"
    case \.slidingWindow: "sliding_window"
    case \.queryScale: "query_pre_attn_scalar"
    default: "configuration"
    }
  }
}
