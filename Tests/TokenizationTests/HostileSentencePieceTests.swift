import TestSupport
import Testing
import Tokenization

@Suite struct HostileSentencePieceTests {
  static func error(_ body: () throws -> SentencePieceTokenizer) -> String? {
    do {
      _ = try body()
      return nil
    } catch let error as TokenizerError { return error.description } catch { return nil }
  }

  static func rebuilt(
    _ tokens: [String], scores: [Float]? = nil, types: [Int32], model: String = "t5", map: [UInt8] = []
  ) -> String? {
    error {
      try SentencePieceTokenizer(
        tokens: StringTable(tokens), scores: scores ?? tokens.map { _ in -1 }, tokenTypes: types,
        model: model,
        normalizationMap: map)
    }
  }

  @Test("a file that is not a model, or is cut, is refused")
  func notAModel() throws {
    #expect(
      Self.error { try SentencePieceTokenizer(model: []) }
        == "tokenizer: not valid SentencePiece model at byte 0: expected a model, not an empty file")
    for text in ["{\"version\": \"1.0\"}", "GGUF\u{3}\0\0\0", "\u{1}\u{2}\u{3}"] {
      #expect(Self.error { try SentencePieceTokenizer(model: Array(text.utf8)) } != nil, "\(text)")
    }
    for name in SentencePieceTests.names {
      let bytes = try Fixtures.bytes("\(name).model")
      var refused = 0
      for length in stride(from: 0, to: bytes.count, by: 7) {
        // A cut between two pieces leaves a shorter model, which may be whole.
        if Self.error({ try SentencePieceTokenizer(model: Array(bytes.prefix(length))) }) != nil {
          refused += 1
        }
      }
      #expect(refused > bytes.count / 7 / 2)
    }
  }

  @Test("each fault of a vocabulary is named")
  func faults() {
    #expect(Self.rebuilt(["<unk>", "a"], types: [2, 1]) == nil)
    #expect(Self.rebuilt([], types: [])?.contains("pieces: expected 1 to") == true)
    #expect(
      Self.rebuilt(["<unk>", "a"], types: [2])?.contains("a score and a type for each of 2 tokens") == true)
    #expect(
      Self.rebuilt(["<unk>", "a"], types: [2, 7])
        == "tokenizer: tokenizer.ggml.token_type[1]: expected a type from 1 to 6, found 7")
    #expect(Self.rebuilt(["<unk>", "a"], types: [3, 1]) == nil)
    #expect(
      Self.rebuilt(["a", "b"], types: [1, 1])
        == "tokenizer: pieces: expected one piece of type unknown, found 0")
    #expect(
      Self.rebuilt(["<unk>", "a"], scores: [0, .nan], types: [2, 1])
        == "tokenizer: pieces[1].score: expected a finite number, found nan")
    #expect(
      Self.rebuilt(["<unk>", "a\0b"], types: [2, 4])
        == "tokenizer: pieces[1]: expected UTF-8 without NUL, found \"a\\0b\"")
    #expect(
      Self.rebuilt(["<unk>", ""], types: [2, 1])?.contains("pieces[1]: expected 1 to 4096 bytes") == true)
    #expect(Self.rebuilt(["<unk>", "a", "a"], types: [2, 1, 1])?.contains("SentencePiece: ") == true)
    #expect(Self.rebuilt(["<unk>", "<0x41>"], types: [2, 6])?.contains("SentencePiece: ") == true)
    #expect(Self.rebuilt(["<unk>", "A"], types: [2, 6])?.contains("expected a byte such as <0x0A>") == true)
    #expect(
      Self.rebuilt(["<unk>", "a"], types: [2, 1], model: "bert")
        == "tokenizer: tokenizer.ggml.model is \"bert\", which is not supported")
    let nested = (1...70).map { String(repeating: "x", count: $0) }
    #expect(
      Self.rebuilt(["<unk>"] + nested, types: [2] + nested.map { _ in 4 })?
        .contains("user-defined pieces that begin one another, found 70") == true)
  }

  @Test("a normalisation map that leads out of its trie is refused")
  func maps() throws {
    func error(_ map: [UInt8]) -> String? { Self.rebuilt(["<unk>", "a"], types: [2, 1], map: map) }
    let good = try ModelFields(Fixtures.bytes("unigram.model")).map
    #expect(error(good) == nil)
    for length in stride(from: 1, to: good.count, by: 13) {
      #expect(error(Array(good.prefix(length))) != nil)
    }
    var far = good
    // The root's offset: far outside of the units.
    far[4...7] = [0xFF, 0xFF, 0xFF, 0x7F]
    #expect(error(far)?.contains("precompiled_charsmap: expected trie units below 256") == true)
    // A trie of one block in which "a" leads back to its own node.
    var loop = [UInt8](repeating: 0, count: 4 + 1_024 + 2)
    loop[1] = 4
    loop.replaceSubrange(4..<8, with: [0, 0x04, 0, 0])
    for (unit, value) in [(0x60, UInt32(0x61 << 10 | 0x61)), (0x01, 0x8000_0000)] {
      for byte in 0..<4 { loop[4 + 4 * unit + byte] = UInt8(truncatingIfNeeded: value >> UInt32(8 * byte)) }
    }
    #expect(error(loop)?.contains("a trie without loops, found a loop at unit 96") == true)
    var open = good
    open[open.count - 1] = 0x41
    #expect(error(open)?.contains("replacements ended by NUL") == true)
  }

  @Test("damaged models are refused or read, and never crash", .timeLimit(.minutes(30)))
  func mutants() throws {
    var generator = SplitMix64(seed: 5)
    let samples = ["The quick brown fox\n\n", "ＡＢｚ cafe\u{301} ﬁ½ 日本\u{0}😀", "<table></s>  x"].map {
      Array($0.utf8)
    }
    var refused = 0
    for name in SentencePieceTests.names + ["map", "json"] {
      let file = name == "map" ? "unigram.model" : name == "json" ? "unigram.tokenizer.json" : "\(name).model"
      let original = try Fixtures.bytes(file)
      let map = try name == "map" ? ModelFields(original).map : []
      for _ in 0..<500 {
        var mutant = name == "map" ? map : original
        for _ in 0..<Int.random(in: 1...3, using: &generator) where !mutant.isEmpty {
          let place = Int.random(in: 0..<mutant.count, using: &generator)
          switch Int.random(in: 0..<5, using: &generator) {
          case 0: mutant[place] = .random(in: 0...255, using: &generator)
          case 1, 2: mutant[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
          case 3 where name != "map":
            mutant.removeSubrange(
              place..<min(mutant.count, place + Int.random(in: 1...40, using: &generator)))
          default: mutant.swapAt(place, Int.random(in: 0..<mutant.count, using: &generator))
          }
        }
        do {
          let tokenizer: SentencePieceTokenizer
          switch name {
          case "map":
            let fields = try ModelFields(original)
            tokenizer = try SentencePieceTokenizer(
              tokens: fields.pieces, scores: fields.scores, tokenTypes: fields.types, model: "t5",
              normalizationMap: mutant)
          case "json": tokenizer = try SentencePieceTokenizer(tokenizerJSON: mutant)
          default: tokenizer = try SentencePieceTokenizer(model: mutant)
          }
          for sample in samples {
            let ids = try tokenizer.encode(sample, special: .recognize)
            _ = try tokenizer.decode(ids)
          }
        } catch let error as TokenizerError {
          #expect(!error.description.isEmpty && error.description.utf8.count < 700)
          refused += 1
        }
      }
    }
    #expect(refused > 500)
  }
}
