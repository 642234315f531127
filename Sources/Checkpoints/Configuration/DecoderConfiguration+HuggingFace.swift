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
      contextLength: try whole(stated.max_position_embeddings, "max_position_embeddings"),
      normEpsilon: Float(stated.rms_norm_eps),
      rotaryBase: Float(stated.rotaryBase(family)),
      rotaryDimension: headSize,
      rotaryLayout: .halves,
      rotaryScaling: try stated.rotaryScaling(file.path),
      hasAttentionBias: family == .qwen2 || stated.attention_bias == true,
      hasTiedEmbedding: stated.tie_word_embeddings ?? (family == .gemma3))
    if family == .gemma3 {
      setGemma3(
        window: try whole(stated.sliding_window ?? 4096, "sliding_window"),
        period: try whole(stated.sliding_window_pattern ?? 6, "sliding_window_pattern"),
        localBase: Float(stated.localRotaryBase))
      if let types = stated.layer_types {
        guard types.count == layerCount else {
          throw .damaged(
            file.path, "layer_types", expected: "\(layerCount) of them", found: "\(types.count)")
        }
        slidingWindow?.layers = Set(types.indices.filter { types[$0] == "sliding_attention" })
      }
      if let scalar = stated.query_pre_attn_scalar { queryScale = 1 / Float(scalar).squareRoot() }
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
private struct HuggingFaceConfiguration: Decodable {
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

  func rotaryBase(_ family: DecoderConfiguration.Family) -> Double {
    rope_parameters?.all.rope_theta ?? rope_theta ?? (family == .gemma3 ? 1_000_000 : 10_000)
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
    guard let family = DecoderConfiguration.Family.allCases.first(where: { $0.modelType == model_type })
    else {
      throw .unsupported(
        path, "model_type",
        expected: DecoderConfiguration.Family.allCases.map(\.modelType).joined(separator: " or "),
        found: "\"\(CheckpointError.printable(model_type))\"")
    }
    return family
  }

  /// Features that change the forward pass and that no tensor's name gives away.
  func refuseForeignFeatures(
    _ path: String, family: DecoderConfiguration.Family
  ) throws(CheckpointError) {
    let activations = family == .gemma3 ? ["gelu_pytorch_tanh"] : ["silu", "swish"]
    for (field, found) in [("hidden_act", hidden_act), ("hidden_activation", hidden_activation)] {
      guard let found, !activations.contains(found) else { continue }
      throw .unsupported(
        path, field, expected: activations[0], found: "\"\(CheckpointError.printable(found))\"")
    }
    for (field, found) in [
      ("attn_logit_softcapping", attn_logit_softcapping),
      ("final_logit_softcapping", final_logit_softcapping),
    ] {
      if let found { throw .unsupported(path, field, expected: "null", found: "\(found)") }
    }
    if use_bidirectional_attention == true {
      throw .unsupported(path, "use_bidirectional_attention", expected: "false", found: "true")
    }
    if use_sliding_window == true {
      throw .unsupported(path, "use_sliding_window", expected: "false", found: "true")
    }
    if mlp_bias == true {
      throw .unsupported(path, "mlp_bias", expected: "false", found: "true")
    }
    if let partial_rotary_factor, partial_rotary_factor != 1 {
      throw .unsupported(path, "partial_rotary_factor", expected: "1", found: "\(partial_rotary_factor)")
    }
    if let quantization_config {
      throw .unsupported(
        path, "quantization_config", expected: "weights of F32, F16 or BF16",
        found: CheckpointError.printable(quantization_config.quant_method ?? "another"))
    }
  }

  func rotaryScaling(_ path: String) throws(CheckpointError) -> DecoderConfiguration.RotaryScaling {
    let field = rope_parameters == nil ? "rope_scaling" : "rope_parameters"
    guard let scaling = rope_parameters?.all ?? rope_scaling else { return .none }
    func required<Value>(_ value: Value?, _ name: String) throws(CheckpointError) -> Value {
      guard let value else {
        throw .damaged(path, "\(field): \(name)", expected: "a number", found: "no such key")
      }
      return value
    }
    switch scaling.rope_type ?? scaling.type {
    case "default", nil: return .none
    case "linear": return .linear(factor: Float(try required(scaling.factor, "factor")))
    case "llama3":
      return .llama3(
        factor: Float(try required(scaling.factor, "factor")),
        lowFrequencyFactor: Float(try required(scaling.low_freq_factor, "low_freq_factor")),
        highFrequencyFactor: Float(try required(scaling.high_freq_factor, "high_freq_factor")),
        originalContext: try HuggingFaceConfiguration.whole(
          try required(scaling.original_max_position_embeddings, "original_max_position_embeddings"),
          "\(field): original_max_position_embeddings", path))
    case let type?:
      throw .unsupported(
        path, "\(field): rope_type", expected: "default, linear or llama3",
        found: "\"\(CheckpointError.printable(type))\"")
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
