import Checkpoints
import FileFormats
import Foundation
import TestSupport
import Testing

/// JSON that Python writes and other readers refuse.
@Suite struct PythonJSONTests {
  private func normalized(_ text: String) -> String {
    String(decoding: PythonJSON.normalized(Data(text.utf8)), as: UTF8.self)
  }

  @Test func `numbers that JSON does not have become texts`() {
    #expect(
      normalized(#"{"a": NaN, "b": [Infinity, -Infinity, -1]}"#)
        == #"{"a": "NaN", "b": ["Infinity", "-Infinity", -1]}"#)
    // Not within texts.
    #expect(normalized(#"{"NaN": "-Infinity \" NaN"}"#) == #"{"NaN": "-Infinity \" NaN"}"#)
  }

  @Test func `half a surrogate pair becomes a replacement character`() {
    #expect(normalized(#""a\ud83db""#) == #""a\ufffdb""#)
    #expect(normalized(#""\udE00\uD83D""#) == #""\ufffd\ufffd""#)
    #expect(normalized(#""\ud83d\ude00""#) == #""\ud83d\ude00""#)
    #expect(normalized(#""\\ud83d \u00e9""#) == #""\\ud83d \u00e9""#)
  }

  @Test func `mutants do not trap, and what was JSON stays JSON`() throws {
    let source = Array(
      #"{"a": [NaN, -Infinity, "x\ud83d\ude00\"\\", "\udc00"], "b": -1.5e3, "c": null}"#.utf8)
    var random = SplitMix64(seed: 3)
    for _ in 0..<10_000 {
      let mutant = Data(Mutation.edit(source, upTo: source.count, using: &random))
      let result = PythonJSON.normalized(mutant)
      if (try? JSONSerialization.jsonObject(with: mutant, options: .fragmentsAllowed)) != nil {
        #expect((try? JSONSerialization.jsonObject(with: result, options: .fragmentsAllowed)) != nil)
      }
    }
  }

  @Test func `a Git LFS pointer is called one`() throws {
    let directory = try TemporaryDirectory()
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
    let path = try directory.write("model.gguf", Array(pointer.utf8))
    let error = try #require(throws: CheckpointError.self) { try Checkpoint.open(path) }
    #expect(error.description.contains("Git LFS pointer"))
    try TinyDecoder().writeHuggingFace(to: directory)
    _ = try directory.write("model.safetensors", Array(pointer.utf8))
    let other = try #require(throws: CheckpointError.self) { try Checkpoint.open(directory.path) }
    #expect(other.description.contains("Git LFS pointer") && other.description.contains("model.safetensors"))
  }

  @Test func `heads are tied as the tensors say, with a word where the configuration disagrees`() throws {
    let directory = try TemporaryDirectory()
    func open(_ model: TinyDecoder, stating isTied: Bool) throws -> Checkpoint {
      try model.writeHuggingFace(to: directory)
      let config = model.configJSON().replacing(
        "\"tie_word_embeddings\": \(model.hasTiedEmbedding)", with: "\"tie_word_embeddings\": \(isTied)")
      _ = try directory.write("config.json", config)
      return try Checkpoint.open(directory.path)
    }
    var model = TinyDecoder()
    let tied = try open(model, stating: false)
    #expect(tied.configuration.hasTiedEmbedding)
    #expect(tied.notes.count == 1 && tied.notes[0].contains("the embedding serves as both"))
    #expect(try open(model, stating: true).notes.isEmpty)
    model.hasTiedEmbedding = false
    let untied = try open(model, stating: true)
    #expect(!untied.configuration.hasTiedEmbedding && untied.hasTensor("output.weight"))
    #expect(untied.notes.count == 1 && untied.notes[0].contains("two"))
    #expect(try open(model, stating: false).notes.isEmpty)
  }

  @Test(arguments: ["qwen3moe", "mixtral", "llama4"])
  func `mixtures of experts are refused by name`(_ name: String) throws {
    let directory = try TemporaryDirectory()
    var builder = TinyDecoder().gguf()
    builder.set("general.architecture", .string(name))
    let error = try #require(throws: CheckpointError.self) {
      try Checkpoint.open(directory.write("model.gguf", builder.build()))
    }
    #expect(error.description.contains("\"\(name)\", a mixture of experts"))
  }
}
