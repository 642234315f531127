import Checkpoints
import FileFormats
import Foundation
import TestSupport
import Testing
import Transformers

/// Packed weights in a file: the same numbers, and never those of another model.
@Suite struct PackedCopyTests {
  private let directory: TemporaryDirectory
  private var path: String { directory.path + "/tiny.packed" }

  init() throws { directory = try TemporaryDirectory() }

  private func load(_ compute: ComputePath = .quantized) throws -> Transformer {
    try Transformer(
      checkpoint: Checkpoint.open(directory.path + "/tiny.gguf"), compute: compute, threads: 2,
      packedCopy: path)
  }

  private func logits(_ model: Transformer) throws -> [[Float]] {
    try TransformerTests.logits(model, TransformerTests.tokens)
  }

  @Test(arguments: TransformerTests.decoders.indices)
  func `a model reads what it packed before to the bit`(_ index: Int) throws {
    let checkpoint = try TransformerTests.open(TransformerTests.decoders[index], in: directory)
    let expected = try logits(Transformer(checkpoint: checkpoint, threads: 2))
    let writing = try load()
    #expect(writing.notes.isEmpty)
    #expect(try logits(writing) == expected)
    let state = try FileState(of: path)
    let reading = try load()
    #expect(reading.notes.isEmpty)
    #expect(try logits(reading) == expected)
    #expect(try FileState(of: path) == state)
  }

  @Test func `matrices are those of the file`() throws {
    let checkpoint = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    _ = try load()
    let facts = try PackedCopy.Contents(of: checkpoint, .quantized)
    let copy = try #require(try PackedCopy(path: path, of: facts))
    #expect(copy.matrix("blk.0.attn_q.weight") != nil && copy.matrix("token_embd.weight") != nil)
    #expect(copy.matrix("output_norm.weight") == nil)
    // With another way to compute, weights are packed otherwise.
    #expect(try PackedCopy(path: path, of: PackedCopy.Contents(of: checkpoint, .fourBit)) == nil)
  }

  @Test func `a copy of the model as it was is made anew`() throws {
    let decoders = TransformerTests.decoders
    _ = try TransformerTests.open(decoders[4], in: directory)
    let first = try logits(load())
    var other = decoders[4]
    other.seed += 1
    let checkpoint = try TransformerTests.open(other, in: directory)
    let expected = try logits(Transformer(checkpoint: checkpoint, threads: 2))
    #expect(expected != first)
    let model = try load()
    #expect(try model.notes.isEmpty && logits(model) == expected)
    #expect(try logits(load()) == expected)
  }

  @Test func `a file may claim to be of any century`() throws {
    _ = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    for seconds in [-4_000_000_000.0, 13_600_000_000] {
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSince1970: seconds)], ofItemAtPath: directory.path + "/tiny.gguf"
      )
      #expect(try load().notes.isEmpty && load().notes.isEmpty)
    }
  }

  @Test func `one that was altered or cut is told of and made anew`() throws {
    let checkpoint = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    let expected = try logits(Transformer(checkpoint: checkpoint, threads: 2))
    _ = try load()
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
    var altered = bytes
    altered[bytes.count - 100] ^= 1
    let damages: [([UInt8], String)] = [
      (altered, "expected the contents that were written, found others, by their SHA-256"),
      (Array(bytes.dropLast(40)), "expected"), (Array(bytes.prefix(20)), "expected a copy of packed weights"),
      (Array("something else entirely, and longer than a seal".utf8), "expected a copy of packed weights"),
    ]
    for (damaged, words) in damages {
      try directory.write("tiny.packed", damaged)
      let model = try load()
      #expect(model.notes.count == 1 && model.notes[0].hasPrefix("\(path): "), "\(model.notes)")
      #expect(model.notes[0].contains(words) && model.notes[0].hasSuffix("it is made anew"), "\(model.notes)")
      #expect(try logits(model) == expected)
      #expect(try load().notes.isEmpty)
    }
    // Nobody has to believe the note that it was looked at.
    try FileManager.default.removeItem(atPath: path + ".checked")
    #expect(try load().notes.isEmpty)
    #expect(FileManager.default.fileExists(atPath: path + ".checked"))
  }

  @Test func `a copy that cannot be written keeps nothing from working`() throws {
    let checkpoint = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    let expected = try logits(Transformer(checkpoint: checkpoint, threads: 2))
    let model = try Transformer(
      checkpoint: checkpoint, threads: 1, packedCopy: directory.path + "/nowhere/tiny.packed")
    #expect(model.notes.count == 1 && model.notes[0].hasPrefix("the packed weights were not kept: "))
    #expect(try logits(model) == expected)
    // Another process writes the same file.
    let writer = try #require(try SealedFileWriter(path: path))
    #expect(try load().notes == ["\(path): another process is writing it"])
    withExtendedLifetime(writer) {}
  }

  @Test(arguments: [ComputePath.float32, .sixteenBit])
  func `weights that are not packed are not kept`(_ compute: ComputePath) throws {
    _ = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    let error = #expect(throws: DecoderError.self) { try load(compute) }
    #expect("\(error, default: "")".contains("not kept with compute \(compute.rawValue)"))
    #expect(!FileManager.default.fileExists(atPath: path))
  }

  @Test func `nothing in a copy ends the process`() throws {
    let checkpoint = try TransformerTests.open(TransformerTests.decoders[0], in: directory)
    _ = try load()
    let facts = try PackedCopy.Contents(of: checkpoint, .quantized)
    let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: path)))
    let header = min(bytes.count, 4096)
    var random = SplitMix64(seed: 41)
    var opened = 0
    for index in 0..<10_000 {
      let mutant =
        index % 3 == 0
        ? Mutation.editText(bytes, upTo: header, using: &random)
        : Mutation.edit(bytes, upTo: index % 3 == 1 ? header : bytes.count, using: &random)
      try directory.write("tiny.packed", mutant)
      // Every other one says that it was looked at, as somebody's would who means harm.
      if index % 2 == 0 {
        try JSONEncoder().encode(FileState(of: path))
          .write(to: URL(fileURLWithPath: path + ".checked"))
      }
      do throws(FileError) {
        guard try PackedCopy(path: path, of: facts) != nil else { continue }
        opened += 1
      } catch {
        #expect(!error.description.isEmpty && error.description.utf8.count < 4096)
        continue
      }
      if opened % 20 == 0 { _ = try logits(load()) }
    }
    #expect((100...8_000).contains(opened), "\(opened) opened")
  }
}
