/// Translates the tensor names of Hugging Face's Llama and Qwen 2 classes to GGUF's.
enum HuggingFaceNames {
  private static let whole = [
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
  ]

  private static let ofLayer = [
    "input_layernorm.weight": "attn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.q_proj.bias": "attn_q.bias",
    "self_attn.k_proj.bias": "attn_k.bias",
    "self_attn.v_proj.bias": "attn_v.bias",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.o_proj.bias": "attn_output.bias",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
  ]

  /// Tensors that old checkpoints store although they follow from the configuration.
  static func isDerived(_ name: String) -> Bool {
    name.hasSuffix(".rotary_emb.inv_freq") || name.hasSuffix(".attn.masked_bias")
  }

  /// GGUF's name for a tensor. A layer's tensor that GGUF has no name for keeps its own after `blk.N.`, so that
  /// it is seen to belong to the layer; any other unknown name is left as it is.
  static func canonical(_ name: String) -> String {
    if let known = whole[name] { return known }
    let prefix = "model.layers."
    guard name.hasPrefix(prefix) else { return name }
    let rest = name.dropFirst(prefix.count)
    guard let dot = rest.firstIndex(of: ".") else { return name }
    let suffix = String(rest[rest.index(after: dot)...])
    return "blk.\(rest[..<dot]).\(ofLayer[suffix] ?? suffix)"
  }

  /// What a Hugging Face checkpoint calls a tensor, for messages.
  static func stored(_ canonical: String) -> String {
    if let known = whole.first(where: { $0.value == canonical }) { return known.key }
    let parts = canonical.split(separator: ".", maxSplits: 2)
    guard parts.count == 3, parts[0] == "blk" else { return canonical }
    let suffix = ofLayer.first { $0.value == parts[2] }?.key ?? String(parts[2])
    return "model.layers.\(parts[1]).\(suffix)"
  }
}
