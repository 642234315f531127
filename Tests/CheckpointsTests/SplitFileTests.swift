import Checkpoints
import FileFormats
import Foundation
import TestSupport
import Testing

/// Models in several GGUF files.
@Suite("Split GGUF files") struct SplitFileTests {
  private let directory: TemporaryDirectory

  init() throws { directory = try TemporaryDirectory() }

  static func name(_ index: Int, of count: Int = 3) -> String { "m-0000\(index + 1)-of-0000\(count).gguf" }

  /// The parts of a model; part 0 has the metadata.
  static func parts(_ count: Int = 3) -> [GGUFBuilder] {
    let whole = TinyDecoder().gguf()
    return (0..<count).map { index in
      var part = whole
      if index > 0 { part.metadata = [("general.architecture", .string("llama"))] }
      part.set("split.no", .raw(type: 2, [UInt8(index), 0]))
      part.set("split.count", .raw(type: 2, [UInt8(count), 0]))
      part.set("split.tensors.count", .int32(Int32(whole.tensors.count)))
      part.tensors = whole.tensors.enumerated().filter { $0.offset % count == index }.map(\.element)
      return part
    }
  }

  private func write(_ parts: [GGUFBuilder]) throws {
    for (index, part) in parts.enumerated() {
      _ = try directory.write(Self.name(index), part.build())
    }
  }

  private func refusal(of index: Int = 0) throws -> String {
    try #require(throws: CheckpointError.self) {
      try Checkpoint.open(directory.path + "/" + Self.name(index))
    }.description
  }

  @Test func `any part opens the whole`() throws {
    try write(Self.parts())
    let whole = try Checkpoint.open(directory.write("whole.gguf", TinyDecoder().gguf().build()))
    for index in 0..<3 {
      let found = try Checkpoint.open(directory.path + "/" + Self.name(index))
      #expect(found.tensorNames.sorted() == whole.tensorNames.sorted())
      var expected = whole.configuration
      expected.name = found.configuration.name
      #expect(found.configuration == expected)
      for name in whole.tensorNames {
        #expect(try found.tensor(name).makeFloats() == whole.tensor(name).makeFloats())
      }
      #expect(found.metadata["tokenizer.ggml.tokens"]?.mappedStrings?.count == 272)
    }
    // Each part counts for the digest.
    let before = try FileDigest.sha256(model: directory.path + "/" + Self.name(0))
    #expect(try FileDigest.sha256(model: directory.path + "/" + Self.name(1)) == before)
    var parts = Self.parts()
    parts[2].tensors[0].bytes[0] ^= 1
    try write(parts)
    #expect(try FileDigest.sha256(model: directory.path + "/" + Self.name(0)) != before)
  }

  @Test func `a missing part is named`() throws {
    try write(Self.parts())
    try FileManager.default.removeItem(atPath: directory.path + "/" + Self.name(1))
    #expect(try refusal().contains(Self.name(1)))
    #expect(try refusal(of: 2).contains(Self.name(1)))
  }

  @Test func `a part under a name that says nothing of the others`() throws {
    let path = try directory.write("model.gguf", Self.parts()[0].build())
    let error = try #require(throws: CheckpointError.self) { try Checkpoint.open(path) }
    #expect(error.description.contains("-00001-of-00003.gguf"))
  }

  @Test func `parts that do not belong together are refused`() throws {
    func check(_ field: String, _ edit: (inout [GGUFBuilder]) -> Void) throws {
      var parts = Self.parts()
      edit(&parts)
      try write(parts)
      let message = try refusal()
      #expect(message.contains(field), "\(message)")
    }
    // One in another's place.
    try check("split.no") { $0.swapAt(1, 2) }
    try check("split.count") { $0[1].set("split.count", .raw(type: 2, [4, 0])) }
    try check("split.tensors.count") { $0[1].set("split.tensors.count", .int32(7)) }
    try check("split.tensors.count") { $0[2].tensors.removeLast() }
    try check("general.architecture") { $0[1].set("general.architecture", .string("qwen2")) }
    try check("output_norm.weight") { parts in
      parts[2].tensors += parts.flatMap(\.tensors).filter { $0.name == "output_norm.weight" }
    }
    try check("split.no") { $0[0].set("split.no", .raw(type: 2, [3, 0])) }
    try check("split.count") { $0[0].set("split.count", .uint32(.max)) }
    try check("split.no") { $0[1].remove("split.count") }
  }

  @Test("3,000 mutants of one part load the whole or are refused", .timeLimit(.minutes(30)))
  func mutants() throws {
    var parts = Self.parts()
    // Names of tokens and weights show little damage.
    parts[0].remove("tokenizer.ggml.tokens")
    let sound = parts.map { $0.build() }
    try write(parts)
    var random = SplitMix64(seed: 17)
    var loaded = 0
    for index in 0..<3_000 {
      let part = index % 3
      let header = sound[part].count - parts[part].tensors.reduce(0) { $0 + ($1.bytes.count + 31) / 32 * 32 }
      _ = try directory.write(
        Self.name(part), Mutation.edit(sound[part], upTo: header, using: &random))
      if try MutationTests.examine(directory.path + "/" + Self.name(index / 3 % 3)) { loaded += 1 }
      _ = try directory.write(Self.name(part), sound[part])
    }
    #expect((30...2_500).contains(loaded), "\(loaded) loaded")
  }
}
