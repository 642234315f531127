import TestSupport
import Testing
import Tokenization

/// Comparison with the libraries sentencepiece and tokenizers, and what the files can do wrong.
@Suite struct SentencePieceTests {
  struct Case: Decodable {
    struct Answer: Decodable {
      var ids: [Int]
      var decoded: String
    }
    var text: String
    var unigram: Answer
    var unigram_bytes: Answer
    var bpe_bytes: Answer
    var json: [Int]

    subscript(name: String) -> Answer {
      switch name {
      case "unigram": unigram
      case "unigram_bytes": unigram_bytes
      default: bpe_bytes
      }
    }
  }

  static let names = ["unigram", "unigram_bytes", "bpe_bytes"]

  static func make(_ name: String, sentinelCount: Int = 0) throws -> SentencePieceTokenizer {
    try SentencePieceTokenizer(model: Fixtures.bytes("\(name).model"), sentinelCount: sentinelCount)
  }

  @Test("token IDs and texts equal the reference's", arguments: names)
  func golden(_ name: String) throws {
    let tokenizer = try Self.make(name)
    // The one user-defined piece that is a mark of a prompt's structure is not found in a text.
    let mark = tokenizer.id(ofSpecial: "<start_of_turn>")
    var checked = 0
    for golden in try Fixtures.decode([Case].self, "sentencepiece_golden.json") {
      let answer = golden[name]
      if let mark, answer.ids.contains(mark) { continue }
      #expect(try tokenizer.encode(golden.text) == answer.ids, "\(golden.text.debugDescription)")
      #expect(try tokenizer.decode(answer.ids) == answer.decoded, "\(answer.ids)")
      checked += 1
    }
    #expect(checked > 190)
  }

  @Test("a tokenizer.json of T5's kind gives the reference's token IDs")
  func json() throws {
    let tokenizer = try SentencePieceTokenizer(tokenizerJSON: Fixtures.bytes("unigram.tokenizer.json"))
    let model = try Self.make("unigram", sentinelCount: 2)
    #expect(tokenizer.vocabularySize == model.vocabularySize)
    for golden in try Fixtures.decode([Case].self, "sentencepiece_golden.json") {
      #expect(try tokenizer.encode(golden.text) == golden.unigram.ids, "\(golden.text.debugDescription)")
      // The other library takes special tokens from any text and cuts at white space before its rules make spaces.
      let isPlain = !golden.text.contains("<") && !golden.text.contains("\u{2581}")
      if isPlain, golden.json == golden.unigram.ids {
        #expect(try tokenizer.encode(golden.text, special: .recognize) == golden.json)
      }
    }
    let text = "The quick <extra_id_0> over the <extra_id_1> dog</s>"
    let ids = try tokenizer.encode(text, special: .recognize)
    #expect(try ids == model.encode(text, special: .recognize))
    #expect(ids.filter { tokenizer.isControl($0) } == [164, 163, 1])
    #expect(tokenizer.id(ofSpecial: "<extra_id_0>") == 164)
  }

  @Test("a model rebuilt from GGUF metadata is the same tokenizer", arguments: names)
  func metadata(_ name: String) throws {
    let original = try ModelFields(Fixtures.bytes("\(name).model"))
    let tokenizer = try SentencePieceTokenizer(
      tokens: original.pieces, scores: original.scores, tokenTypes: original.types,
      model: name == "bpe_bytes" ? "llama" : "t5", addsSpacePrefix: name != "unigram_bytes",
      removesExtraSpaces: name == "unigram", normalizationMap: original.map)
    let expected = try Self.make(name)
    for golden in try Fixtures.decode([Case].self, "sentencepiece_golden.json") {
      let ids = try tokenizer.encode(golden.text)
      #expect(try ids == expected.encode(golden.text))
      #expect(try tokenizer.decode(ids) == expected.decode(ids))
    }
  }

  @Test("text cannot forge a special token unless asked to")
  func specialTokens() throws {
    let tokenizer = try Self.make("unigram_bytes")
    let turn = try #require(tokenizer.id(ofSpecial: "<turn>"))
    let start = try #require(tokenizer.id(ofSpecial: "<start_of_turn>"))
    let table = try #require(tokenizer.id(ofSpecial: "<table>"))
    let text = "a<turn><start_of_turn>x<table></s>"
    let asText = try tokenizer.encode(text)
    #expect(!asText.contains(turn) && !asText.contains(start) && asText.contains(table))
    #expect(try tokenizer.decode(asText) == text)
    let recognized = try tokenizer.encode(text, special: .recognize)
    #expect(recognized.filter { tokenizer.isControl($0) } == [turn, start, 2])
    #expect(recognized.contains(table) && !tokenizer.isControl(table))
    #expect(try tokenizer.decode(recognized) == "ax<table>")
    #expect(try tokenizer.decode(recognized, includingControlTokens: true) == text)
  }

