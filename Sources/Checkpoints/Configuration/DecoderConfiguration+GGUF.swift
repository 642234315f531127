import FileFormats

extension DecoderConfiguration {
  /// Reads the configuration from GGUF metadata and, for what metadata does not state, from the tensors.
  init(gguf: GGUFParts, path: String) throws(CheckpointError) {
    let facts = GGUFFacts(gguf: gguf, path: path)
    let architecture = try facts.string("general.architecture")
    guard let family = Family(architecture: architecture) else {
      throw .unsupported(
        path, "metadata key general.architecture",
        expected: Family.allCases.compactMap(\.description.architecture).joined(separator: " or "),
        found: "\"\(CheckpointError.printable(architecture))\"\(Family.hint(for: architecture))")
    }
    let description = family.description
    try facts.refuseForeignFeatures(of: architecture)
    if family == .t5 {
      self = try facts.t5Configuration(
        name: gguf.metadata["general.name"]?.string ?? Checkpoint.stem(of: path))
      return
    }
    let hiddenSize = try facts.int("\(architecture).embedding_length")
    let headCount = try facts.int("\(architecture).attention.head_count")
    guard hiddenSize > 0, headCount > 0 else {
      throw .damaged(
        path, "metadata key \(architecture).attention.head_count",
        expected: "positive head count and hidden size",
        found: "\(headCount) and \(hiddenSize)")
    }
    let headSize = try facts.int("\(architecture).attention.key_length", default: hiddenSize / headCount)
    let valueSize = try facts.int("\(architecture).attention.value_length", default: headSize)
    guard valueSize == headSize else {
      throw .unsupported(
        path, "metadata key \(architecture).attention.value_length", expected: "the key length, \(headSize)",
        found: "\(valueSize)")
    }
    let rotaryDimension = try facts.int("\(architecture).rope.dimension_count", default: headSize)
    let vocabularySize = try facts.vocabularySize(architecture)
    self.init(
      family: family,
      name: gguf.metadata["general.name"]?.string ?? Checkpoint.stem(of: path),
      layerCount: try facts.int("\(architecture).block_count"),
      hiddenSize: hiddenSize,
      feedForwardSize: try facts.int("\(architecture).feed_forward_length"),
      headCount: headCount,
      keyValueHeadCount: try facts.int("\(architecture).attention.head_count_kv", default: headCount),
      headSize: headSize,
      vocabularySize: vocabularySize,
      contextLength: try facts.int("\(architecture).context_length"),
      normEpsilon: try facts.float("\(architecture).attention.layer_norm_rms_epsilon"),
      rotaryBase: try facts.float("\(architecture).rope.freq_base", default: 10_000),
      rotaryDimension: rotaryDimension,
      rotaryLayout: description.interleavesInGGUF ? .interleaved : .halves,
      rotaryScaling: try facts.rotaryScaling(architecture, rotaryDimension: rotaryDimension),
      hasAttentionBias: description.hasQueryBias || gguf.tensors["blk.0.attn_q.bias"] != nil
        || gguf.tensors["blk.0.attn_qkv.bias"] != nil,
      hasTiedEmbedding: gguf.tensors["output.weight"] == nil)
    apply(description)
    hasOutputBias = gguf.tensors["blk.0.attn_output.bias"] != nil
    hasFeedForwardBias = gguf.tensors["blk.0.ffn_down.bias"] != nil
    try facts.setWindow(&self, description, architecture)
    try facts.setScales(&self, architecture)
    try checkLimits(file: path) { GGUFFacts.field($0, architecture) }
  }
}

/// Typed access to the metadata of one GGUF file, with errors that name the key.
private struct GGUFFacts {
  let gguf: GGUFParts
  let path: String

  private func value<Value>(
    _ key: String, expected: String, _ convert: (MetadataValue) -> Value?
  ) throws(CheckpointError) -> Value? {
    guard let stored = gguf.metadata[key] else { return nil }
    guard let value = convert(stored) else {
      throw .damaged(path, "metadata key \(key)", expected: expected, found: stored.kindName)
    }
    return value
  }

  private func missing(_ key: String, expected: String) -> CheckpointError {
    .damaged(path, "metadata key \(key)", expected: expected, found: "no such key")
  }

  func string(_ key: String) throws(CheckpointError) -> String {
    guard let value = try value(key, expected: "a string", \.string) else {
      throw missing(key, expected: "a string")
    }
    return value
  }

  func int(_ key: String, default fallback: Int? = nil) throws(CheckpointError) -> Int {
    guard let value = try value(key, expected: "an integer", \.int) ?? fallback else {
      throw missing(key, expected: "an integer")
    }
    return value
  }

