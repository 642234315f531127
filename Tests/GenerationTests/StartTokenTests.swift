import Checkpoints
import Foundation
import Generation
import TestSupport
import Testing
import Tokenization

/// The token that texts begin with, where only the tokenizer's own file says so.
@Suite struct StartTokenTests {
  private func start(_ processor: String, _ settings: String? = nil) throws -> Int? {
    let directory = try TemporaryDirectory()
    let decoder = TinyDecoder()
    try decoder.writeHuggingFace(to: directory)
    let json = try decoder.tokenizerJSON()
    try directory.write("tokenizer.json", "{\"post_processor\": \(processor)," + json.dropFirst())
    if let settings { try directory.write("tokenizer_config.json", settings) }
    return try TextFacts(Checkpoint.open(directory.path)).startToken
  }

  private static let template =
    #"{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}, "#
    + #"{"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {}}"#

  @Test func `it stands in the post-processor`() throws {
    #expect(try start(Self.template) == 1)
    #expect(
      try start(#"{"type": "Sequence", "processors": [{"type": "ByteLevel"}, \#(Self.template)]}"#) == 1)
    #expect(try start("null") == nil)
    #expect(try start(#"{"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}}]}"#) == nil)
  }

  @Test func `files of Llama 3's tokenizer have it though they do not say so`() throws {
    func start(_ edit: (inout GGUFBuilder) -> Void) throws -> Int? {
      var builder = TinyDecoder().gguf()
      builder.set("tokenizer.ggml.pre", .string("llama-bpe"))
      builder.remove("tokenizer.ggml.add_bos_token")
      edit(&builder)
      let directory = try TemporaryDirectory()
      return try TextFacts(Checkpoint.open(directory.write("tiny.gguf", builder.build()))).startToken
    }
    #expect(try start { _ in } == 0)
    #expect(try start { $0.set("tokenizer.ggml.add_bos_token", .bool(false)) } == nil)
    #expect(try start { $0.set("tokenizer.ggml.pre", .string("gpt-2")) } == nil)
  }

  @Test func `settings that say otherwise come first`() throws {
    #expect(try start(Self.template, #"{"add_bos_token": false, "bos_token": "<|im_start|>"}"#) == nil)
    #expect(try start(Self.template, #"{"bos_token": "<|endoftext|>"}"#) == 1)
    #expect(try start("null", #"{"add_bos_token": true, "bos_token": "<|endoftext|>"}"#) == 0)
  }

  @Test func `a SentencePiece model that lacks added tokens leaves the text to tokenizer.json`() throws {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let model = Array(try Data(contentsOf: tests.appending(path: "TokenizationTests/Fixtures/unigram.model")))
    let directory = try TemporaryDirectory()
    try TinyDecoder().writeHuggingFace(to: directory)
    try directory.write("tokenizer.model", model)
    #expect(try TextFacts(Checkpoint.open(directory.path)).tokenizer is SentencePieceTokenizer)
    try directory.write(
      "tokenizer_config.json",
      #"{"added_tokens_decoder": {"1": {"content": "a"}, "999": {"content": "<|user|>"}}}"#)
    #expect(try TextFacts(Checkpoint.open(directory.path)).tokenizer is ByteLevelBPE)
  }
}