  @Test("characters whose bytes come one by one appear when complete")
  func streaming() throws {
    let tokenizer = try Self.make("bpe_bytes")
    var detokenizer = StreamingDetokenizer(tokenizer)
    var pieces: [String] = []
    for id in try tokenizer.encode("😀 語") { pieces.append(try detokenizer.append(id)) }
    #expect(pieces.filter { !$0.isEmpty } == ["😀", " ", "語"])
    #expect(detokenizer.finish() == "")
  }

  @Test("text survives models without rules", arguments: ["unigram_bytes", "bpe_bytes"])
  func roundTrip(_ name: String) throws {
    let tokenizer = try Self.make(name)
    var generator = SplitMix64(seed: 9)
    for round in 0..<2_000 {
      // U+2581 is how these models write a space.
      let text = generator.text(maximumLength: 40)
      if text.unicodeScalars.contains("\u{2581}") { continue }
      let special = SpecialTokenHandling.allCases[round % 2]
      #expect(
        try tokenizer.decode(tokenizer.encode(text, special: special), includingControlTokens: true) == text)
    }
  }

  @Test("a long text of anything takes a bounded number of steps", .timeLimit(.minutes(30)), arguments: names)
  func noQuadraticCase(_ name: String) throws {
    let tokenizer = try Self.make(name)
    for unit in ["x", " ", "{", "日", "the ", "the", "\n", "<turn>"] {
      let bytes = Array(unit.utf8)
      let text = (0..<(1 << 18)).map { bytes[$0 % bytes.count] }
      for special in SpecialTokenHandling.allCases {
        let ids = try tokenizer.encode(text, special: special)
        #expect(ids.allSatisfy { $0 >= 0 && $0 < tokenizer.vocabularySize })
      }
    }
    #expect(try tokenizer.encode([UInt8](repeating: 0xFF, count: 1 << 18), special: .asText).count > 0)
  }

  @Test("a token outside the vocabulary is an error")
  func outOfRange() throws {
    let tokenizer = try Self.make("unigram", sentinelCount: 2)
    #expect(tokenizer.vocabularySize == 165)
    for token in [-1, 165, Int.max] {
      #expect(throws: TokenizerError.tokenOutOfRange(token: token, vocabularySize: 165)) {
        try tokenizer.bytes(of: token)
      }
      #expect(!tokenizer.isControl(token))
    }
  }
}

/// The fields of a ModelProto that GGUF metadata has too, read apart from the code under test.
struct ModelFields {
  var pieces = StringTable()
  var scores: [Float] = []
  var types: [Int32] = []
  var map: [UInt8] = []

  init(_ bytes: [UInt8]) throws {
    for (field, range) in Self.messages(bytes[...]) {
      if field == 1 {
        var score: UInt32 = 0
        var type: Int32 = 1
        var piece = range
        var rest = range
        while let key = rest.popFirst() {
          switch key {
          case 0x0A:
            let length = Self.integer(&rest)
            piece = rest.prefix(length)
            rest = rest.dropFirst(length)
          case 0x15:
            score = rest.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
            rest = rest.dropFirst(4)
          case 0x18: type = Int32(Self.integer(&rest))
          default: rest = []
          }
        }
        pieces.append(piece)
        scores.append(Float(bitPattern: score))
        types.append(type)
      } else if field == 3 {
        for (field, range) in Self.messages(range) where field == 2 { map = Array(range) }
      }
    }
  }

  private static func integer(_ rest: inout ArraySlice<UInt8>) -> Int {
    var value = 0
    var shift = 0
    while let byte = rest.popFirst() {
      value |= Int(byte & 0x7F) << shift
      shift += 7
      if byte < 0x80 { break }
    }
    return value
  }

  private static func messages(_ bytes: ArraySlice<UInt8>) -> [(Int, ArraySlice<UInt8>)] {
    var rest = bytes
    var found: [(Int, ArraySlice<UInt8>)] = []
    while !rest.isEmpty {
      let key = integer(&rest)
      let length = integer(&rest)
      guard key & 7 == 2 else { continue }
      found.append((key >> 3, rest.prefix(length)))
      rest = rest.dropFirst(length)
    }
    return found
  }
}