  func float(_ key: String, default fallback: Float? = nil) throws(CheckpointError) -> Float {
    guard let value = try value(key, expected: "a number", \.float) ?? fallback else {
      throw missing(key, expected: "a number")
    }
    return value
  }

  /// Features that change the forward pass and that no tensor's name gives away.
  func refuseForeignFeatures(of architecture: String) throws(CheckpointError) {
    let experts = try int("\(architecture).expert_count", default: 0)
    guard experts == 0 else {
      throw .unsupported(
        path, "metadata key \(architecture).expert_count", expected: "a model without experts",
        found: "\(experts)")
    }
    let causal = try value("\(architecture).attention.causal", expected: "a boolean", \.bool) ?? true
    guard causal else {
      throw .unsupported(
        path, "metadata key \(architecture).attention.causal", expected: "causal attention", found: "false")
    }
  }

  /// The window of the families that have one. A window of 0 is written for none.
  func setWindow(
    _ configuration: inout DecoderConfiguration, _ description: FamilyDescription, _ architecture: String
  ) throws(CheckpointError) {
    guard description.windowPeriod > 0 || description.windowsEveryLayer else { return }
    let size = try int("\(architecture).attention.sliding_window", default: 0)
    guard size != 0 || description.windowPeriod > 0 else { return }
    configuration.slidingWindow = DecoderConfiguration.SlidingWindow(
      size: size, layers: configuration.windowedLayers(description),
      rotaryBase: configuration.family == .gemma3
        ? try float("\(architecture).rope.freq_base_swa", default: 10_000) : nil)
  }

  /// Factors and caps of Gemma and Granite.
  func setScales(
    _ configuration: inout DecoderConfiguration, _ architecture: String
  ) throws(CheckpointError) {
    switch configuration.family {
    case .gemma2, .gemma3:
      // The largest models alone scale their queries by the width of the residual stream.
      if configuration.layerCount == (configuration.family == .gemma2 ? 46 : 62) {
        configuration.queryScale =
          1 / (Float(configuration.hiddenSize) / Float(configuration.headCount)).squareRoot()
      }
      if configuration.family == .gemma2 {
        configuration.attentionLogitCap = try float("\(architecture).attn_logit_softcapping", default: 50)
        configuration.outputLogitCap = try float("\(architecture).final_logit_softcapping", default: 30)
      }
    case .granite:
      configuration.embeddingScale = try float("\(architecture).embedding_scale", default: 1)
      configuration.residualScale = try float("\(architecture).residual_scale", default: 1)
      configuration.queryScale = try float(
        "\(architecture).attention.scale", default: configuration.queryScale)
      configuration.outputScale = 1 / (try float("\(architecture).logit_scale", default: 1))
    default: break
    }
  }

  /// T5's encoder and decoder. What its files leave out is the same in every model of the family.
  func t5Configuration(name: String) throws(CheckpointError) -> DecoderConfiguration {
    let layers = try int("t5.block_count")
    let heads = try int("t5.attention.head_count")
    let isTied = gguf.tensors["output.weight"] == nil
    var result = DecoderConfiguration(
      family: .t5, name: name, layerCount: try int("t5.decoder_block_count", default: layers),
      hiddenSize: try int("t5.embedding_length"), feedForwardSize: try int("t5.feed_forward_length"),
      headCount: heads, keyValueHeadCount: heads, headSize: try int("t5.attention.key_length"),
      vocabularySize: try vocabularySize("t5"),
      contextLength: try int("t5.context_length", default: T5HuggingFaceConfiguration.usualContext),
      normEpsilon: try float("t5.attention.layer_norm_rms_epsilon", default: 1e-6), rotaryBase: 10_000,
      rotaryDimension: 0, rotaryLayout: .halves, rotaryScaling: .none, hasAttentionBias: false,
      hasTiedEmbedding: isTied)
    result.setT5(
      encoder: DecoderConfiguration.Encoder(
        layerCount: layers, startToken: try int("t5.decoder_start_token_id", default: 0)),
      relativePositions: DecoderConfiguration.RelativePositions(
        bucketCount: try int("t5.attention.relative_buckets_count", default: 32), maximumDistance: 128),
      activation: gguf.tensors["dec.blk.0.ffn_gate.weight"] == nil ? .relu : .gatedGelu,
      // A converter may have written the embedding twice; T5 1.0, without gates, scales in any case.
      scalesOutput: isTied || gguf.tensors["dec.blk.0.ffn_gate.weight"] == nil)
    try result.checkLimits(file: path) { Self.field($0, "t5") }
    return result
  }

