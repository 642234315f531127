import Checkpoints
import TensorKernels
import TestSupport
import Testing

@Suite("GGUF files")
struct GGUFReaderTests {
  let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  func open(_ builder: GGUFBuilder) throws -> Checkpoint {
    try Checkpoint.open(try directory.write("model.gguf", builder.build()))
  }

  @Test("A sound file gives its configuration", arguments: [DecoderConfiguration.Family.llama, .qwen2])
  func configuration(_ family: DecoderConfiguration.Family) throws {
    var model = TinyDecoder()
    model.family = family
    let checkpoint = try open(model.gguf())
    #expect(checkpoint.kind == .gguf)
    #expect(
      checkpoint.configuration
        == DecoderConfiguration(
          family: family, name: "Tiny", layerCount: 2, hiddenSize: 64, feedForwardSize: 96, headCount: 4,
          keyValueHeadCount: 2, headSize: 16, vocabularySize: 272, contextLength: 128, normEpsilon: 1e-5,
          rotaryBase: 10_000, rotaryDimension: 16, rotaryLayout: family == .llama ? .interleaved : .halves,
          rotaryScaling: .none, hasAttentionBias: family == .qwen2, hasTiedEmbedding: true))
  }

  @Test("Both versions are read", arguments: [UInt32(2), 3])
  func versions(_ version: UInt32) throws {
    var builder = TinyDecoder().gguf()
    builder.version = version
    #expect(try open(builder).configuration.layerCount == 2)
  }

  @Test("Tensors have their bytes, outermost dimension first", arguments: BlockFormat.allCases)
  func tensors(_ format: BlockFormat) throws {
    var model = TinyDecoder()
    model.format = format
    model.hiddenSize = 256
    model.feedForwardSize = 512
    model.headSize = 64
    let builder = model.gguf()
    let checkpoint = try open(builder)
    #expect(checkpoint.tensorNames == builder.tensors.map(\.name).sorted())
    for stored in builder.tensors {
      let tensor = try checkpoint.tensor(stored.name)
      #expect(tensor.name == stored.name)
      #expect(tensor.shape.reversed().map(UInt64.init) == stored.dimensions)
      #expect(tensor.format.rawValue == stored.type)
      #expect(tensor.withUnsafeBytes { Array($0) } == stored.bytes)
      tensor.releasePages()
      #expect(tensor.withUnsafeBytes { Array($0) } == stored.bytes)
    }
    #expect(try checkpoint.tensor("blk.1.ffn_down.weight").format == format)
    #expect(throws: CheckpointError.self) { try checkpoint.tensor("blk.2.ffn_down.weight") }
    #expect(!checkpoint.hasTensor("blk.2.ffn_down.weight"))
  }

  @Test("Floats are the dequantised bytes")
  func floats() throws {
    let builder = TinyDecoder().gguf()
    let stored = try #require(builder.tensors.first { $0.name == "output_norm.weight" })
    let floats = try open(builder).tensor("output_norm.weight").makeFloats()
    #expect(floats.count == 64)
    #expect(floats[3].bitPattern == stored.bytes[12..<16].reversed().reduce(0) { $0 << 8 | UInt32($1) })
  }

  @Test("Metadata of every type comes through")
  func metadata() throws {
    var builder = TinyDecoder().gguf()
    builder.set("a.uint8", .uint8(200))
    builder.set("a.int32", .int32(-5))
    builder.set("a.uint64", .uint64(.max))
    builder.set("a.float64", .float64(0.1))
    builder.set("a.bool", .bool(true))
    builder.set("a.string", .string("naïve 🦙"))
    builder.set("a.strings", .strings(["", "a", "Ġthe", "🦙"]))
    builder.set("a.int32s", .int32s([1, -2, .max]))
    builder.set("a.floats", .float32s([0.5, -1]))
    builder.set("a.bools", .bools([true, false]))
    let metadata = try open(builder).metadata
    #expect(metadata["a.uint8"]?.int == 200)
    #expect(metadata["a.int32"]?.int == -5)
    #expect(metadata["a.uint64"]?.int == nil)
    #expect(metadata["a.float64"]?.double == 0.1)
    #expect(metadata["a.bool"]?.bool == true)
    #expect(metadata["a.bool"]?.int == nil)
    #expect(metadata["a.string"]?.string == "naïve 🦙")
    #expect(metadata["a.strings"]?.strings == ["", "a", "Ġthe", "🦙"])
    #expect(metadata["a.int32s"]?.int32s == [1, -2, .max])
    #expect(metadata["a.floats"]?.floats == [0.5, -1])
    #expect(metadata["a.floats"]?.int32s == nil)
    let tokens = try #require(metadata["tokenizer.ggml.tokens"]?.mappedStrings)
    #expect(tokens.count == 272)
    #expect(tokens[1] == "<|im_start|>")
    #expect(tokens.withBytes(1) { $0.count } == 12)
  }

  @Test("The mapped array outlives the checkpoint")
  func lifetime() throws {
    let tokens = try #require(try open(TinyDecoder().gguf()).metadata["tokenizer.ggml.tokens"]?.mappedStrings)
    #expect(tokens[2] == "<|im_end|>")
  }

  @Test("An alignment of its own is followed")
  func alignment() throws {
    var builder = TinyDecoder().gguf()
    builder.alignment = 256
    builder.set("general.alignment", .uint32(256))
    let stored = try #require(builder.tensors.last)
    #expect(try open(builder).tensor(stored.name).withUnsafeBytes { Array($0) } == stored.bytes)
  }

  @Test("A separate unembedding, biases and rotary scaling are seen")
  func variants() throws {
    var model = TinyDecoder()
    model.hasTiedEmbedding = false
    var builder = model.gguf()
    #expect(try !open(builder).configuration.hasTiedEmbedding)
    builder.set("llama.rope.scaling.type", .string("linear"))
    builder.set("llama.rope.scaling.factor", .float32(4))
    #expect(try open(builder).configuration.rotaryScaling == .linear(factor: 4))
    let divisors: [Float] = [1, 1, 1, 1, 2, 4, 8, 8]
    builder.tensors.append(
      .init(
        name: "rope_freqs.weight", dimensions: [8], type: 0,
        bytes: divisors.flatMap { value in withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } })
    )
    #expect(try open(builder).configuration.rotaryScaling == .divisors(divisors.map { $0 * 4 }))
    builder.remove("llama.rope.scaling.type")
    builder.remove("llama.rope.scaling.factor")
    #expect(try open(builder).configuration.rotaryScaling == .divisors(divisors))
  }

  @Test("What metadata may leave out has its default")
  func defaults() throws {
    var builder = TinyDecoder().gguf()
    for key in [
      "general.name", "llama.vocab_size", "llama.attention.key_length", "llama.attention.value_length",
      "llama.rope.freq_base", "llama.rope.dimension_count",
    ] { builder.remove(key) }
    let configuration = try open(builder).configuration
    #expect(configuration.name == "model")
    #expect(configuration.vocabularySize == 272)
    #expect(configuration.headSize == 16)
    #expect(configuration.rotaryDimension == 16)
    #expect(configuration.rotaryBase == 10_000)
  }
}
