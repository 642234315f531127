/// Translates the tensor names of Hugging Face's classes to GGUF's.
struct HuggingFaceNames {
  private let family: DecoderConfiguration.Family
  private let ofLayer: [String: String]

  init(_ family: DecoderConfiguration.Family) {
    self.family = family
    ofLayer = family == .t5 ? [:] : Self.common.merging(family.description.tensorNames) { $1 }
  }

  private static let whole = [
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  ]

  private static let common = [
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.o_proj.bias": "attn_output.bias",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.bias": "ffn_gate.bias",
    "mlp.up_proj.bias": "ffn_up.bias",
    "mlp.down_proj.bias": "ffn_down.bias",
  ]

  /// Tensors that old checkpoints store although they follow from the configuration.
  static func isDerived(_ name: String) -> Bool {
    // T5's embedding is stored once more for each of its two halves.
    name == "encoder.embed_tokens.weight" || name == "decoder.embed_tokens.weight"
      || name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".attn.masked_bias")
  }

  /// GGUF's name for a tensor. A layer's tensor that GGUF has no name for keeps its own after `blk.N.`, so that
  /// it is seen to belong to the layer; any other unknown name is left as it is.
  func canonical(_ name: String) -> String {
    if family == .t5 { return Self.canonicalT5(name) }
    if let known = Self.whole[name] { return known }
    let prefix = "model.layers."
    guard name.hasPrefix(prefix) else { return name }
    let rest = name.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: ".") else { return name }
    let suffix = String(rest[rest.index(after: dot)...])
    return "blk.\(rest[..<dot]).\(ofLayer[suffix] ?? suffix)"
  }

  /// What a Hugging Face checkpoint calls a tensor, for messages.
  func stored(_ canonical: String) -> String {
    if family == .t5 { return Self.storedT5(canonical) }
    if let known = Self.whole.first(where: { $0.value == canonical }) { return known.key }
    let parts = canonical.split(separator: ".", maxSplits: 2)
    guard parts.count == 3, parts[0] == "blk" else { return canonical }
    let suffix = ofLayer.first { $0.value == parts[2] }?.key ?? String(parts[2])
    return "model.layers.\(parts[1]).\(suffix)"
  }
}
