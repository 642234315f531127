import Checkpoints

/// What is added to attention scores for the distance between query and key, by head.
///
/// `@unchecked Sendable`: never written after it was made.
final class RelativeBias: @unchecked Sendable {
  /// (headCount, length): entry longest + d is that of a key d tokens after the query. The bias of keys 0, 1, … is
  /// then a run of it that begins `position` before the entry of distance 0.
  private let values: Buffer<Float>
  private let length: Int
  private let longest: Int

  /// - Parameters:
  ///   - weights: (bucketCount, headCount)
  ///   - isCausal: Whether keys after the query are never asked for.
  init(_ weights: [Float], _ configuration: DecoderConfiguration, isCausal: Bool) {
    longest = configuration.contextLength - 1
    length = isCausal ? longest + 1 : 2 * longest + 1
    let heads = configuration.headCount
    values = Buffer(heads * length)
    for place in 0..<length {
      let bucket =
        configuration.relativePositions?.bucket(distance: place - longest, isCausal: isCausal) ?? 0
      for head in 0..<heads { values.start[head * length + place] = weights[bucket * heads + head] }
    }
  }

  /// The bias of keys 0, 1, … for the query at `position`; one for the position before begins an entry later.
  func row(head: Int, position: Int) -> UnsafePointer<Float> {
    UnsafePointer(values.start + head * length + longest - position)
  }
}

extension WeightLoader {
  /// One of T5's two halves.
  func t5Stack(_ name: String, layerCount: Int) throws -> Transformer.Stack {
    let configuration = checkpoint.configuration
    let layers = try (0..<layerCount).map { index in
      let prefix = "\(name).blk.\(index)."
      var cross: Transformer.Cross?
      if name == "dec" {
        cross = Transformer.Cross(
          norm: try floats("\(prefix)cross_attn_norm.weight"),
          queries: try projection(["\(prefix)cross_attn_q.weight"]),
          keysAndValues: try projection(["\(prefix)cross_attn_k.weight", "\(prefix)cross_attn_v.weight"]),
          output: try projection(["\(prefix)cross_attn_o.weight"]))
      }
      let feedForward = (configuration.activation.isGated ? ["ffn_gate"] : []) + ["ffn_up"]
      return Transformer.Layer(
        attentionNorm: try floats("\(prefix)attn_norm.weight"),
        feedForwardNorm: try floats("\(prefix)ffn_norm.weight"),
        attention: try projection(["q", "k", "v"].map { "\(prefix)attn_\($0).weight" }), cross: cross,
        output: try projection(["\(prefix)attn_o.weight"]),
        gateAndUp: try projection(feedForward.map { "\(prefix)\($0).weight" }, paired: true),
        down: try projection(["\(prefix)ffn_down.weight"]))
    }
    return Transformer.Stack(
      layers: layers, norm: try floats("\(name).output_norm.weight"),
      bias: RelativeBias(
        try floats("\(name).blk.0.attn_rel_b.weight"), configuration, isCausal: name == "dec"))
  }
}
