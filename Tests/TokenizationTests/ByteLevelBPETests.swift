import TestSupport
import Testing
import Tokenization

@Suite struct ByteLevelBPETests {
  /// All single bytes in ascending order of their scalars, then the given tokens.
  static func tokens(_ more: [String]) -> StringTable {
    StringTable(alphabet + more)
  }

  /// The printable spelling of bytes, as an independent table: printable Latin-1, then the rest from U+0100.
  static let alphabet: [String] = {
    let printable = Array(0x21...0x7E) + Array(0xA1...0xAC) + Array(0xAE...0xFF)
    let scalars = printable + (0..<(256 - printable.count)).map { 0x100 + $0 }
    return scalars.compactMap { Unicode.Scalar($0).map { String($0) } }
  }()

  static func make(
    _ more: [String], merges: [String] = [], types: [Int32]? = nil, preTokenizer: PreTokenizer = .gpt2
  ) throws -> ByteLevelBPE {
    try ByteLevelBPE(
      tokens: tokens(more), merges: StringTable(merges),
      tokenTypes: types.map { [Int32](repeating: 1, count: 256) + $0 }, preTokenizer: preTokenizer)
  }

  @Test("merges go by rank, then from the left")
  func mergeOrder() throws {
    let tokenizer = try Self.make(["ab", "bc", "abc", "aa"], merges: ["b c", "a b", "a bc", "a a"])
    let a = try #require(tokenizer.encode(Array("a".utf8), special: .asText).first)
    #expect(tokenizer.encode(Array("abc".utf8), special: .asText) == [258])
    #expect(tokenizer.encode(Array("aaaaa".utf8), special: .asText) == [259, 259, a])
    #expect(tokenizer.encode(Array("aab".utf8), special: .asText) == [a, 256])
  }

  @Test("a long word is merged as many short rounds of the definition would")
  func longWords() throws {
    // The definition: as long as any pair merges, merge the leftmost pair of the lowest rank.
    let merges = ["a b", "b a", "ab ab", "a a", "ba b", "abab a", "aa aa", "c ab", "aa b", "b b"]
    let results = merges.map { $0.filter { $0 != " " } }
    let tokenizer = try Self.make(Array(results), merges: merges)
    var generator = SplitMix64(seed: 1)
    for round in 0..<200 {
      let letters = (0..<Int.random(in: 1...160, using: &generator)).map { _ in
        ["a", "b", "c"].randomElement(using: &generator) ?? "a"
      }
      var symbols = letters
      while true {
        let pairs = zip(symbols, symbols.dropFirst()).map { merges.firstIndex(of: "\($0) \($1)") ?? Int.max }
        guard let best = pairs.min(), best < Int.max, let left = pairs.firstIndex(of: best) else { break }
        symbols[left...(left + 1)] = [results[best]]
      }
      let ids = tokenizer.encode(Array(letters.joined().utf8), special: .asText)
      let found = try ids.map { String(decoding: try tokenizer.bytes(of: $0), as: UTF8.self) }
      #expect(found == symbols, "round \(round)")
    }
  }

  @Test("text cannot forge a special token unless asked to")
  func specialTokens() throws {
    let tokenizer = try Self.make(
      ["<|end|>", "<|end|>x", "<tool>", "\t\t", "<unk>"], types: [3, 3, 4, 4, 2])
    let text = Array("a<|end|>x<tool>\t\t".utf8)
    let asText = tokenizer.encode(text, special: .asText)
    #expect(!asText.contains(256) && !asText.contains(257) && !asText.contains(258))
    // A run of white space is text and never a mark.
    #expect(asText.last == 259)
    #expect(try tokenizer.decode(asText) == "a<|end|>x<tool>\t\t")
    // The longest name wins.
    #expect(tokenizer.encode(text, special: .recognize).dropFirst() == [257, 258, 259])
    #expect(tokenizer.id(ofSpecial: "<|end|>") == 256)
    #expect(tokenizer.id(ofSpecial: "<|end|") == nil && tokenizer.id(ofSpecial: "a") == nil)
    #expect(tokenizer.isControl(256) && !tokenizer.isControl(258) && tokenizer.isControl(260))
    #expect(!tokenizer.isControl(-1) && !tokenizer.isControl(261))
    #expect(try tokenizer.decode([256, 258]) == "<tool>")
    #expect(try tokenizer.decode([256, 258], includingControlTokens: true) == "<|end|><tool>")
  }

  @Test("a token outside the vocabulary is an error")
  func outOfRange() throws {
    let tokenizer = try Self.make([])
    for token in [-1, 256, Int.max, Int.min] {
      #expect(throws: TokenizerError.tokenOutOfRange(token: token, vocabularySize: 256)) {
        try tokenizer.bytes(of: token)
      }
    }
  }

  @Test("bytes without a token are named, and left out")
  func missingBytes() throws {
    let tokenizer = try ByteLevelBPE(
      tokens: StringTable(["a", "b", "ab"]), merges: StringTable(["a b"]), tokenTypes: nil,
      preTokenizer: .gpt2)
    #expect(tokenizer.missingBytes.count == 254)
    #expect(tokenizer.encode(Array("a?b".utf8), special: .asText) == [0, 1])
  }

  @Test("names of pre-tokenizers in GGUF files")
  func names() throws {
    #expect(try PreTokenizer(ggufName: "smollm") == .smolLM)
    #expect(try PreTokenizer(ggufName: "llama-bpe") == .llama3)
    #expect(try PreTokenizer(ggufName: "qwen2") == .qwen2)
    #expect(try PreTokenizer(ggufName: "gpt-2") == .gpt2)
    #expect(try PreTokenizer(ggufName: nil) == .gpt2)
    #expect(throws: TokenizerError.unsupported(field: "tokenizer.ggml.pre", found: "\"viking\"")) {
      try PreTokenizer(ggufName: "viking")
    }
  }

  @Test("any text survives, valid UTF-8 or not", arguments: PreTokenizer.allCases)
  func roundTrip(_ preTokenizer: PreTokenizer) throws {
    let tokenizer = try Fixtures.byteLevelBPE(ByteLevelBPEGoldenTests.file(preTokenizer))
    var generator = SplitMix64(seed: 7)
    for round in 0..<2_500 {
      let special = SpecialTokenHandling.allCases[round % 2]
      let text = generator.text(maximumLength: 60)
      let ids = tokenizer.encode(Array(text.utf8), special: special)
      #expect(try tokenizer.decode(ids, includingControlTokens: true) == text)
      let bytes = (0..<Int.random(in: 0...60, using: &generator)).map { _ in
        UInt8.random(in: 0...255, using: &generator)
      }
      let back = try tokenizer.encode(bytes, special: special).flatMap { try tokenizer.bytes(of: $0) }
      #expect(back == bytes)
    }
  }

  @Test("a megabyte of anything takes a bounded number of steps", .timeLimit(.minutes(30)))
  func noQuadraticCase() throws {
    // Quadratic merging or scanning of a megabyte would take hours, so the limit decides nothing about speed.
    let tokenizer = try Fixtures.byteLevelBPE("qwen2")
    let count = 1 << 20
    for unit in ["x", " ", "\n", "1", "<", "'", "the", " \n", "é", "日本", "<|im_end|", "!", "\t "] {
      let bytes = Array(unit.utf8)
      let text = (0..<count).map { bytes[$0 % bytes.count] }
      for special in SpecialTokenHandling.allCases {
        let ids = tokenizer.encode(text, special: special)
        var length = 0
        for id in ids { length += try tokenizer.bytes(of: id).count }
        #expect(length == count, "\(unit.debugDescription)")
      }
    }
  }
}
