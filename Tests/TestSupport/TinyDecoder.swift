import Checkpoints
import Foundation
import TensorKernels

/// A tiny random decoder that can be written as a GGUF file and as a Hugging Face directory, with the same weights.
///
/// The tokenizer is byte-level: three special tokens, the 256 bytes, a few merges, then unused tokens up to the
/// vocabulary's size.
public struct TinyDecoder: Sendable {
  public var family = DecoderConfiguration.Family.llama
  public var layerCount = 2
  public var hiddenSize = 64
  public var feedForwardSize = 96
  public var headCount = 4
  public var keyValueHeadCount = 2
  public var headSize = 16
  /// At least 266, what the tokenizer takes.
  public var vocabularySize = 272
  public var contextLength = 128
  public var hasTiedEmbedding = true
  /// Format of all matrices in the GGUF file; norms and biases are F32. Columns must be whole blocks.
  public var format = BlockFormat.f32
  /// Format of the embedding and of a separate unembedding; nil for `format`.
  public var embeddingFormat: BlockFormat?
  /// Standard size of weights: they are uniform in ±`weightScale`, roughly so in quantised formats.
  /// Tokens that Gemma 3's layers see, all but every sixth.
  public var slidingWindow = 6
  public var weightScale: Float = 0.2
  public var seed: UInt64 = 1

  public init() {}

  /// One tensor as the GGUF file stores it.
  private struct Weights {
    var name: String
    var shape: [Int]
    var format: BlockFormat
    var bytes: [UInt8]
  }

  // MARK: - Writing

  public func gguf() -> GGUFBuilder {
    let arch = family.rawValue
    var builder = GGUFBuilder()
    builder.metadata = [
      ("general.architecture", .string(arch)),
      ("general.name", .string("Tiny")),
      ("\(arch).block_count", .uint32(UInt32(layerCount))),
      ("\(arch).context_length", .uint32(UInt32(contextLength))),
      ("\(arch).embedding_length", .uint32(UInt32(hiddenSize))),
      ("\(arch).feed_forward_length", .uint32(UInt32(feedForwardSize))),
      ("\(arch).attention.head_count", .uint32(UInt32(headCount))),
      ("\(arch).attention.head_count_kv", .uint32(UInt32(keyValueHeadCount))),
      ("\(arch).attention.key_length", .uint32(UInt32(headSize))),
      ("\(arch).attention.value_length", .uint32(UInt32(headSize))),
      ("\(arch).attention.layer_norm_rms_epsilon", .float32(1e-5)),
      ("\(arch).rope.freq_base", .float32(10_000)),
      ("\(arch).rope.dimension_count", .uint32(UInt32(headSize))),
      ("\(arch).vocab_size", .uint32(UInt32(vocabularySize))),
      ("tokenizer.ggml.model", .string("gpt2")),
      ("tokenizer.ggml.pre", .string("gpt-2")),
      ("tokenizer.ggml.tokens", .strings(tokens)),
      ("tokenizer.ggml.token_type", .int32s(tokenTypes)),
      ("tokenizer.ggml.merges", .strings(TinyDecoder.merges)),
      ("tokenizer.ggml.bos_token_id", .uint32(0)),
      ("tokenizer.ggml.eos_token_id", .uint32(2)),
      ("tokenizer.ggml.unknown_token_id", .uint32(0)),
      ("tokenizer.ggml.add_bos_token", .bool(false)),
    ]
    if family == .gemma3 {
      builder.set("\(arch).attention.sliding_window", .uint32(UInt32(slidingWindow)))
    }
    builder.tensors = makeWeights().map { weights in
      GGUFBuilder.Tensor(
        name: weights.name, dimensions: weights.shape.reversed().map(UInt64.init),
        type: weights.format.rawValue, bytes: weights.bytes)
    }
    return builder
  }

