import TensorKernels

extension MappedTensor {
  /// Rows of a matrix, or numbers of a vector, as a tensor of their own; they must lie within it.
  func rows(_ range: Range<Int>, named name: String) -> MappedTensor {
    let rowBytes = byteCount / max(shape[0], 1)
    return MappedTensor(
      name: name, shape: [range.count] + shape.dropFirst(), format: format, byteCount: range.count * rowBytes,
      file: file, offset: offset + range.lowerBound * rowBytes)
  }

  /// Whether another tensor has the same shape, format and bytes.
  func isEqual(to other: MappedTensor) -> Bool {
    guard shape == other.shape, format == other.format else { return false }
    return withUnsafeBytes { first in other.withUnsafeBytes { first.elementsEqual($0) } }
  }
}

/// Tensors as the forward pass wants them, whatever a file's writer made of them.
enum TensorLayout {
  /// Cuts tensors that hold several matrices one below the other: Q, K and V; gate and up.
  static func cutFused(
    _ tensors: inout [String: MappedTensor], _ configuration: DecoderConfiguration
  ) throws(CheckpointError) {
    let queries = configuration.headCount * configuration.headSize
    let keys = configuration.keyValueHeadCount * configuration.headSize
    let width = configuration.feedForwardSize
    for layer in configuration.layerRange {
      let prefix = "blk.\(layer)."
      for suffix in ["weight", "bias"] {
        try cut(
          &tensors, "\(prefix)attn_qkv.\(suffix)",
          into: [
            ("\(prefix)attn_q.\(suffix)", queries), ("\(prefix)attn_k.\(suffix)", keys),
            ("\(prefix)attn_v.\(suffix)", keys),
          ])
        let up = "\(prefix)ffn_up.\(suffix)"
        guard tensors["\(prefix)ffn_gate.\(suffix)"] == nil, let both = tensors[up],
          both.shape.first == 2 * width
        else { continue }
        try cut(&tensors, up, into: [("\(prefix)ffn_gate.\(suffix)", width), (up, width)])
      }
    }
  }

  private static func cut(
    _ tensors: inout [String: MappedTensor], _ name: String, into parts: [(name: String, rows: Int)]
  ) throws(CheckpointError) {
    guard let whole = tensors[name] else { return }
    let rows = parts.reduce(0) { $0 + $1.rows }
    guard whole.shape.first == rows else {
      throw CheckpointError(
        kind: .tensor, file: whole.path, field: "tensor \(name)", expected: "\(rows) rows",
        found: MappedTensor.describe(whole.shape))
    }
    tensors[name] = nil
    var start = 0
    for part in parts {
      guard tensors[part.name] == nil else {
        throw .damaged(
          whole.path, "tensor \(part.name)", expected: "it once", found: "it in \(name) as well")
      }
      tensors[part.name] = whole.rows(start..<start + part.rows, named: part.name)
      start += part.rows
    }
  }

  /// Whether embedding and unembedding are one matrix is for the tensors to say, not for a flag.
  ///
  /// - Returns: What a reader should know, where the flag disagrees.
  static func settleHead(
    _ tensors: inout [String: MappedTensor], _ configuration: inout DecoderConfiguration, path: String
  ) -> String? {
    guard let head = tensors["output.weight"] else {
      // Without an embedding the missing tensor is what should be told.
      if configuration.hasTiedEmbedding || tensors["token_embd.weight"] == nil { return nil }
      configuration.hasTiedEmbedding = true
      return
        "\(path): the configuration says that the unembedding is a matrix of its own, but there is none: "
        + "the embedding serves as both"
    }
    guard configuration.hasTiedEmbedding else { return nil }
    if let embedding = tensors["token_embd.weight"], embedding.isEqual(to: head) {
      tensors["output.weight"] = nil
      return nil
    }
    configuration.hasTiedEmbedding = false
    return
      "\(path): the configuration says that embedding and unembedding are one matrix, but the files have "
      + "two: each is used for its own"
  }
}

extension Checkpoint {
  /// Whether norms hold what is to be added to 1, as in Gemma's own files.
  public var normsAddOne: Bool { kind == .huggingFace && configuration.family.description.normsAddOne }

  /// The error for a weight that is infinite or no number.
  ///
  /// - Parameters:
  ///   - name: The tensor.
  ///   - index: The weight's number, counted row after row; of a block that shares its scale, the first's.
  public func notFinite(_ name: String, at index: Int) -> CheckpointError {
    let found = tensorIfAny(name)
    var place = "number \(index)"
    if let shape = found?.shape, shape.count == 2, shape[1] > 0 {
      place = "row \(index / shape[1]), column \(index % shape[1])"
    }
    let isBlock = found?.format.isUnquantized == false
    return CheckpointError(
      kind: .damaged, file: found?.path ?? path,
      field: "tensor \(CheckpointError.printable(storedName(name))), \(place)",
      expected: "finite numbers", found: isBlock ? "a block whose scale is none" : "an infinity or NaN")
  }
}
