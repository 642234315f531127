/// T5's names: `encoder.block.N.layer.M.…` and `decoder.block.N.layer.M.…`, where M is 0 for self-attention, the last
/// for the feed-forward block, and 1 in the decoder for the attention to the encoder.
extension HuggingFaceNames {
  private static let whole = [
    "shared.weight": "token_embd.weight",
    "lm_head.weight": "output.weight",
    "encoder.final_layer_norm.weight": "enc.output_norm.weight",
    "decoder.final_layer_norm.weight": "dec.output_norm.weight",
  ]

  private static let ofEncoder = [
    "0.layer_norm.weight": "attn_norm.weight",
    "0.SelfAttention.q.weight": "attn_q.weight",
    "0.SelfAttention.k.weight": "attn_k.weight",
    "0.SelfAttention.v.weight": "attn_v.weight",
    "0.SelfAttention.o.weight": "attn_o.weight",
    "0.SelfAttention.relative_attention_bias.weight": "attn_rel_b.weight",
    "1.layer_norm.weight": "ffn_norm.weight",
    "1.DenseReluDense.wi_0.weight": "ffn_gate.weight",
    "1.DenseReluDense.wi_1.weight": "ffn_up.weight",
    "1.DenseReluDense.wi.weight": "ffn_up.weight",
    "1.DenseReluDense.wo.weight": "ffn_down.weight",
  ]

  private static let ofDecoder: [String: String] = {
    var names = [
      "1.layer_norm.weight": "cross_attn_norm.weight",
      "1.EncDecAttention.relative_attention_bias.weight": "cross_attn_rel_b.weight",
    ]
    for part in ["q", "k", "v", "o"] {
      names["1.EncDecAttention.\(part).weight"] = "cross_attn_\(part).weight"
    }
    for (stored, canonical) in ofEncoder {
      names[stored.hasPrefix("1.") ? "2" + stored.dropFirst() : stored] = canonical
    }
    return names
  }()

  private static let stacks = [
    ("encoder.block.", "enc.blk.", ofEncoder), ("decoder.block.", "dec.blk.", ofDecoder),
  ]

  static func canonicalT5(_ name: String) -> String {
    if let known = whole[name] { return known }
    for (prefix, stack, names) in stacks where name.hasPrefix(prefix) {
      let parts = name.dropFirst(prefix.count).split(separator: ".", maxSplits: 2)
      guard parts.count == 3, parts[1] == "layer" else { return name }
      return "\(stack)\(parts[0]).\(names[String(parts[2])] ?? String(parts[2]))"
    }
    return name
  }

  static func storedT5(_ canonical: String) -> String {
    if let known = whole.first(where: { $0.value == canonical }) { return known.key }
    for (prefix, stack, names) in stacks where canonical.hasPrefix(stack) {
      let parts = canonical.dropFirst(stack.count).split(separator: ".", maxSplits: 1)
      guard parts.count == 2 else { return canonical }
      let known = names.filter { $0.value == parts[1] }.keys.sorted()
      return "\(prefix)\(parts[0]).layer.\(known.first ?? String(parts[1]))"
    }
    return canonical
  }

  /// Tensors that early files of T5 hold although no pass reads them.
  static func isUnused(_ canonical: String) -> Bool { canonical.hasSuffix(".cross_attn_rel_b.weight") }
}
