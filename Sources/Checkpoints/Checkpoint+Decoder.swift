import FileFormats

extension Checkpoint {
  /// Checks that every tensor the configuration demands is there with the right shape, and that no layer has a
  /// tensor that the forward pass would leave out.
  ///
  /// ``open(_:)`` has done it; it is there for configurations that were changed afterwards.
  ///
  /// - Throws: ``CheckpointError`` naming the tensor, the shape expected and what was found.
  public func validateDecoderTensors() throws(CheckpointError) {
    try validate(
      configuration.family == .t5 ? configuration.demandedT5Tensors : configuration.demandedTensors)
  }

  func validate(_ demanded: [(name: String, shape: [Int])]) throws(CheckpointError) {
    for (name, shape) in demanded {
      let expected = MappedTensor.describe(shape)
      guard hasTensor(name) else { throw missingTensor(name, expected: expected) }
      let tensor = try tensor(name)
      guard tensor.shape == shape else {
        throw CheckpointError(
          kind: .tensor, file: tensor.path, field: "tensor \(storedName(name))", expected: expected,
          found: MappedTensor.describe(tensor.shape))
      }
    }
    let names = Set(demanded.map(\.name))
    let prefixes = ["blk.", "enc.blk.", "dec.blk."]
    for name in tensorNames
    where prefixes.contains(where: name.hasPrefix) && !names.contains(name)
      && !HuggingFaceNames.isUnused(name)
    {
      throw CheckpointError(
        kind: .unsupported, file: try tensor(name).path,
        field: "tensor \(CheckpointError.printable(storedName(name)))",
        expected:
          "only tensors of a \(configuration.family.rawValue) decoder of \(configuration.layerCount) layers",
        found: "one of another kind")
    }
  }
}

extension DecoderConfiguration {
  /// The tensors of a decoder with this configuration, outermost dimension first.
  var demandedTensors: [(name: String, shape: [Int])] {
    var result: [(name: String, shape: [Int])] = [
      ("token_embd.weight", [vocabularySize, hiddenSize]),
      ("output_norm.weight", [hiddenSize]),
    ]
    if !hasTiedEmbedding { result.append(("output.weight", [vocabularySize, hiddenSize])) }
    for layer in 0..<layerCount { result += demandedTensors(ofLayer: layer) }
    return result
  }

  /// The tensors of one of its layers.
  func demandedTensors(ofLayer layer: Int) -> [(name: String, shape: [Int])] {
    let queries = headCount * headSize
    let keys = keyValueHeadCount * headSize
    let prefix = "blk.\(layer)."
    var result: [(name: String, shape: [Int])] = [
      ("attn_q.weight", [queries, hiddenSize]),
      ("attn_k.weight", [keys, hiddenSize]),
      ("attn_v.weight", [keys, hiddenSize]),
      ("attn_output.weight", [hiddenSize, queries]),
      ("ffn_gate.weight", [feedForwardSize, hiddenSize]),
      ("ffn_up.weight", [feedForwardSize, hiddenSize]),
      ("ffn_down.weight", [hiddenSize, feedForwardSize]),
    ]
    if hasInputNorms { result += [("attn_norm.weight", [hiddenSize]), ("ffn_norm.weight", [hiddenSize])] }
    if hasPostNorms {
      result += [("post_attention_norm.weight", [hiddenSize]), ("post_ffw_norm.weight", [hiddenSize])]
    }
    switch queryKeyNorm {
    case .none: break
    case .heads: result += [("attn_q_norm.weight", [headSize]), ("attn_k_norm.weight", [headSize])]
    case .whole: result += [("attn_q_norm.weight", [queries]), ("attn_k_norm.weight", [keys])]
    }
    if hasAttentionBias {
      result += [("attn_q.bias", [queries]), ("attn_k.bias", [keys]), ("attn_v.bias", [keys])]
    }
    if hasOutputBias { result.append(("attn_output.bias", [hiddenSize])) }
    if hasFeedForwardBias {
      result += [
        ("ffn_gate.bias", [feedForwardSize]), ("ffn_up.bias", [feedForwardSize]),
        ("ffn_down.bias", [hiddenSize]),
      ]
    }
    return result.map { (prefix + $0.name, $0.shape) }
  }
}
