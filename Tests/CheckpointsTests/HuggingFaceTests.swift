import Checkpoints
import FileFormats
import Foundation
import TestSupport
import Testing

@Suite("Hugging Face directories")
struct HuggingFaceTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  func open(_ model: TinyDecoder, config edit: (String) -> String = { $0 }) throws -> Checkpoint {
    try directory.write("config.json", edit(model.configJSON()))
    try directory.write("model.safetensors", model.safetensors().build())
    return try Checkpoint.open(directory.path)
  }

  @Test(
    "The same model gives the same configuration and weights",
    arguments: [DecoderConfiguration.Family.llama, .qwen2]
  )
  func agreesWithGGUF(_ family: DecoderConfiguration.Family) throws {
    var model = TinyDecoder()
    model.family = family
    model.hasTiedEmbedding = false
    model.format = .q8_0
    let other = try Checkpoint.open(try directory.write("tiny.gguf", model.gguf().build()))
    let checkpoint = try open(model)
    #expect(checkpoint.kind == .huggingFace)
    #expect(checkpoint.metadata.isEmpty)
    #expect(checkpoint.configuration.rotaryLayout == .halves)
    var expected = other.configuration
    expected.rotaryLayout = .halves
    expected.name = checkpoint.configuration.name
    #expect(checkpoint.configuration == expected)
    #expect(checkpoint.tensorNames == other.tensorNames)
    for name in checkpoint.tensorNames {
      let (mine, theirs) = (try checkpoint.tensor(name), try other.tensor(name))
      #expect(mine.shape == theirs.shape)
      if family == .llama, name.contains("attn_q") || name.contains("attn_k") {
        // Head 1, row 3 of the second half is row 2 * 3 + 1 of the interleaved head.
        let row = { (tensor: MappedTensor, row: Int) in tensor.makeFloats()[row * 64..<row * 64 + 64] }
        #expect(row(mine, 16 + 8 + 3) == row(theirs, 16 + 7))
      } else {
        #expect(mine.makeFloats() == theirs.makeFloats())
      }
    }
  }

  @Test(
    "Halves and bfloat16 are read",
    arguments: [("F16", 1.5 as Float, [0x00, 0x3E] as [UInt8]), ("BF16", 1.5, [0xC0, 0x3F])])
  func halfFormats(_ dtype: String, _ value: Float, _ bytes: [UInt8]) throws {
    let model = TinyDecoder()
    var builder = model.safetensors()
    builder.editTensor("model.norm.weight") {
      ($0.dtype, $0.bytes) = (dtype, Array(repeating: bytes, count: 64).flatMap { $0 })
    }
    try directory.write("config.json", model.configJSON())
    try directory.write("model.safetensors", builder.build())
    let tensor = try Checkpoint.open(directory.path).tensor("output_norm.weight")
    #expect(tensor.makeFloats() == Array(repeating: value, count: 64))
  }

  @Test("Rotary scaling of both spellings")
  func rotaryScaling() throws {
    func scaling(_ text: String) throws -> DecoderConfiguration.RotaryScaling {
      try open(TinyDecoder()) { $0.replacing("\"rope_scaling\": null", with: text) }.configuration
        .rotaryScaling
    }
    #expect(try scaling(#""rope_scaling": {"type": "linear", "factor": 2}"#) == .linear(factor: 2))
    #expect(try scaling(#""rope_parameters": {"rope_type": "default", "rope_theta": 5.0}"#) == .none)
    let llama3 =
      #"{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "#
      + #""original_max_position_embeddings": 8192}"#
    #expect(
      try scaling(#""rope_scaling": "# + llama3)
        == .llama3(factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4, originalContext: 8192))
  }

  @Test("Shards are read through their index")
  func shards() throws {
    let model = TinyDecoder()
    try writeShards(model) { $0 }
    let checkpoint = try Checkpoint.open(directory.path + "/")
    #expect(checkpoint.tensorNames.count == 20)
    #expect(try checkpoint.tensor("output_norm.weight").path.hasSuffix("model-00002-of-00002.safetensors"))
  }

  @Test(
    "A bad index is refused",
    arguments: [
      ("model-00001-of-00002.safetensors", "../model.safetensors"),
      ("model-00001-of-00002.safetensors", ".hidden"),
      ("model-00001-of-00002.safetensors", "missing.safetensors"),
      ("model.norm.weight", "model.norm.weights"),
      ("model.norm.weight", "model.layers.0.mlp.up_proj.weight"), ("\"weight_map\"", "\"weights\""),
      ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), ("}}", "}"),
    ])
  func badIndex(_ old: String, _ new: String) throws {
    try writeShards(TinyDecoder()) { $0.replacing(old, with: new) }
    #expect(throws: CheckpointError.self) { try Checkpoint.open(directory.path) }
  }

  func writeShards(_ model: TinyDecoder, index edit: (String) -> String) throws {
    let all = model.safetensors().tensors
    var entries: [String] = []
    for (number, part) in [all[..<7], all[7...]].enumerated() {
      var builder = SafetensorsBuilder()
      builder.tensors = Array(part)
      let name = "model-0000\(number + 1)-of-00002.safetensors"
      try directory.write(name, builder.build())
      entries += part.map { "\"\($0.name)\": \"\(name)\"" }
    }
    let index = "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\(entries.joined(separator: ", "))}}"
    try directory.write("model.safetensors.index.json", edit(index))
    try directory.write("config.json", model.configJSON())
  }

  /// Replacements in `config.json`, and the field that the message must name.
  static let badConfigurations: [(String, String, String)] = [
    ("\"model_type\": \"llama\"", "\"model_type\": \"bert\"", "model_type"),
    ("\"model_type\": \"llama\",", "", "model_type"),
    ("\"hidden_size\": 64", "\"hidden_size\": 64.5", "hidden_size"),
    ("\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size"),
    ("\"hidden_size\": 64", "\"hidden_size\": -64", "head"),
    ("\"hidden_size\": 64", "\"hidden_size\": 1e300", "hidden_size"),
    ("\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden_size\": 32", ""),
    ("\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden\\u005fsize\": 32", ""),
    ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", "model.layers.2."),
    ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1", "model.layers.1."),
    ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1000000000", "num_hidden_layers"),
    ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "num_key_value_heads"),
    ("\"vocab_size\": 272", "\"vocab_size\": 271", "model.embed_tokens.weight"),
    ("\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": 0", "rms_norm_eps"),
    ("\"rope_theta\": 10000.0", "\"rope_theta\": -1", "rope_theta"),
    ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"ntk\", \"factor\": 2}", "rope_scaling"),
    ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}", "rope_scaling"),
    ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}", "rope_scaling"),
    ("\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", "hidden_act"),
    (
      "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": true, \"attention_bias\": true",
      "q_proj.bias"
    ),
    ("\"rope_scaling\": null", "\"x\": " + String(repeating: "[", count: 1_000), ""),
    ("}", "", ""), ("{", "", ""), (":", ",", ""), ("\"llama\"", "\"llama", ""),
  ]

  @Test("A bad config.json is refused", arguments: badConfigurations)
  func badConfiguration(_ old: String, _ new: String, _ field: String) throws {
    let error = try #require(throws: CheckpointError.self) {
      try open(TinyDecoder()) { $0.replacing(old, with: new) }
    }
    #expect(error.file.hasPrefix(directory.path))
    // Foundation's `contains` finds no empty text.
    #expect(field.isEmpty || error.field.contains(field), "\(error)")
  }

  /// A sound file made unsound, and what the message must name.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var field: String
    var edit: @Sendable (inout SafetensorsBuilder) -> Void
    var testDescription: String { name }

    init(_ name: String, field: String, _ edit: @escaping @Sendable (inout SafetensorsBuilder) -> Void) {
      self.name = name
      self.field = field
      self.edit = edit
    }
  }

  static let norm = "model.norm.weight"

  static let cases: [Case] = [
    Case("header of 2^64 - 1 bytes", field: "header length") { $0.headerLength = .max },
    Case("header longer than the file", field: "header length") { $0.headerLength = 1 << 30 },
    Case("header of 0 bytes", field: "header length") { $0.headerLength = 0 },
    Case("header one byte short", field: "header") { $0.headerLength = 10 },
    Case("header that is an array", field: "header") { $0.header = "[1]" },
    Case("header nested 100,000 deep", field: "header") {
      $0.header = String(repeating: "{\"a\":", count: 100_000)
    },
    Case("empty header", field: "tensor data") { $0.header = "{}" },
    Case("metadata of numbers", field: "__metadata__") { $0.header = "{\"__metadata__\":{\"a\":1}}" },
    Case("tensor without a type", field: "dtype") {
      $0.header = "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}"
    },
    Case("duplicate tensor", field: "header") { builder in
      builder.editTensor("model.layers.1.input_layernorm.weight") { $0.name = norm }
    },
    Case("unknown type", field: norm) { builder in builder.editTensor(norm) { $0.dtype = "I64" } },
    Case("2^60 elements", field: norm) { builder in
      builder.editTensor(norm) { $0.shape = [1 << 30, 1 << 30] }
    },
    Case("2^64 elements", field: norm) { builder in
      builder.editTensor(norm) { $0.shape = [1 << 32, 1 << 32] }
    },
    Case("a dimension of 2^63", field: norm) { builder in
      builder.editTensor(norm) { $0.shape = [1 << 63, 0] }
    },
    Case("shape unlike the bytes", field: norm) { builder in builder.editTensor(norm) { $0.shape = [63] } },
    Case("wrong shape of that size", field: norm) { builder in builder.editTensor(norm) { $0.shape = [8, 8] }
    },
    Case("offsets past the end", field: norm) { builder in
      builder.editTensor(norm) { $0.offsets = [1 << 40, (1 << 40) + 256] }
    },
    Case("offsets backwards", field: norm) { builder in builder.editTensor(norm) { $0.offsets = [256, 0] } },
    Case("offsets of another tensor", field: "data_offsets") { builder in
      builder.editTensor(norm) { $0.offsets = [0, 256] }
    },
    Case("three offsets", field: norm) { builder in builder.editTensor(norm) { $0.offsets = [0, 1, 2] } },
    Case("bytes left over", field: "tensor data") {
      $0.tensors[0].offsets = nil;
      $0.tensors.append(
        .init(name: "x", dtype: "F32", shape: [0], bytes: [0, 0, 0, 0], offsets: [0, 0]))
    },
    Case("tensor missing", field: "model.layers.1.mlp.up_proj.weight") {
      $0.tensors.removeAll { $0.name == "model.layers.1.mlp.up_proj.weight" }
    },
    Case("a tensor the forward pass does not have", field: "model.layers.0.self_attn.q_norm.weight") {
      $0.tensors.append(
        .init(name: "model.layers.0.self_attn.q_norm.weight", dtype: "F32", shape: [1], bytes: [0, 0, 0, 0]))
    },
    Case("two names of one meaning", field: "token_embd.weight") {
      $0.tensors.append(.init(name: "token_embd.weight", dtype: "F32", shape: [1], bytes: [0, 0, 0, 0]))
    },
  ]

  @Test("A bad safetensors file is refused", arguments: cases)
  func refused(_ hostile: Case) throws {
    let model = TinyDecoder()
    var builder = model.safetensors()
    hostile.edit(&builder)
    try directory.write("config.json", model.configJSON())
    let path = try directory.write("model.safetensors", builder.build())
    let error = try #require(throws: CheckpointError.self) { try Checkpoint.open(directory.path) }
    #expect(error.file == path || error.kind == .tensor)
    #expect(error.field.contains(hostile.field), "\(error)")
  }

  @Test("A file cut short at any byte is refused")
  func truncated() throws {
    var model = TinyDecoder()
    model.layerCount = 1
    model.hiddenSize = 8
    model.feedForwardSize = 8
    model.headCount = 2
    model.keyValueHeadCount = 1
    model.headSize = 4
    _ = try open(model)
    let bytes = model.safetensors().build()
    for count in stride(from: bytes.count - 1, to: 0, by: -1) {
      #expect(truncate(directory.path + "/model.safetensors", count) == 0)
      #expect(throws: CheckpointError.self, "cut to \(count)") { try Checkpoint.open(directory.path) }
    }
  }

  @Test("Derived tensors of old files are left out")
  func derivedTensors() throws {
    let model = TinyDecoder()
    var builder = model.safetensors()
    builder.tensors.append(
      .init(
        name: "model.layers.0.self_attn.rotary_emb.inv_freq", dtype: "F64", shape: [1],
        bytes: Array(repeating: 0, count: 8)))
    try directory.write("config.json", model.configJSON())
    try directory.write("model.safetensors", builder.build())
    #expect(try Checkpoint.open(directory.path).tensorNames.count == 20)
  }

  @Test("SHA-256 of a file")
  func digest() throws {
    let path = try directory.write("abc", "abc")
    #expect(
      try FileDigest.sha256(path: path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    // A million letters (FIPS 180-2, B.3) and more than a chunk.
    let long = try directory.write("long", [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000))
    #expect(
      try FileDigest.sha256(path: long) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    #expect(throws: CheckpointError.self) { try FileDigest.sha256(path: path + "none") }
  }
}