  /// The weights as safetensors of F32: those of the GGUF file dequantised, Q and K rows in Hugging Face's order.
  public func safetensors() -> SafetensorsBuilder {
    var builder = SafetensorsBuilder()
    builder.tensors = makeWeights().map { weights in
      let count = weights.shape.reduce(1, *)
      var floats = [Float](repeating: 0, count: count)
      weights.bytes.withUnsafeBytes { bytes in
        _ = floats.withUnsafeMutableBufferPointer { weights.format.dequantize(bytes, into: $0) }
      }
      if family == .llama, weights.name.contains("attn_q.") || weights.name.contains("attn_k.") {
        floats = rowsInHalves(floats, rowLength: count / weights.shape[0])
      }
      // Gemma's own files hold what is to be added to 1.
      if family == .gemma3, weights.name.contains("norm") { floats = floats.map { $0 - 1 } }
      return SafetensorsBuilder.Tensor(
        name: huggingFaceName(weights.name), dtype: "F32", shape: weights.shape.map(UInt64.init),
        bytes: TinyDecoder.bytes(of: floats))
    }
    return builder
  }

  /// The `config.json` of the Hugging Face directory.
  public func configJSON() -> String {
    let (architecture, type, activation) =
      switch family {
      case .llama: ("LlamaForCausalLM", "llama", "silu")
      case .qwen2: ("Qwen2ForCausalLM", "qwen2", "silu")
      case .t5: ("T5ForConditionalGeneration", "t5", "relu")
      case .gemma3: ("Gemma3ForCausalLM", "gemma3_text", "gelu_pytorch_tanh")
      // Of the others there are models made by transformers itself: Tests/Scripts/make_model_fixtures.py.
      default: ("\(family.rawValue)ForCausalLM", family.rawValue, "silu")
      }
    let windows =
      family == .gemma3 ? "\"sliding_window\": \(slidingWindow), \"rope_local_base_freq\": 10000.0," : ""
    return """
      {"architectures": ["\(architecture)"], \(windows)
       "model_type": "\(type)", "hidden_act": "\(activation)", "hidden_size": \(hiddenSize),
       "intermediate_size": \(feedForwardSize), "num_hidden_layers": \(layerCount),
       "num_attention_heads": \(headCount), "num_key_value_heads": \(keyValueHeadCount), "head_dim": \(headSize),
       "vocab_size": \(vocabularySize), "max_position_embeddings": \(contextLength), "rms_norm_eps": 1e-05,
       "rope_theta": 10000.0, "rope_scaling": null, "tie_word_embeddings": \(hasTiedEmbedding),
       "bos_token_id": 0, "eos_token_id": 2, "torch_dtype": "float32"}
      """
  }

