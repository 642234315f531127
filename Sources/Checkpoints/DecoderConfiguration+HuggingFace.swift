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
    let stated = try JSONStructure.decode(
      HuggingFaceConfiguration.self, from: file.bytes, file: file.path, field: "")
    let family = try stated.family(file.path)
    try stated.refuseForeignFeatures(file.path, family: family)
    guard stated.hidden_size > 0, stated.num_attention_heads > 0 else {
      throw .damaged(
        file.path, "num_attention_heads", expected: "positive head count and hidden size",
        found: "\(stated.num_attention_heads) and \(stated.hidden_size)")
    }
    let headSize = stated.head_dim ?? stated.hidden_size / stated.num_attention_heads
    self.init(
      family: family,
      name: name,
      layerCount: stated.num_hidden_layers,
      hiddenSize: stated.hidden_size,
      feedForwardSize: stated.intermediate_size,
      headCount: stated.num_attention_heads,
      keyValueHeadCount: stated.num_key_value_heads ?? stated.num_attention_heads,
      headSize: headSize,
      vocabularySize: stated.vocab_size,
      contextLength: stated.max_position_embeddings,
      normEpsilon: stated.rms_norm_eps,
      rotaryBase: stated.rope_parameters?.rope_theta ?? stated.rope_theta ?? 10_000,
      rotaryDimension: headSize,
      rotaryLayout: .halves,
      rotaryScaling: try stated.rotaryScaling(file.path),
      hasAttentionBias: family == .qwen2 || stated.attention_bias == true,
      hasTiedEmbedding: stated.tie_word_embeddings ?? false)
    try checkLimits(file: file.path, field: HuggingFaceConfiguration.field)
  }
}

/// The part of `config.json` that a decoder's forward pass depends on, in the spelling of the file.
private struct HuggingFaceConfiguration: Decodable {
  static let byteLimit = 16_000_000

  var model_type: String
  var hidden_size: Int
  var intermediate_size: Int
  var num_hidden_layers: Int
  var num_attention_heads: Int
  var num_key_value_heads: Int?
  var head_dim: Int?
  var vocab_size: Int
  var max_position_embeddings: Int
  var rms_norm_eps: Float
  var rope_theta: Float?
  var rope_scaling: Rotary?
  /// Newer files put base and scaling into one object.
  var rope_parameters: Rotary?
  var tie_word_embeddings: Bool?
  var attention_bias: Bool?
  var mlp_bias: Bool?
  var hidden_act: String?
  var use_sliding_window: Bool?
  var partial_rotary_factor: Float?
  var quantization_config: Quantization?

  struct Quantization: Decodable {
    var quant_method: String?
  }

  struct Rotary: Decodable {
    /// Older files call it `type`.
    var rope_type: String?
    var type: String?
    var rope_theta: Float?
    var factor: Float?
    var low_freq_factor: Float?
    var high_freq_factor: Float?
    var original_max_position_embeddings: Int?
  }

  func family(_ path: String) throws(CheckpointError) -> DecoderConfiguration.Family {
    guard let family = DecoderConfiguration.Family(rawValue: model_type) else {
      throw .unsupported(
        path, "model_type",
        expected: DecoderConfiguration.Family.allCases.map(\.rawValue).joined(separator: " or "),
        found: "\"\(CheckpointError.printable(model_type))\"")
    }
    return family
  }

  /// Features that change the forward pass and that no tensor's name gives away.
  func refuseForeignFeatures(
    _ path: String, family: DecoderConfiguration.Family
  ) throws(CheckpointError) {
    if let hidden_act, hidden_act != "silu", hidden_act != "swish" {
      throw .unsupported(
        path, "hidden_act", expected: "silu", found: "\"\(CheckpointError.printable(hidden_act))\"")
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
    guard let scaling = rope_parameters ?? rope_scaling else { return .none }
    func required<Value>(_ value: Value?, _ name: String) throws(CheckpointError) -> Value {
      guard let value else {
        throw .damaged(path, "\(field): \(name)", expected: "a number", found: "no such key")
      }
      return value
    }
    switch scaling.rope_type ?? scaling.type {
    case "default", nil: return .none
    case "linear": return .linear(factor: try required(scaling.factor, "factor"))
    case "llama3":
      return .llama3(
        factor: try required(scaling.factor, "factor"),
        lowFrequencyFactor: try required(scaling.low_freq_factor, "low_freq_factor"),
        highFrequencyFactor: try required(scaling.high_freq_factor, "high_freq_factor"),
        originalContext: try required(
          scaling.original_max_position_embeddings, "original_max_position_embeddings"))
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
    default: "configuration"
    }
  }
}
