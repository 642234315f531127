import FileFormats

extension DecoderConfiguration {
  /// Reads the configuration from GGUF metadata and, for what metadata does not state, from the tensors.
  init(gguf: GGUFFile, path: String) throws(CheckpointError) {
    let facts = GGUFFacts(gguf: gguf, path: path)
    let architecture = try facts.string("general.architecture")
    guard let family = Family(rawValue: architecture) else {
      throw .unsupported(
        path, "metadata key general.architecture",
        expected: Family.allCases.map(\.rawValue).joined(separator: " or "),
        found: "\"\(CheckpointError.printable(architecture))\"")
    }
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
      // The converter reorders the rows of Q and K of the Llama family, and of no other.
      rotaryLayout: family == .llama ? .interleaved : .halves,
      rotaryScaling: try facts.rotaryScaling(architecture, rotaryDimension: rotaryDimension),
      hasAttentionBias: family == .qwen2 || gguf.tensors["blk.0.attn_q.bias"] != nil,
      hasTiedEmbedding: gguf.tensors["output.weight"] == nil)
    if family == .gemma3 {
      setGemma3(
        window: try facts.int("\(architecture).attention.sliding_window", default: 0), period: 6,
        localBase: try facts.float("\(architecture).rope.freq_base_swa", default: 10_000))
      // The largest model alone scales its queries by the width of the residual stream.
      if layerCount == 62 { queryScale = 1 / (Float(hiddenSize) / Float(headCount)).squareRoot() }
    }
    try checkLimits(file: path) { GGUFFacts.field($0, architecture) }
  }
}

/// Typed access to the metadata of one GGUF file, with errors that name the key.
private struct GGUFFacts {
  let gguf: GGUFFile
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
    if let tokens = gguf.metadata["tokenizer.ggml.tokens"] {
      guard let tokens = tokens.mappedStrings, tokens.count == rows else {
        throw .damaged(
          path, "metadata key tokenizer.ggml.tokens",
          expected: "\(rows) strings, one a row of token_embd.weight", found: tokens.kindName)
      }
    }
    return rows
  }

  func rotaryScaling(
    _ architecture: String, rotaryDimension: Int
  ) throws(CheckpointError) -> DecoderConfiguration.RotaryScaling {
    let factor = try rotaryFactor(architecture)
    guard let tensor = gguf.tensors["rope_freqs.weight"] else {
      return factor == 1 ? .none : .linear(factor: factor)
    }
    guard tensor.shape == [rotaryDimension / 2], tensor.format == .f32 else {
      throw CheckpointError(
        kind: .tensor, file: path, field: "tensor rope_freqs.weight",
        expected: "\(rotaryDimension / 2) of F32",
        found: "\(MappedTensor.describe(tensor.shape)) of \(tensor.format.name)")
    }
    // Both rules divide the frequencies, so that one list of divisors states them together.
    return .divisors(tensor.makeFloats().map { $0 * factor })
  }

  /// The factor of linear scaling; 1 when there is none.
  private func rotaryFactor(_ architecture: String) throws(CheckpointError) -> Float {
    let key = "\(architecture).rope.scaling"
    let type = try value("\(key).type", expected: "a string", \.string)
    switch type {
    case "none": return 1
    case "linear", nil:
      // Files older than the `scaling` keys call the factor `scale_linear`.
      let factor = try float(
        "\(key).factor", default: try float("\(architecture).rope.scale_linear", default: 1))
      // A factor of 0 is written for "none".
      return factor == 0 ? 1 : factor
    case let type?:
      throw .unsupported(
        path, "metadata key \(key).type", expected: "none or linear",
        found: "\"\(CheckpointError.printable(type))\"")
    }
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
