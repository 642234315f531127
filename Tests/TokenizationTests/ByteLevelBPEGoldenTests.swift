import Testing
import Tokenization

/// Comparison with the reference implementation, the library tokenizers of Hugging Face.
@Suite struct ByteLevelBPEGoldenTests {
  struct Case: Decodable {
    struct Answer: Decodable {
      var ids: [Int]
      var words: [Int]
    }
    var text: String
    var gpt2: Answer
    var smollm: Answer
    var llama3: Answer
    var qwen2: Answer

    subscript(preTokenizer: PreTokenizer) -> Answer {
      switch preTokenizer {
      case .gpt2: gpt2
      case .smolLM: smollm
      case .llama3: llama3
      case .qwen2: qwen2
      }
    }
  }

  static func file(_ preTokenizer: PreTokenizer) -> String {
    switch preTokenizer {
    case .gpt2: "gpt2"
    case .smolLM: "smollm"
    case .llama3: "llama3"
    case .qwen2: "qwen2"
    }
  }

  @Test("words are cut where the reference cuts them", arguments: PreTokenizer.allCases)
  func words(_ preTokenizer: PreTokenizer) throws {
    for golden in try Fixtures.decode([Case].self, "bpe_golden.json") {
      let lengths = preTokenizer.wordLengths(of: Array(golden.text.utf8))
      #expect(lengths == golden[preTokenizer].words, "\(golden.text.debugDescription)")
    }
  }

  @Test("token IDs equal the reference's", arguments: PreTokenizer.allCases)
  func tokenIDs(_ preTokenizer: PreTokenizer) throws {
    let tokenizer = try Fixtures.byteLevelBPE(Self.file(preTokenizer))
    #expect(tokenizer.preTokenizer == preTokenizer)
    #expect(tokenizer.missingBytes.isEmpty)
    let cases = try Fixtures.decode([Case].self, "bpe_golden.json")
    #expect(cases.count > 300)
    for golden in cases {
      let ids = tokenizer.encode(Array(golden.text.utf8), special: .recognize)
      #expect(ids == golden[preTokenizer].ids, "\(golden.text.debugDescription)")
      #expect(try tokenizer.decode(ids, includingControlTokens: true) == golden.text)
    }
  }

  @Test("a word that no merges lead to is found only where merges are ignored")
  func ignoredMerges() throws {
    let word = Array(" unreachable".utf8)
    #expect(try Fixtures.byteLevelBPE("llama3").encode(word, special: .asText) == [641])
    #expect(try Fixtures.byteLevelBPE("qwen2").encode(word, special: .asText).count > 1)
  }

  @Test("the classes of scalars agree with the standard library's properties")
  func classes() {
    // Each scalar stands before a letter: GPT-2's expression joins it with the letter if it is a letter as well, and
    // only then; after a number it is joined only by a number.
    var checked = 0
    for value in UInt32(0x80)..<0x110000 {
      guard let scalar = Unicode.Scalar(value) else { continue }
      let category = scalar.properties.generalCategory
      // Scalars assigned after Unicode 16 are not in the table.
      if category == .unassigned || (scalar.properties.age.map { $0.major > 16 } ?? true) { continue }
      let isLetter = [.uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter]
        .contains(category)
      let isNumber = [.decimalNumber, .letterNumber, .otherNumber].contains(category)
      let bytes = Array(String(scalar).utf8)
      let afterLetter = PreTokenizer.gpt2.wordLengths(of: [0x61] + bytes).count == 1
      let afterNumber = PreTokenizer.gpt2.wordLengths(of: [0x31] + bytes).count == 1
      let afterSymbol = PreTokenizer.gpt2.wordLengths(of: [0x21] + bytes).count == 1
      if afterLetter != isLetter || afterNumber != isNumber
        || afterSymbol != !(isLetter || isNumber || scalar.properties.isWhitespace)
      {
        Issue.record("U+\(String(value, radix: 16)): \(category)")
      }
      checked += 1
    }
    #expect(checked > 280_000)
  }
}