  /// The `tokenizer.json` that matches the GGUF metadata.
  public func tokenizerJSON() throws -> String {
    let special = tokens.prefix(3).enumerated().map { id, text in
      [
        "id": id, "content": text, "special": true, "normalized": false, "lstrip": false, "rstrip": false,
        "single_word": false,
      ] as [String: Any]
    }
    let byteLevel: [String: Any] = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    ]
    let document: [String: Any] = [
      "version": "1.0", "added_tokens": special, "pre_tokenizer": byteLevel, "decoder": byteLevel,
      "model": [
        "type": "BPE", "vocab": Dictionary(uniqueKeysWithValues: zip(tokens, 0...)),
        "merges": TinyDecoder.merges,
      ] as [String: Any],
    ]
    let data = try JSONSerialization.data(withJSONObject: document, options: [.sortedKeys])
    return String(decoding: data, as: UTF8.self)
  }

  /// Writes `config.json`, `model.safetensors` and `tokenizer.json` into `directory`.
  public func writeHuggingFace(to directory: TemporaryDirectory) throws {
    try directory.write("config.json", configJSON())
    try directory.write("model.safetensors", safetensors().build())
    try directory.write("tokenizer.json", tokenizerJSON())
  }

  // MARK: - Tokenizer

  static let merges = ["t h", "th e", "i n", "e r", "Ġ a", "Ġ the", "o n"]

  private var tokens: [String] {
    var result = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    result += (0..<256).map(TinyDecoder.byteCharacter)
    result += TinyDecoder.merges.map { $0.replacing(" ", with: "") }
    while result.count < vocabularySize { result.append("<|unused_\(result.count)|>") }
    return result
  }

  /// 3 is a control token, 5 an unused one, 1 a normal one.
  private var tokenTypes: [Int32] {
    let used = 3 + 256 + TinyDecoder.merges.count
    return (0..<vocabularySize).map { $0 < 3 ? 3 : $0 < used ? 1 : 5 }
  }

  /// GPT-2's stand-in for a byte: itself where it prints, else the next unused character from U+0100 on.
  private static func byteCharacter(_ byte: Int) -> String {
    func prints(_ byte: Int) -> Bool {
      (0x21...0x7E).contains(byte) || (0xA1...0xAC).contains(byte) || (0xAE...0xFF).contains(byte)
    }
    let value = prints(byte) ? byte : 0x100 + (0..<byte).count { !prints($0) }
    return Unicode.Scalar(UInt32(value)).map { String(Character($0)) } ?? ""
  }

  // MARK: - Weights

  private func makeWeights() -> [Weights] {
    var random = SplitMix64(seed: seed)
    let queries = headCount * headSize
    let keys = keyValueHeadCount * headSize
    var result: [Weights] = []
    func matrix(_ name: String, _ rows: Int, _ columns: Int, _ format: BlockFormat) {
      let bytes = format.randomBlocks(count: rows * columns, scale: weightScale, using: &random)
      result.append(Weights(name: name, shape: [rows, columns], format: format, bytes: bytes))
    }
    func vector(_ name: String, _ count: Int, around center: Float) {
      let values = (0..<count).map { _ in center + Float.random(in: -0.1...0.1, using: &random) }
      result.append(Weights(name: name, shape: [count], format: .f32, bytes: TinyDecoder.bytes(of: values)))
    }
    matrix("token_embd.weight", vocabularySize, hiddenSize, embeddingFormat ?? format)
    for layer in 0..<layerCount {
      let prefix = "blk.\(layer)."
      vector(prefix + "attn_norm.weight", hiddenSize, around: 1)
      matrix(prefix + "attn_q.weight", queries, hiddenSize, format)
      matrix(prefix + "attn_k.weight", keys, hiddenSize, format)
      matrix(prefix + "attn_v.weight", keys, hiddenSize, format)
      if family == .qwen2 {
        vector(prefix + "attn_q.bias", queries, around: 0)
        vector(prefix + "attn_k.bias", keys, around: 0)
        vector(prefix + "attn_v.bias", keys, around: 0)
      }
      matrix(prefix + "attn_output.weight", hiddenSize, queries, format)
      vector(prefix + "ffn_norm.weight", hiddenSize, around: 1)
      if family == .gemma3 {
        vector(prefix + "attn_q_norm.weight", headSize, around: 1)
        vector(prefix + "attn_k_norm.weight", headSize, around: 1)
        vector(prefix + "post_attention_norm.weight", hiddenSize, around: 1)
        vector(prefix + "post_ffw_norm.weight", hiddenSize, around: 1)
      }
      matrix(prefix + "ffn_gate.weight", feedForwardSize, hiddenSize, format)
      matrix(prefix + "ffn_up.weight", feedForwardSize, hiddenSize, format)
      matrix(prefix + "ffn_down.weight", hiddenSize, feedForwardSize, format)
    }
    vector("output_norm.weight", hiddenSize, around: 1)
    if !hasTiedEmbedding { matrix("output.weight", vocabularySize, hiddenSize, embeddingFormat ?? format) }
    return result
  }

  /// Undoes the converter's interleaving: row 2 i + s of a head there is row s d/2 + i here.
  private func rowsInHalves(_ values: [Float], rowLength: Int) -> [Float] {
    var result = values
    let half = headSize / 2
    for row in 0..<values.count / rowLength {
      let (head, within) = row.quotientAndRemainder(dividingBy: headSize)
      let target = head * headSize + (within % 2) * half + within / 2
      for column in 0..<rowLength { result[target * rowLength + column] = values[row * rowLength + column] }
    }
    return result
  }

  private func huggingFaceName(_ name: String) -> String {
    var names = [
      "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
      "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
      "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
      "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    ]
    if family == .gemma3 {
      names["attn_q_norm"] = "self_attn.q_norm"
      names["attn_k_norm"] = "self_attn.k_norm"
      names["post_attention_norm"] = "post_attention_layernorm"
      names["ffn_norm"] = "pre_feedforward_layernorm"
      names["post_ffw_norm"] = "post_feedforward_layernorm"
    }
    let parts = name.split(separator: ".").map(String.init)
    let stem = names[parts[parts.count - 2]] ?? parts[parts.count - 2]
    let prefix = parts[0] == "blk" ? "model.layers.\(parts[1])." : ""
    return prefix + stem + "." + parts[parts.count - 1]
  }

  private static func bytes(of values: [Float]) -> [UInt8] {
    values.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
  }
}
