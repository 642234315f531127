import TestSupport
import Testing
import Tokenization

@Suite struct HostileVocabularyTests {
  static func error(
    _ tokens: [String], merges: [String] = [], types: [Int32]? = nil
  ) -> String? {
    do {
      _ = try ByteLevelBPE(
        tokens: StringTable(tokens), merges: StringTable(merges), tokenTypes: types, preTokenizer: .gpt2)
      return nil
    } catch { return error.description }
  }

  @Test("each fault of a vocabulary is named")
  func faults() {
    #expect(
      Self.error(["a", "b", "a"])
        == "tokenizer: tokenizer.ggml.tokens[2]: expected another text than token 0, found \"a\"")
    #expect(
      Self.error(["<s>", "<s>"], types: [3, 3])
        == "tokenizer: tokenizer.ggml.tokens[1]: expected another text than token 0, found \"<s>\"")
    #expect(Self.error([]) == "tokenizer: tokenizer.ggml.tokens: expected 1 to 4194304 tokens, found 0")
    #expect(
      Self.error(["a"], types: [1, 1])
        == "tokenizer: tokenizer.ggml.token_type: expected 1 types, one for each token, found 2")
    #expect(
      Self.error(["a"], types: [9])
        == "tokenizer: tokenizer.ggml.token_type[0]: expected a type from 1 to 6, found 9")
    #expect(
      Self.error(["a", "b"], merges: ["a c"])
        == "tokenizer: tokenizer.ggml.merges[0]: expected two tokens of the vocabulary, found \"a c\"")
    #expect(
      Self.error(["a", "b"], merges: ["a b"])
        == "tokenizer: tokenizer.ggml.merges[0]: expected a pair that makes a token of the vocabulary, found \"a b\""
    )
    #expect(
      Self.error(["a", "b", "ab"], merges: ["a b", "a b"])
        == "tokenizer: tokenizer.ggml.merges[1]: expected a pair that has not been listed before, found \"a b\""
    )
    for merge in ["ab", " ab", "ab ", "", " ", "a  b", "a b c", "a \u{1F600}"] {
      #expect(
        Self.error(["a", "b", "ab"], merges: [merge])?.contains(
          "tokenizer.ggml.merges[0]: expected two tokens") == true,
        "\(merge)")
    }
    // A merge with a special token would let text make one.
    #expect(
      Self.error(["a", "b", "ab"], merges: ["a b"], types: [1, 1, 3])?.contains("makes a token") == true)
    #expect(
      Self.error([String(repeating: "x", count: 9_000)])
        == "tokenizer: tokenizer.ggml.tokens[0]: expected at most 4096 bytes, found 9000 bytes")
    #expect(
      Self.error([String(repeating: "x", count: 600)], types: [3])?.contains("at most 512 bytes") == true)
  }

  @Test("each fault of a tokenizer.json is named")
  func jsonFaults() {
    func error(_ json: String) -> String? {
      do {
        _ = try ByteLevelBPE(tokenizerJSON: Array(json.utf8))
        return nil
      } catch { return error.description }
    }
    let rest = #""pre_tokenizer": {"type": "ByteLevel"}"#
    func model(_ members: String) -> String { "{\"model\": {\(members)}, \(rest)}" }
    #expect(error(model(#""vocab": {"a": 0}, "merges": []"#)) == nil)
    #expect(error("") == "tokenizer: not valid JSON at byte 0: expected a value, not the end of the file")
    #expect(error("[]") == "tokenizer: not valid JSON at byte 0: expected an object")
    #expect(error("{}") == "tokenizer: model: expected an object, found nothing")
    #expect(
      error(model(#""type": "WordPiece", "vocab": {"a": 0}"#))
        == "tokenizer: model.type is \"WordPiece\", which is not supported")
    #expect(
      error(model(#""vocab": {"a": 0, "b": 0}"#))
        == "tokenizer: model.vocab: expected one token for ID 0, found \"b\"")
    #expect(
      error(model(#""vocab": {"a": 2000000000}"#))
        == "tokenizer: model.vocab: expected IDs below 65538 for 1 tokens, found 2000000000")
    #expect(
      error(model(#""vocab": {"a": 99999999999999999999}"#))?.contains("expected a whole number") == true)
    #expect(error(model(#""vocab": {"a": -1}"#))?.contains("expected a whole number") == true)
    #expect(error(model(#""vocab": {}"#))?.contains("no tokens") == true)
    #expect(error(model(#""dropout": 0.1"#)) == "tokenizer: model.dropout is set, which is not supported")
    #expect(
      error(#"{"model": {"vocab": {"a": 0}}, "pre_tokenizer": {"type": "Whitespace"}}"#)
        == "tokenizer: pre_tokenizer.type is \"Whitespace\", which is not supported")
    #expect(
      error(#"{"model": {"vocab": {"a": 0}}}"#)
        == "tokenizer: pre_tokenizer.type is missing, which is not supported")
    #expect(
      error("{\"normalizer\": {\"type\": \"Lowercase\"}, " + model(#""vocab": {"a": 0}"#).dropFirst())
        == "tokenizer: normalizer.type is \"Lowercase\", which is not supported")
    let added = #"{"added_tokens": [{"id": 0, "content": "<s>"}], "#
    #expect(
      error(added + model(#""vocab": {"a": 0}"#).dropFirst())?.contains(
        "added_tokens[0]: expected an ID that no other token has") == true)
    #expect(error(String(repeating: "[", count: 100_000))?.contains("expected an object") == true)
    #expect(
      error("{\"x\": " + String(repeating: "[", count: 100_000))?.contains("expected at most 64 levels")
        == true)
  }

  @Test("a damaged tokenizer.json is refused or read, and never crashes", .timeLimit(.minutes(30)))
  func mutants() throws {
    var generator = SplitMix64(seed: 11)
    let sample = Array("It's 12 \n <|im_end|> é日😀".utf8)
    var refused = 0
    for name in ["gpt2", "smollm", "llama3", "qwen2"] {
      let original = try Fixtures.bytes("\(name).tokenizer.json")
      for round in 0..<500 {
        var mutant = original
        for _ in 0..<Int.random(in: 1...4, using: &generator) where !mutant.isEmpty {
          let place = Int.random(in: 0..<mutant.count, using: &generator)
          switch Int.random(in: 0..<6, using: &generator) {
          case 0: mutant.removeLast(mutant.count - place)
          case 1: mutant[place] = .random(in: 0...255, using: &generator)
          case 2: mutant[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
          case 3:
            let length = Int.random(in: 0...min(64, mutant.count - place), using: &generator)
            mutant.removeSubrange(place..<(place + length))
          case 4:
            let length = Int.random(in: 0...min(64, mutant.count - place), using: &generator)
            mutant.insert(
              contentsOf: mutant[place..<(place + length)],
              at: Int.random(in: 0...mutant.count, using: &generator))
          default:
            let piece = [
              "[", "{", "\"", "\\u", "null", "1e999", "-", "99999999999999999999", "true", ",", ":", "}",
            ]
            mutant.insert(contentsOf: Array((piece.randomElement(using: &generator) ?? "").utf8), at: place)
          }
        }
        do {
          let tokenizer = try ByteLevelBPE(tokenizerJSON: mutant)
          let ids = tokenizer.encode(sample, special: round % 2 == 0 ? .recognize : .asText)
          _ = try tokenizer.decode(ids)
        } catch {
          #expect(!error.description.isEmpty && error.description.utf8.count < 600)
          refused += 1
        }
      }
    }
    #expect(refused > 1_000)
  }
}
