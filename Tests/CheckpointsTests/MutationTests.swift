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

  /// One to four edits: bits, bytes, interesting 32- and 64-bit numbers, cut ends, removed and repeated ranges.
  static func mutate(_ bytes: [UInt8], upTo end: Int, using random: inout SplitMix64) -> [UInt8] {
    let numbers: [UInt64] = [
      0, 1, 2, 3, 8, 9, 10, 31, 32, 33, 255, 256, 65_535, 65_536, 1 << 31, (1 << 31) - 1, (1 << 32) - 1,
      1 << 32,
      1 << 60, 1 << 62, (1 << 63) - 1, 1 << 63, .max - 31, .max - 7, .max,
    ]
    var result = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let limit = min(end, result.count)
      guard limit > 0 else { break }
      let position = Int.random(in: 0..<limit, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0, 1: result[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: result[position] = UInt8.random(in: 0...255, using: &random)
      case 3, 4:
        let width = Bool.random(using: &random) ? 4 : 8
        let number = numbers[Int.random(in: 0..<numbers.count, using: &random)]
        withUnsafeBytes(of: number.littleEndian) { source in
          for (offset, byte) in source.prefix(width).enumerated() where position + offset < result.count {
            result[position + offset] = byte
          }
        }
      case 5: result.removeLast(result.count - position)
      case 6: result.removeSubrange(position..<min(position + Int.random(in: 1...16, using: &random), limit))
      default:
        let range = position..<min(position + Int.random(in: 1...64, using: &random), limit)
        result.insert(contentsOf: result[range], at: position)
      }
    }
    return result
  }

  /// Edits that keep JSON close to JSON: digits become others, and fragments take the place of characters.
  static func mutateText(_ bytes: [UInt8], upTo end: Int, using random: inout SplitMix64) -> [UInt8] {
    let fragments = [
      "{", "}", "[", "]", ",", ":", "\"", "\\", "0", "9", "-", "null", "true", "1e999",
      "99999999999999999999",
      "[[[[", "{\"a\":1}", "\\u0000", "\u{FF}", "1.5", "F16", "I64", " ",
    ]
    var result = bytes
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      let limit = min(end, result.count)
      guard limit > 8 else { break }
      let position = Int.random(in: 8..<limit, using: &random)
      if (0x30...0x39).contains(result[position]) || Bool.random(using: &random) {
        result[position] = UInt8.random(in: 0x30...0x39, using: &random)
      } else {
        let fragment = fragments[Int.random(in: 0..<fragments.count, using: &random)]
        result.replaceSubrange(position..<position + 1, with: Array(fragment.utf8))
      }
    }
    return result
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
        case 0: mutant = MutationTests.mutate(bytes, upTo: header, using: &random)
        case 1: mutant = MutationTests.mutate(bytes, upTo: keys, using: &random)
        default:
          let tail = MutationTests.mutate(Array(bytes[table...]), upTo: header - table, using: &random)
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
        case 0: mutant = MutationTests.mutate(bytes, upTo: header, using: &random)
        case 1: mutant = MutationTests.mutateText(bytes, upTo: header, using: &random)
        case 2: mutantConfig = MutationTests.mutate(config, upTo: config.count, using: &random)
        default: mutantConfig = MutationTests.mutateText(config, upTo: config.count, using: &random)
        }
        try directory.write("model.safetensors", mutant)
        try directory.write("config.json", mutantConfig)
        if try examine(directory.path) { loaded += 1 }
      }
    }
    #expect((40...3_500).contains(loaded), "\(loaded) loaded")
  }
}
