import Checkpoints
import Foundation
import TestSupport
import Testing

/// Damages sound checkpoints at random. Whatever comes out must load as a consistent checkpoint or be refused.
@Suite("Mutants", .serialized)
struct MutationTests {
  private static var model: TinyDecoder {
    var model = TinyDecoder()
    model.layerCount = 1
    model.hiddenSize = 32
    model.feedForwardSize = 32
    model.headCount = 2
    model.keyValueHeadCount = 1
    model.format = .q4_1
    return model
  }

  /// Opens, and checks what opened: whether it did.
  static func examine(_ path: String) throws -> Bool {
    let checkpoint: Checkpoint
    do throws(CheckpointError) {
      checkpoint = try Checkpoint.open(path)
    } catch {
      #expect(!error.description.isEmpty && error.description.utf8.count < 4096)
      return false
    }
    try checkpoint.validateDecoderTensors()
    let configuration = checkpoint.configuration
    #expect(configuration.headCount % configuration.keyValueHeadCount == 0)
    for name in checkpoint.tensorNames {
      let tensor = try checkpoint.tensor(name)
      #expect(tensor.elementCount % tensor.format.blockLength == 0)
      #expect(
        tensor.byteCount == tensor.elementCount / tensor.format.blockLength * tensor.format.bytesPerBlock)
      #expect(tensor.makeFloats().count == tensor.elementCount)
    }
    for value in checkpoint.metadata.values {
      _ = (value.strings?.count, value.int32s?.count, value.floats?.count, value.int)
    }
    return true
  }

  /// The largest resident memory of the process so far, in bytes.
  static func peakMemory() -> Int {
    var usage = rusage()
    // RUSAGE_SELF is 0 everywhere, but imported as different types.
    getrusage(0, &usage)
    #if os(Linux)
      return usage.ru_maxrss * 1024
    #else
      return usage.ru_maxrss
    #endif
  }

  static func expectLittleMemory(_ body: () throws -> Void) rethrows {
    let before = MutationTests.peakMemory()
    try body()
    #expect(MutationTests.peakMemory() - before < 256 << 20)
  }

  // In a process of its own: what other tests need in memory at the same time is not counted.
  @Test("6,000 of a GGUF file", .timeLimit(.minutes(30)))
  func gguf() async {
    await #expect(processExitsWith: .success) { try MutationTests.examineGGUF() }
  }

  static func examineGGUF() throws {
    let directory = try TemporaryDirectory()
    let builder = model.gguf()
    let bytes = builder.build()
    let header = bytes.count - builder.tensors.reduce(0) { $0 + ($1.bytes.count + 31) / 32 * 32 }
    // Most of the file is weights and names of tokens, where damage shows little: half the mutants spare them.
    let keys = try #require(bytes.firstRange(of: Array("tokenizer.ggml.tokens".utf8))).lowerBound
    let table = try #require(bytes.firstRange(of: Array("token_embd.weight".utf8))).lowerBound
    var random = SplitMix64(seed: 11)
    var loaded = 0
    try expectLittleMemory {
      for index in 0..<6_000 {
        let mutant: [UInt8]
        switch index % 3 {
        case 0: mutant = Mutation.edit(bytes, upTo: header, using: &random)
        case 1: mutant = Mutation.edit(bytes, upTo: keys, using: &random)
        default:
          let tail = Mutation.edit(Array(bytes[table...]), upTo: header - table, using: &random)
          mutant = Array(bytes[..<table]) + tail
        }
        if try examine(try directory.write("mutant.gguf", mutant)) { loaded += 1 }
      }
    }
    // Neither everything nor nothing gets through, or the mutants would test little.
    #expect((60...5_000).contains(loaded), "\(loaded) loaded")
  }

  @Test("4,000 of a safetensors file or its config.json", .timeLimit(.minutes(30)))
  func safetensors() async {
    await #expect(processExitsWith: .success) { try MutationTests.examineSafetensors() }
  }

  static func examineSafetensors() throws {
    let directory = try TemporaryDirectory()
    let bytes = model.safetensors().build()
    let header = 8 + bytes[..<8].reversed().reduce(0) { $0 << 8 | Int($1) }
    let config = Array(model.configJSON().utf8)
    var random = SplitMix64(seed: 12)
    var loaded = 0
    try expectLittleMemory {
      for index in 0..<4_000 {
        var (mutant, mutantConfig) = (bytes, config)
        switch index % 4 {
        case 0: mutant = Mutation.edit(bytes, upTo: header, using: &random)
        case 1: mutant = Mutation.editText(bytes, upTo: header, using: &random)
        case 2: mutantConfig = Mutation.edit(config, upTo: config.count, using: &random)
        default: mutantConfig = Mutation.editText(config, upTo: config.count, using: &random)
        }
        try directory.write("model.safetensors", mutant)
        try directory.write("config.json", mutantConfig)
        if try examine(directory.path) { loaded += 1 }
      }
    }
    #expect((40...3_500).contains(loaded), "\(loaded) loaded")
  }

  @Test("3,000 of an encoder-decoder's files", .timeLimit(.minutes(30)))
  func encoderDecoder() async {
    await #expect(processExitsWith: .success) { try MutationTests.examineEncoderDecoder() }
  }

  static func examineEncoderDecoder() throws {
    let directory = try TemporaryDirectory()
    var model = TinyT5()
    (model.encoderLayerCount, model.layerCount, model.hiddenSize, model.feedForwardSize) = (1, 1, 32, 32)
    (model.headCount, model.headSize, model.vocabularySize) = (2, 16, 40)
    let builder = model.gguf()
    let bytes = builder.build()
    let header = bytes.count - builder.tensors.reduce(0) { $0 + ($1.bytes.count + 31) / 32 * 32 }
    let config = Array(model.configJSON().utf8)
    try directory.write("model.safetensors", model.safetensors().build())
    var random = SplitMix64(seed: 13)
    var loaded = 0
    try expectLittleMemory {
      for index in 0..<3_000 {
        let found: Bool
        switch index % 3 {
        case 0:
          let mutant = Mutation.edit(bytes, upTo: header, using: &random)
          found = try examine(try directory.write("mutant.gguf", mutant))
        case 1:
          try directory.write("config.json", Mutation.edit(config, upTo: config.count, using: &random))
          found = try examine(directory.path)
        default:
          try directory.write("config.json", Mutation.editText(config, upTo: config.count, using: &random))
          found = try examine(directory.path)
        }
        if found { loaded += 1 }
      }
    }
    #expect((30...2_600).contains(loaded), "\(loaded) loaded")
  }
}
