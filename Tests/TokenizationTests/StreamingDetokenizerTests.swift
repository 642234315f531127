import TestSupport
import Testing
import Tokenization

@Suite struct StreamingDetokenizerTests {
  /// The token ID of each byte value.
  static let byteIDs: [UInt8: Int] = {
    guard let tokenizer = try? ByteLevelBPETests.make([]) else { return [:] }
    var ids: [UInt8: Int] = [:]
    for token in 0..<256 {
      if let byte = try? tokenizer.bytes(of: token).first { ids[byte] = token }
    }
    return ids
  }()

  static func pieces(_ bytes: [UInt8]) throws -> (pieces: [String], end: String) {
    var detokenizer = StreamingDetokenizer(try ByteLevelBPETests.make([]))
    let pieces = try bytes.map { byte in try detokenizer.append(try #require(byteIDs[byte])) }
    return (pieces, detokenizer.finish())
  }

  @Test("a character appears when its last byte has come")
  func incompleteCharacters() throws {
    let (pieces, end) = try Self.pieces(Array("aé€😀".utf8))
    #expect(pieces == ["a", "", "é", "", "", "€", "", "", "", "😀"])
    #expect(end == "")
  }

  @Test("what can never become a character is U+FFFD, an incomplete end only when the text ends")
  func invalidBytes() throws {
    #expect(try Self.pieces([0xE2, 0x82]) == (["", ""], "\u{FFFD}"))
    #expect(try Self.pieces([0xE2, 0x82, 0x41]) == (["", "", "\u{FFFD}A"], ""))
    #expect(try Self.pieces([0xFF, 0x41]) == (["\u{FFFD}", "A"], ""))
    #expect(try Self.pieces([0xE0, 0x80]) == (["", "\u{FFFD}\u{FFFD}"], ""))
    #expect(try Self.pieces([0xF0, 0x9F, 0x98]) == (["", "", ""], "\u{FFFD}"))
  }

  @Test("all pieces together are the decoding of all bytes; nothing is taken back")
  func equalsWholeDecoding() throws {
    var generator = SplitMix64(seed: 3)
    for _ in 0..<3_000 {
      var bytes = Array(generator.text(maximumLength: 12).utf8)
      for _ in 0..<Int.random(in: 0...3, using: &generator) where !bytes.isEmpty {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(
          in: 0x80...0xFF, using: &generator)
      }
      let (pieces, end) = try Self.pieces(bytes)
      #expect(pieces.joined() + end == String(decoding: bytes, as: UTF8.self), "\(bytes)")
    }
  }

  @Test("a detokenizer starts anew after the end, and an unknown ID changes nothing")
  func reuse() throws {
    var detokenizer = StreamingDetokenizer(try ByteLevelBPETests.make([]))
    let lead = try #require(Self.byteIDs[0xC3])
    let tail = try #require(Self.byteIDs[0xA9])
    #expect(try detokenizer.append(lead) == "")
    #expect(throws: TokenizerError.tokenOutOfRange(token: 999, vocabularySize: 256)) {
      try detokenizer.append(999)
    }
    #expect(try detokenizer.append(tail) == "é")
    #expect(try detokenizer.append(lead) == "")
    #expect(detokenizer.finish() == "\u{FFFD}")
    #expect(detokenizer.finish() == "")
  }
}
