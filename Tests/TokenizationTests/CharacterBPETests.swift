import Foundation
import TestSupport
import Testing
import Tokenization

/// BPE over characters against the tokenizers library; Tests/Scripts/make_character_bpe_fixtures.py.
@Suite struct CharacterBPETests {
  private struct Fixtures: Decodable {
    struct Case: Decodable {
      var tokenizer: String
      var text: String
      var ids: [Int]
    }
    var tokenizers: [String: String]
    var cases: [Case]
  }

  private static func fixtures() throws -> Fixtures {
    let file = try #require(Bundle.module.url(forResource: "Fixtures/character_bpe", withExtension: "json"))
    return try JSONDecoder().decode(Fixtures.self, from: Data(contentsOf: file))
  }

  private static func tokenizer(_ json: String) throws -> CharacterBPE {
    try CharacterBPE(tokenizerJSON: Array(json.utf8))
  }

  @Test func `tokens are those of the tokenizers library`() throws {
    let fixtures = try Self.fixtures()
    #expect(fixtures.cases.count >= 60)
    let tokenizers = try fixtures.tokenizers.mapValues { try Self.tokenizer($0) }
    for example in fixtures.cases {
      let tokenizer = try #require(tokenizers[example.tokenizer])
      let found = tokenizer.encode(Array(example.text.utf8), special: .recognize)
      #expect(found == example.ids, "\(example.tokenizer): \(example.text.debugDescription)")
    }
  }

  @Test func `text comes back, and marks in it stay text`() throws {
    for (name, json) in try Self.fixtures().tokenizers {
      let tokenizer = try Self.tokenizer(json)
      for text in ["The quick fox", "naïve \u{1F642} 日本", "hi\nthere\n\n  x", "a<|end|> the"] {
        let ids = tokenizer.encode(Array(text.utf8), special: .asText)
        // Runs of line ends are a token, which no space of the text stands before.
        #expect(try tokenizer.decode(ids).filter { $0 != " " } == text.filter { $0 != " " }, "\(name)")
        #expect(!ids.contains { tokenizer.isControl($0) })
      }
      #expect(tokenizer.id(ofSpecial: "<|end|>") != nil && tokenizer.id(ofSpecial: "<s>") != nil)
    }
  }

  @Test func `a space is put in front of a text, not of what follows a mark, where the file says so`() throws
  {
    let files = try Self.fixtures().tokenizers
    func rest(_ name: String) throws -> (text: [Int], rest: [Int]) {
      let tokenizer = try Self.tokenizer(#require(files[name]))
      return (tokenizer.encode(Array("the".utf8), special: .asText), tokenizer.encodeRest(Array("the".utf8)))
    }
    #expect(try rest("mistral").text != rest("mistral").rest)
    for name in ["llama", "always", "gemma"] { #expect(try rest(name).text == rest(name).rest) }
  }

  @Test func `a megabyte takes seconds at most`() throws {
    let fixtures = try Self.fixtures()
    let tokenizer = try Self.tokenizer(#require(fixtures.tokenizers["gemma"]))
    for unit in ["a", "the theory ", "日本語", " "] {
      let text = Array(String(repeating: unit, count: 1_000_000 / unit.utf8.count).utf8)
      let start = ContinuousClock.now
      #expect(!tokenizer.encode(text, special: .asText).isEmpty)
      #expect(ContinuousClock.now - start < .seconds(20), "\(unit)")
    }
  }

  @Test func `what the file does beyond that is refused`() throws {
    let file = try #require(try Self.fixtures().tokenizers["llama"])
    for (old, new, field) in [
      ("\"Prepend\"", "\"Lowercase\"", "normalizer"),
      ("\"lstrip\":false", "\"lstrip\":true", "lstrip"),
      ("\"model\":{\"type\":\"BPE\"", "\"model\":{\"type\":\"WordPiece\"", "model.type"),
    ] {
      #expect(file.contains(old), "\(old)")
      let error = #expect(throws: TokenizerError.self) { try Self.tokenizer(file.replacing(old, with: new)) }
      #expect(error?.description.contains(field) == true, "\(String(describing: error))")
    }
  }

  @Test("5,000 mutants are read or refused", .timeLimit(.minutes(30)))
  func mutants() throws {
    let sources = try Self.fixtures().tokenizers.sorted { $0.key < $1.key }.map { Array($0.value.utf8) }
    var random = SplitMix64(seed: 8)
    var read = 0
    for index in 0..<5_000 {
      let source = sources[index % sources.count]
      let mutant =
        index % 2 == 0
        ? Mutation.edit(source, upTo: source.count, using: &random)
        : Mutation.editText(source, upTo: source.count, using: &random)
      do throws(TokenizerError) {
        let tokenizer = try CharacterBPE(tokenizerJSON: mutant)
        let ids = tokenizer.encode(Array("the <s>theory\n\n naïve\u{1F642}".utf8), special: .recognize)
        for id in ids { _ = try tokenizer.bytes(of: id) }
        read += 1
      } catch {
        #expect(!error.description.isEmpty && error.description.utf8.count < 1000)
      }
    }
    #expect((100...4_900).contains(read), "\(read) read")
  }
}
