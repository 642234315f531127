import Foundation

/// A tiny random T5 that can be written as a Hugging Face directory and as a GGUF file, with the same weights.
public struct TinyT5: Sendable {
  public var encoderLayerCount = 2
  public var layerCount = 3
  public var hiddenSize = 64
  public var feedForwardSize = 96
  public var headCount = 4
  public var headSize = 16
  public var vocabularySize = 272
  public var contextLength = 96
  /// T5 1.1 with a gate and an unembedding of its own, or 1.0.
  public var isGated = true
  public var weightScale: Float = 0.25
  public var seed: UInt64 = 1

  public init() {}

  /// GGUF's name, the file's own name, and the shape of every tensor.
  private var tensors: [(canonical: String, stored: String, shape: [Int])] {
    let inner = headCount * headSize
    var result = [("token_embd.weight", "shared.weight", [vocabularySize, hiddenSize])]
    if isGated { result.append(("output.weight", "lm_head.weight", [vocabularySize, hiddenSize])) }
    for (short, long, count) in [("enc", "encoder", encoderLayerCount), ("dec", "decoder", layerCount)] {
      result.append(("\(short).output_norm.weight", "\(long).final_layer_norm.weight", [hiddenSize]))
      for layer in 0..<count {
        func add(_ canonical: String, _ stored: String, _ shape: [Int]) {
          result.append(
            (
              "\(short).blk.\(layer).\(canonical).weight", "\(long).block.\(layer).layer.\(stored).weight",
              shape
            ))
        }
        func attention(_ canonical: String, _ stored: String) {
          for part in ["q", "k", "v"] {
            add("\(canonical)_\(part)", "\(stored).\(part)", [inner, hiddenSize])
          }
          add("\(canonical)_o", "\(stored).o", [hiddenSize, inner])
        }
        add("attn_norm", "0.layer_norm", [hiddenSize])
        attention("attn", "0.SelfAttention")
        if layer == 0 { add("attn_rel_b", "0.SelfAttention.relative_attention_bias", [32, headCount]) }
        if short == "dec" {
          add("cross_attn_norm", "1.layer_norm", [hiddenSize])
          attention("cross_attn", "1.EncDecAttention")
        }
        let last = short == "enc" ? "1" : "2"
        add("ffn_norm", "\(last).layer_norm", [hiddenSize])
        if isGated { add("ffn_gate", "\(last).DenseReluDense.wi_0", [feedForwardSize, hiddenSize]) }
        add("ffn_up", "\(last).DenseReluDense.\(isGated ? "wi_1" : "wi")", [feedForwardSize, hiddenSize])
        add("ffn_down", "\(last).DenseReluDense.wo", [hiddenSize, feedForwardSize])
      }
    }
    return result
  }

  private func values() -> [[UInt8]] {
    var random = SplitMix64(seed: seed)
    return tensors.map { tensor in
      let isNorm = tensor.canonical.contains("norm")
      return (0..<tensor.shape.reduce(1, *)).flatMap { _ in
        let value =
          isNorm
          ? Float.random(in: 0.8...1.2, using: &random)
          : Float.random(in: -weightScale...weightScale, using: &random)
        return withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) }
      }
    }
  }

  public func safetensors() -> SafetensorsBuilder {
    var builder = SafetensorsBuilder()
    builder.tensors = zip(tensors, values()).map {
      SafetensorsBuilder.Tensor(
        name: $0.stored, dtype: "F32", shape: $0.shape.map(UInt64.init), bytes: $1)
    }
    return builder
  }

  public func gguf() -> GGUFBuilder {
    var builder = GGUFBuilder()
    builder.metadata = [
      ("general.architecture", .string("t5")),
      ("general.name", .string("Tiny T5")),
      ("t5.block_count", .uint32(UInt32(encoderLayerCount))),
      ("t5.decoder_block_count", .uint32(UInt32(layerCount))),
      ("t5.context_length", .uint32(UInt32(contextLength))),
      ("t5.embedding_length", .uint32(UInt32(hiddenSize))),
      ("t5.feed_forward_length", .uint32(UInt32(feedForwardSize))),
      ("t5.attention.head_count", .uint32(UInt32(headCount))),
      ("t5.attention.key_length", .uint32(UInt32(headSize))),
      ("t5.attention.value_length", .uint32(UInt32(headSize))),
      ("t5.attention.layer_norm_rms_epsilon", .float32(1e-6)),
      ("t5.attention.relative_buckets_count", .uint32(32)),
      ("t5.decoder_start_token_id", .uint32(0)),
    ]
    builder.tensors = zip(tensors, values()).map {
      GGUFBuilder.Tensor(
        name: $0.canonical, dimensions: $0.shape.reversed().map(UInt64.init), type: 0, bytes: $1)
    }
    return builder
  }

  public func configJSON() -> String {
    """
    {"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": \(hiddenSize),
     "d_kv": \(headSize), "d_ff": \(feedForwardSize), "num_layers": \(encoderLayerCount),
     "num_decoder_layers": \(layerCount), "num_heads": \(headCount), "vocab_size": \(vocabularySize),
     "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "n_positions": \(contextLength),
     "layer_norm_epsilon": 1e-06, "feed_forward_proj": "\(isGated ? "gated-gelu" : "relu")",
     "tie_word_embeddings": \(!isGated), "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
     "task_specific_params": {"summarization": {"prefix": "summarize: ", "num_beams": 4}}}
    """
  }

  /// Writes `config.json` and `model.safetensors`; a tokenizer is the caller's to add.
  public func write(to directory: TemporaryDirectory) throws {
    try directory.write("config.json", configJSON())
    try directory.write("model.safetensors", safetensors().build())
  }
}
