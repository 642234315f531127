/// What a family of decoders does unlike the Llama family, stated once for every file format.
///
/// A family is added here, and nowhere else as long as its forward pass is put together from what
/// ``DecoderConfiguration`` can say already.
struct FamilyDescription {
  /// What `config.json` calls it.
  var modelType: String
  /// What GGUF files call it; nil where converters write another family's name.
  var architecture: String?
  /// Layer tensors that Hugging Face's classes and GGUF name otherwise than in the Llama family.
  var tensorNames: [String: String] = [:]
  /// Whether the converter to GGUF reorders the rows of Q and K, so that rotary pairs are neighbours.
  var interleavesInGGUF = false
  /// Names of the activation in `config.json`; the first is the usual one.
  var activationNames = ["silu", "swish"]
  var activation = DecoderConfiguration.Activation.gatedSilu
  /// Whether Hugging Face checkpoints hold what is to be added to 1 in place of a norm's weights.
  var normsAddOne = false
  /// Whether Q, K and V have biases whatever the file says.
  var hasQueryBias = false
  /// Whether `attention_bias` means the output matrix too.
  var biasesOutput = true
  var queryKeyNorm = DecoderConfiguration.QueryKeyNorm.none
  var hasInputNorms = true
  var hasPostNorms = false
  var scalesEmbedding = false
  var isTiedByDefault = false
  /// The last of every so many layers sees all tokens, the others a window; 0 for no such rule.
  var windowPeriod = 0
  /// Whether `sliding_window` alone makes every layer see a window.
  var windowsEveryLayer = false
  /// The last of every so many layers has no positions; 0 where all have them.
  var positionlessPeriod = 0
  var usualRotaryBase = 10_000.0
}

extension DecoderConfiguration.Family {
  var description: FamilyDescription {
    let common = ["post_attention_layernorm.weight": "ffn_norm.weight"]
    let headNorms = [
      "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
    ]
    let fourNorms = [
      "post_attention_layernorm.weight": "post_attention_norm.weight",
      "pre_feedforward_layernorm.weight": "ffn_norm.weight",
      "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    ]
    switch self {
    case .llama:
      return FamilyDescription(
        modelType: "llama", architecture: "llama", tensorNames: common, interleavesInGGUF: true)
    case .mistral:
      return FamilyDescription(modelType: "mistral", tensorNames: common, windowsEveryLayer: true)
    case .qwen2:
      return FamilyDescription(
        modelType: "qwen2", architecture: "qwen2", tensorNames: common, hasQueryBias: true,
        biasesOutput: false)
    case .qwen3:
      return FamilyDescription(
        modelType: "qwen3", architecture: "qwen3", tensorNames: common.merging(headNorms) { $1 },
        queryKeyNorm: .heads)
    case .smolLM3:
      return FamilyDescription(
        modelType: "smollm3", architecture: "smollm3", tensorNames: common, interleavesInGGUF: true,
        isTiedByDefault: true, positionlessPeriod: 4, usualRotaryBase: 2_000_000)
    case .phi3:
      return FamilyDescription(
        modelType: "phi3", architecture: "phi3",
        tensorNames: common.merging([
          "self_attn.qkv_proj.weight": "attn_qkv.weight", "mlp.gate_up_proj.weight": "ffn_up.weight",
        ]) { $1 }, windowsEveryLayer: true)
    case .gemma2:
      return FamilyDescription(
        modelType: "gemma2", architecture: "gemma2", tensorNames: fourNorms,
        activationNames: ["gelu_pytorch_tanh"], activation: .gatedGelu, normsAddOne: true, hasPostNorms: true,
        scalesEmbedding: true, isTiedByDefault: true, windowPeriod: 2)
    case .gemma3:
      return FamilyDescription(
        // The text decoder alone; "gemma3" is the model that sees pictures too.
        modelType: "gemma3_text", architecture: "gemma3", tensorNames: fourNorms.merging(headNorms) { $1 },
        activationNames: ["gelu_pytorch_tanh"], activation: .gatedGelu, normsAddOne: true,
        queryKeyNorm: .heads, hasPostNorms: true, scalesEmbedding: true, isTiedByDefault: true,
        windowPeriod: 6, usualRotaryBase: 1_000_000)
    case .olmo2:
      return FamilyDescription(
        modelType: "olmo2", architecture: "olmo2",
        tensorNames: headNorms.merging([
          "post_attention_layernorm.weight": "post_attention_norm.weight",
          "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
        ]) { $1 }, queryKeyNorm: .whole, hasInputNorms: false, hasPostNorms: true)
    case .granite:
      return FamilyDescription(
        modelType: "granite", architecture: "granite", tensorNames: common, interleavesInGGUF: true)
    case .t5:
      return FamilyDescription(modelType: "t5", architecture: "t5")
    }
  }

  /// The family of a GGUF file's `general.architecture`.
  init?(architecture: String) {
    guard let family = Self.allCases.first(where: { $0.description.architecture == architecture }) else {
      return nil
    }
    self = family
  }

  /// The family of a `model_type` of `config.json`.
  init?(modelType: String) {
    guard let family = Self.allCases.first(where: { $0.description.modelType == modelType }) else {
      return nil
    }
    self = family
  }

  /// What a name that is not among the families stands for, where that is known, for messages.
  static func hint(for name: String) -> String {
    let isMixture =
      name.contains("moe")
      || ["mixtral", "llama4", "llama4_text", "deepseek2", "gpt_oss", "gpt-oss"].contains(name)
    return isMixture ? ", a mixture of experts" : ""
  }
}

extension DecoderConfiguration {
  /// Sets what the description of its family says, but for what a file states itself.
  mutating func apply(_ description: FamilyDescription) {
    activation = description.activation
    embeddingScale = description.scalesEmbedding ? Float(hiddenSize).squareRoot() : 1
    queryKeyNorm = description.queryKeyNorm
    hasInputNorms = description.hasInputNorms
    hasPostNorms = description.hasPostNorms
    if description.positionlessPeriod > 0 {
      layersWithoutPositions = Set(layerRange.filter { ($0 + 1) % description.positionlessPeriod == 0 })
    }
  }

  /// The layers that see a window, by the rule of the family.
  func windowedLayers(_ description: FamilyDescription) -> Set<Int> {
    if description.windowsEveryLayer { return Set(layerRange) }
    let period = description.windowPeriod
    return Set(layerRange.filter { period > 0 && ($0 + 1) % period != 0 })
  }

  /// The layers, where their number is possible: an absurd one is refused later, and must not cost memory before.
  var layerRange: Range<Int> { 0..<max(0, min(layerCount, 1024)) }
}