  /// The rows of the embedding, which the metadata must agree with where it states the size.
  func vocabularySize(_ architecture: String) throws(CheckpointError) -> Int {
    guard let embedding = gguf.tensors["token_embd.weight"], embedding.shape.count == 2 else {
      throw CheckpointError(
        kind: .tensor, file: path, field: "tensor token_embd.weight", expected: "a matrix",
        found: gguf.tensors["token_embd.weight"].map { MappedTensor.describe($0.shape) } ?? "no such tensor")
    }
    let rows = embedding.shape[0]
    let stated = try int("\(architecture).vocab_size", default: rows)
    guard stated == rows else {
      throw .damaged(
        path, "metadata key \(architecture).vocab_size", expected: "the rows of token_embd.weight, \(rows)",
        found: "\(stated)")
    }
    // Rows of padding have no token, and a token that was added later may have no row.
    if let tokens = gguf.metadata["tokenizer.ggml.tokens"], tokens.mappedStrings == nil {
      throw .damaged(
        path, "metadata key tokenizer.ggml.tokens", expected: "an array of strings", found: tokens.kindName)
    }
    return rows
  }

  func rotaryScaling(
    _ architecture: String, rotaryDimension: Int
  ) throws(CheckpointError) -> DecoderConfiguration.RotaryScaling {
    let key = "\(architecture).rope.scaling"
    let type = try value("\(key).type", expected: "a string", \.string)
    // Files older than the `scaling` keys call the factor `scale_linear`. A factor of 0 is written for none.
    let stated = try float(
      "\(key).factor", default: try float("\(architecture).rope.scale_linear", default: 1))
    let factor = stated == 0 || type == "none" ? 1 : stated
    if gguf.tensors["rope_factors_long.weight"] != nil || type == "longrope" {
      return .longRope(
        short: try divisors("rope_factors_short.weight", count: rotaryDimension / 2),
        long: try divisors("rope_factors_long.weight", count: rotaryDimension / 2),
        originalContext: try int("\(key).original_context_length"),
        magnitude: try float("\(key).attn_factor", default: 1))
    }
    switch type {
    case "none", "linear", nil:
      guard gguf.tensors["rope_freqs.weight"] != nil else {
        return factor == 1 ? .none : .linear(factor: factor)
      }
      // Both rules divide the frequencies, so that one list of divisors states them together.
      return .divisors(try divisors("rope_freqs.weight", count: rotaryDimension / 2).map { $0 * factor })
    case "yarn":
      // As llama.cpp does: the attention factor comes on top of the rule's own.
      let extra = try float("\(key).attn_factor", default: 1)
      return .yarn(
        factor: factor, originalContext: try int("\(key).original_context_length"),
        betaFast: try float("\(key).yarn_beta_fast", default: 32),
        betaSlow: try float("\(key).yarn_beta_slow", default: 1),
        magnitude: extra * DecoderConfiguration.yarnMagnitude(factor), roundsRange: true)
    case let type?:
      throw .unsupported(
        path, "metadata key \(key).type", expected: "none, linear, yarn or longrope",
        found: "\"\(CheckpointError.printable(type))\"")
    }
  }

  private func divisors(_ name: String, count: Int) throws(CheckpointError) -> [Float] {
    guard let tensor = gguf.tensors[name], tensor.shape == [count], tensor.format == .f32 else {
      let found = gguf.tensors[name].map { "\(MappedTensor.describe($0.shape)) of \($0.format.name)" }
      throw CheckpointError(
        kind: .tensor, file: path, field: "tensor \(name)", expected: "\(count) of F32",
        found: found ?? "no such tensor")
    }
    return tensor.makeFloats()
  }

  /// What a GGUF file calls a property of the configuration.
  static func field(_ property: PartialKeyPath<DecoderConfiguration>, _ architecture: String) -> String {
    let name =
      switch property {
      case \.layerCount: "block_count"
      case \.hiddenSize: "embedding_length"
      case \.feedForwardSize: "feed_forward_length"
      case \.headCount: "attention.head_count"
      case \.keyValueHeadCount: "attention.head_count_kv"
      case \.headSize: "attention.key_length"
      case \.vocabularySize: "vocab_size"
      case \.contextLength: "context_length"
      case \.normEpsilon: "attention.layer_norm_rms_epsilon"
      case \.rotaryBase: "rope.freq_base"
      case \.rotaryDimension: "rope.dimension_count"
      case \.rotaryScaling: "rope.scaling"
      case \.relativePositions: "attention.relative_buckets_count"
      case \.encoder: "encoder"
      case \.slidingWindow: "attention.sliding_window"
      default: "configuration"
      }
    return "metadata key \(architecture).\(name)"
  }
}
