import Checkpoints
import Foundation
import Generation
import TestSupport
import Testing
import Tokenization

/// Which tokenizer a model's files ask for.
@Suite struct TokenizerLoadingTests {
  /// Small files of the tokenizers' own tests.
  private static func fixture(_ name: String) throws -> [UInt8] {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return Array(try Data(contentsOf: tests.appending(path: "TokenizationTests/Fixtures/\(name)")))
  }

  private static func facts(_ files: [String: [UInt8]]) throws -> TextFacts {
    let directory = try TemporaryDirectory()
    try TinyDecoder().writeHuggingFace(to: directory)
    try FileManager.default.removeItem(atPath: directory.path + "/tokenizer.json")
    for (name, bytes) in files { try directory.write(name, bytes) }
    return try TextFacts(Checkpoint.open(directory.path))
  }

  @Test(arguments: ["spiece.model", "tokenizer.model"])
  func `a SentencePiece file of a directory is used, before tokenizer.json`(_ name: String) throws {
    let bytes = try Self.fixture("unigram.model")
    let expected = try SentencePieceTokenizer(model: bytes)
    for files in [
      [name: bytes], [name: bytes, "tokenizer.json": try Self.fixture("unigram.tokenizer.json")],
    ] {
      let found = try Self.facts(files).tokenizer
      #expect(found.vocabularySize == expected.vocabularySize)
      #expect(try found.encode("The quick brown fox") == expected.encode("The quick brown fox"))
    }
  }

  @Test func `sentinels come from the settings`() throws {
    let facts = try Self.facts([
      "spiece.model": try Self.fixture("unigram.model"),
      "tokenizer_config.json": Array(#"{"extra_ids": 2}"#.utf8),
    ])
    #expect(facts.tokenizer.id(ofSpecial: "<extra_id_0>") == 164)
    #expect(facts.tokenizer.id(ofSpecial: "<extra_id_2>") == nil)
  }

  @Test func `a unigram tokenizer.json is SentencePiece, one of bytes is not`() throws {
    let json = try Self.fixture("unigram.tokenizer.json")
    let unigram = try Self.facts(["tokenizer.json": json]).tokenizer
    #expect(
      try unigram.encode("The quick") == SentencePieceTokenizer(tokenizerJSON: json).encode("The quick"))
    let bytes = Array(try TinyDecoder().tokenizerJSON().utf8)
    #expect(try Self.facts(["tokenizer.json": bytes]).tokenizer is ByteLevelBPE)
    // Ranks of a byte-level vocabulary, under the name of a SentencePiece model.
    let ranks = Array("IQ== 0\nIg== 1\n".utf8)
    #expect(try Self.facts(["tokenizer.json": bytes, "tokenizer.model": ranks]).tokenizer is ByteLevelBPE)
  }

  @Test func `a start token is added by the classes that do so`() throws {
    let model = try Self.fixture("unigram.model")
    func start(_ settings: String) throws -> Int? {
      try Self.facts(["tokenizer.model": model, "tokenizer_config.json": Array(settings.utf8)]).startToken
    }
    let end = #""bos_token": "</s>""#
    #expect(try start(#"{"tokenizer_class": "LlamaTokenizer", \#(end)}"#) == 1)
    #expect(try start(#"{"tokenizer_class": "LlamaTokenizer", "add_bos_token": false, \#(end)}"#) == nil)
    #expect(try start(#"{"tokenizer_class": "T5Tokenizer", \#(end)}"#) == nil)
  }

  @Test func `files that are missing or damaged are refused by name`() throws {
    #expect {
      try Self.facts([:])
    } throws: {
      "\($0)".contains("tokenizer.json, tokenizer.model or spiece.model")
    }
    let model = try Self.fixture("unigram.model")
    for bytes in [Array(model.prefix(2000)), Array("hello".utf8)] {
      #expect {
        try Self.facts(["spiece.model": bytes])
      } throws: {
        "\($0)".contains("/spiece.model: tokenizer: not valid SentencePiece model")
      }
    }
  }

  /// A GGUF file whose vocabulary has scores: three control tokens, all bytes, and some pieces.
  private static func gguf(_ edit: (inout GGUFBuilder) -> Void) throws -> TextFacts {
    var tokens = ["<unk>", "<s>", "</s>"]
    tokens += (0..<256).map {
      "<0x" + (String($0, radix: 16, uppercase: true).count < 2 ? "0" : "")
        + String($0, radix: 16, uppercase: true) + ">"
    }
    let pieces = ["▁", "t", "h", "e", "th", "the", "▁the"]
    tokens += pieces
    var types: [Int32] =
      [2, 3, 3] + Array(repeating: 6, count: 256) + Array(repeating: 1, count: pieces.count)
    var scores = [Float](repeating: 0, count: 259) + [-7, -6, -5, -4, -1, -2, -3]
    while tokens.count < 272 {
      tokens.append("<unused\(tokens.count)>")
      types.append(5)
      scores.append(0)
    }
    var builder = TinyDecoder().gguf()
    builder.set("tokenizer.ggml.model", .string("llama"))
    builder.set("tokenizer.ggml.tokens", .strings(tokens))
    builder.set("tokenizer.ggml.token_type", .int32s(types))
    builder.set("tokenizer.ggml.scores", .float32s(scores))
    builder.set("tokenizer.ggml.bos_token_id", .uint32(1))
    builder.remove("tokenizer.ggml.merges")
    builder.remove("tokenizer.ggml.pre")
    builder.remove("tokenizer.ggml.add_bos_token")
    edit(&builder)
    let directory = try TemporaryDirectory()
    return try TextFacts(Checkpoint.open(try directory.write("tiny.gguf", builder.build())))
  }

  @Test func `a vocabulary with scores in a GGUF file is SentencePiece`() throws {
    let facts = try Self.gguf { _ in }
    #expect(facts.startToken == 1 && facts.endTokens == [2])
    #expect(try facts.tokenizer.encode("the the!") == [265, 265, 3 + 0x21])
    #expect(try facts.tokenizer.decode([265, 265, 36]) == "the the!")
    let bare = try Self.gguf { $0.set("tokenizer.ggml.add_space_prefix", .bool(false)) }
    #expect(try bare.tokenizer.encode("the the") == [264, 265])
    let unigram = try Self.gguf { $0.set("tokenizer.ggml.model", .string("t5")) }
    #expect(try unigram.tokenizer.encode("the the") == [265, 265])
    #expect(unigram.startToken == nil)
    #expect(try Self.gguf { $0.set("tokenizer.ggml.add_bos_token", .bool(false)) }.startToken == nil)
  }

  @Test func `a GGUF vocabulary without scores, or of another kind, is refused by name`() {
    #expect {
      try Self.gguf { $0.remove("tokenizer.ggml.scores") }
    } throws: {
      "\($0)".contains("tokenizer.ggml.scores")
    }
    #expect {
      try Self.gguf { $0.set("tokenizer.ggml.model", .string("bert")) }
    } throws: {
      "\($0)".contains("found bert")
    }
  }
}
