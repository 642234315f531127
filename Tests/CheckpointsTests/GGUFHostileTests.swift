import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite("Hostile GGUF files")
struct GGUFHostileTests {
  /// A sound file made unsound, and what the message must name.
  struct Case: Sendable, CustomTestStringConvertible {
    var name: String
    var field: String
    var edit: @Sendable (inout GGUFBuilder) -> Void
    var testDescription: String { name }

    init(_ name: String, field: String, _ edit: @escaping @Sendable (inout GGUFBuilder) -> Void) {
      self.name = name
      self.field = field
      self.edit = edit
    }
  }

  /// An array value's type, element type and count, without elements.
  static func array(of type: UInt8, count: UInt64) -> GGUFBuilder.Value {
    .raw(type: 9, [type, 0, 0, 0] + withUnsafeBytes(of: count.littleEndian) { Array($0) })
  }

  static let cases: [Case] = [
    Case("wrong magic", field: "magic") { $0.magic = Array("GGML".utf8) },
    Case("version 1", field: "version") { $0.version = 1 },
    Case("version 4", field: "version") { $0.version = 4 },
    Case("big-endian", field: "version") { $0.version = 3 << 24 },
    Case("2^63 tensors", field: "tensor count") { $0.tensorCount = 1 << 63 },
    Case("more tensors than bytes", field: "tensor count") { $0.tensorCount = 1 << 40 },
    Case("2^64 - 1 keys", field: "metadata count") { $0.metadataCount = .max },
    Case("one key too many", field: "name of tensor 0") { $0.metadataCount = UInt64($0.metadata.count + 1) },
    Case("duplicate key", field: "general.name") { $0.metadata.append(("general.name", .string("Twice"))) },
    Case("unknown value type", field: "a.key") { $0.set("a.key", .raw(type: 13, [])) },
    Case("boolean 2", field: "a.key") { $0.set("a.key", .raw(type: 7, [2])) },
    Case("booleans with a 2", field: "a.key") {
      $0.set("a.key", .raw(type: 9, [7, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 2]))
    },
    Case("string of 2^64 - 1 bytes", field: "a.key") {
      $0.set("a.key", .raw(type: 8, Array(repeating: 255, count: 8)))
    },
    Case("string not UTF-8", field: "a.key") {
      $0.set("a.key", .raw(type: 8, [1, 0, 0, 0, 0, 0, 0, 0, 0xC0]))
    },
    Case("surrogate in an array", field: "a.key[0]") {
      $0.set(
        "a.key",
        .raw(type: 9, [8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xED, 0xA0, 0x80]))
    },
    Case("array of 2^61 numbers", field: "a.key") { $0.set("a.key", array(of: 10, count: 1 << 61)) },
    Case("array of 2^63 strings", field: "a.key") { $0.set("a.key", array(of: 8, count: 1 << 63)) },
    Case("array of more strings than bytes", field: "a.key") {
      $0.set("a.key", array(of: 8, count: 1 << 30))
    },
    Case("nested array", field: "a.key") { $0.set("a.key", array(of: 9, count: 1)) },
    Case("array nested 10,000 deep", field: "a.key") {
      $0.set(
        "a.key", .raw(type: 9, (0..<10_000).flatMap { _ in [9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0] as [UInt8] }))
    },
    Case("array of unknown type", field: "a.key") { $0.set("a.key", array(of: 99, count: 1)) },
    Case("alignment 0", field: "general.alignment") { $0.set("general.alignment", .uint32(0)) },
    Case("alignment 24", field: "general.alignment") { $0.set("general.alignment", .uint32(24)) },
    Case("alignment 2^63", field: "general.alignment") { $0.set("general.alignment", .uint64(1 << 63)) },
    Case("no architecture", field: "general.architecture") { $0.remove("general.architecture") },
    Case("unknown architecture", field: "general.architecture") {
      $0.set("general.architecture", .string("gptj"))
    },
    Case("architecture of a wrong type", field: "general.architecture") {
      $0.set("general.architecture", .uint32(1))
    },
    Case("no layer count", field: "llama.block_count") { $0.remove("llama.block_count") },
    Case("0 layers", field: "llama.block_count") { $0.set("llama.block_count", .uint32(0)) },
    Case("-1 layers", field: "llama.block_count") { $0.set("llama.block_count", .int32(-1)) },
    Case("2^32 - 1 layers", field: "llama.block_count") { $0.set("llama.block_count", .uint32(.max)) },
    Case("2^64 - 1 layers", field: "llama.block_count") { $0.set("llama.block_count", .uint64(.max)) },
    Case("0 heads", field: "head_count") { $0.set("llama.attention.head_count", .uint32(0)) },
    Case("3 key heads for 4", field: "head_count_kv") { $0.set("llama.attention.head_count_kv", .uint32(3)) },
    Case("0 key heads", field: "head_count_kv") { $0.set("llama.attention.head_count_kv", .uint32(0)) },
    Case("values of another size", field: "value_length") {
      $0.set("llama.attention.value_length", .uint32(8))
    },
    Case("odd rotary dimension", field: "dimension_count") {
      $0.set("llama.rope.dimension_count", .uint32(7))
    },
    Case("rotary dimension over the head", field: "dimension_count") {
      $0.set("llama.rope.dimension_count", .uint32(32))
    },
    Case("epsilon NaN", field: "epsilon") {
      $0.set("llama.attention.layer_norm_rms_epsilon", .float32(.nan))
    },
    Case("epsilon 0", field: "epsilon") { $0.set("llama.attention.layer_norm_rms_epsilon", .float32(0)) },
    Case("infinite base", field: "freq_base") { $0.set("llama.rope.freq_base", .float32(.infinity)) },
    Case("context 0", field: "context_length") { $0.set("llama.context_length", .uint32(0)) },
    Case("context 2^31", field: "context_length") { $0.set("llama.context_length", .uint32(1 << 31)) },
    Case("yarn without its context", field: "rope.scaling.original_context_length") {
      $0.set("llama.rope.scaling.type", .string("yarn"))
    },
    Case("an unknown scaling", field: "rope.scaling.type") {
      $0.set("llama.rope.scaling.type", .string("abrakadabra"))
    },
    Case("negative factor", field: "rope.scaling") { $0.set("llama.rope.scaling.factor", .float32(-2)) },
    Case("experts", field: "expert_count") { $0.set("llama.expert_count", .uint32(8)) },
    Case("vocabulary unlike the embedding", field: "vocab_size") { $0.set("llama.vocab_size", .uint32(271)) },
    Case("tokens that are numbers", field: "tokenizer.ggml.tokens") {
      $0.set("tokenizer.ggml.tokens", .int32s([1]))
    },
    Case("tensor missing", field: "blk.1.ffn_up.weight") {
      $0.tensors.removeAll { $0.name == "blk.1.ffn_up.weight" }
    },
    Case("embedding missing", field: "token_embd.weight") {
      $0.tensors.removeAll { $0.name == "token_embd.weight" }
    },
    Case("duplicate tensor", field: "blk.0.ffn_up.weight") { builder in
      builder.editTensor("blk.1.ffn_up.weight") { $0.name = "blk.0.ffn_up.weight" }
    },
    Case("wrong shape", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [32, 64] }
    },
    Case("more layers than the configuration", field: "blk.1.") { $0.set("llama.block_count", .uint32(1)) },
    Case("a bias in one layer alone", field: "blk.1.attn_output.bias") {
      $0.tensors.append(
        .init(
          name: "blk.0.attn_output.bias", dimensions: [64], type: 0, bytes: Array(repeating: 0, count: 256)))
    },
    Case("2^60 elements", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [1 << 30, 1 << 30] }
    },
    Case("2^64 elements", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [1 << 32, 1 << 32] }
    },
    Case("a dimension of 2^63", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [1 << 63] }
    },
    Case("a dimension of 0", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [64, 0] }
    },
    Case("no dimensions", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [] }
    },
    Case("five dimensions", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.dimensions = [64, 32, 1, 1, 1] }
    },
    Case("part of a block", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { ($0.dimensions, $0.type) = ([48, 32], 8) }
    },
    Case("a type of other programs", field: "blk.0.attn_k.weight: type") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.type = 16 }
    },
    Case("type 2^32 - 1", field: "blk.0.attn_k.weight: type") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.type = .max }
    },
    Case("offset past the end", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.offset = 1 << 40 }
    },
    Case("offset 2^64 - 32", field: "blk.0.attn_k.weight") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.offset = .max - 31 }
    },
    Case("offset not aligned", field: "blk.0.attn_k.weight: offset") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.offset = 33 }
    },
    Case("bytes of another tensor", field: "tensor ") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.offset = 0 }
    },
    Case("name of 65 bytes", field: "name of tensor") { builder in
      builder.editTensor("blk.0.attn_k.weight") { $0.name = String(repeating: "x", count: 65) }
    },
    Case("control characters in a name", field: #"\u{07}"#) { builder in
      builder.editTensor("blk.0.attn_k.weight") { ($0.name, $0.type) = ("bell\u{7}", 10) }
    },
    Case("rope_freqs of another length", field: "rope_freqs.weight") {
      $0.tensors.append(
        .init(name: "rope_freqs.weight", dimensions: [4], type: 0, bytes: Array(repeating: 1, count: 16)))
    },
    Case("rope_freqs of zeros", field: "rope.scaling") {
      $0.tensors.append(
        .init(name: "rope_freqs.weight", dimensions: [8], type: 0, bytes: Array(repeating: 0, count: 32)))
    },
  ]

  @Test("Each is refused with a message that names file and field", arguments: cases)
  func refused(_ hostile: Case) throws {
    let directory = try TemporaryDirectory()
    var builder = TinyDecoder().gguf()
    hostile.edit(&builder)
    let path = try directory.write("hostile.gguf", builder.build())
    let error = try #require(throws: CheckpointError.self) { try Checkpoint.open(path) }
    #expect(error.file == path)
    #expect(error.field.contains(hostile.field), "\(error)")
    #expect(!error.expected.isEmpty && !error.found.isEmpty)
    #expect(!error.description.contains("\n"))
  }

  @Test("A file cut short at any byte is refused")
  func truncated() throws {
    let directory = try TemporaryDirectory()
    var model = TinyDecoder()
    model.layerCount = 1
    model.hiddenSize = 8
    model.feedForwardSize = 8
    model.headCount = 2
    model.keyValueHeadCount = 1
    model.headSize = 4
    let bytes = model.gguf().build()
    let path = try directory.write("cut.gguf", bytes)
    _ = try Checkpoint.open(path)
    // The last tensor is followed by no more than padding.
    for count in stride(from: bytes.count - 32, to: 0, by: -1) {
      #expect(truncate(path, count) == 0)
      let error = #expect(throws: CheckpointError.self, "cut to \(count)") { try Checkpoint.open(path) }
      #expect(error?.file == path)
    }
  }

  @Test("What is no file is told apart")
  func notAFile() throws {
    let directory = try TemporaryDirectory()
    func found(_ path: String) -> String {
      do throws(CheckpointError) {
        _ = try Checkpoint.open(path)
        return "a model"
      } catch {
        #expect(error.kind == .unreadable)
        return error.found
      }
    }
    #expect(found(directory.path + "/none.gguf") == "no such file")
    #expect(found(try directory.write("empty.gguf", [])) == "an empty file")
    #expect(found("/dev/null") == "something that is not a regular file")
    #expect(found("") == "no such file")
    #expect(found("a\0b") == "a path with a NUL character")
    // A directory is a Hugging Face one, whose first file is missing here.
    #expect(found(directory.path) == "no such file")
  }
}
