/// The parts of a SentencePiece model that encoding depends on, from whatever file they come.
///
/// Every model is checked as this value and serialised anew before libsentencepiece sees it: the library trusts its
/// files in places, and a file may have more in it than a tokenizer needs.
struct SentencePieceModel: Sendable {
  enum Algorithm: Int, Sendable {
    /// Most probable segmentation (Kudo 2018).
    case unigram = 1
    /// Merges by score (Sennrich et al. 2016).
    case bpe = 2
  }

  /// More pieces than any model has.
  static let maximumCount = 1 << 22
  static let maximumPieceLength = 4_096
  /// The library looks at this many user-defined pieces that begin one another.
  static let maximumNesting = 64

  var algorithm = Algorithm.unigram
  var pieces = StringTable()
  /// Log-probabilities (unigram) or minus the rank of the merge (BPE), by piece.
  var scores: [Float] = []
  var kinds: [TokenKind] = []
  /// `NormalizerSpec.precompiled_charsmap`; empty for none.
  var normalizationMap: [UInt8] = []
  /// Whether a text is read as if a space stood before it.
  var addsDummyPrefix = true
  /// Whether spaces at both ends, and all but one of a run, are dropped.
  var removesExtraSpaces = true
  var escapesSpaces = true
  var spaceIsSuffix = false
  /// What an unknown piece is shown as.
  var unknownSurface = Array(" \u{2047} ".utf8)

  /// Whether text that no piece covers becomes byte pieces.
  var hasByteFallback: Bool { kinds.contains(.byte) }

  init() {}

  /// Reads a serialised ModelProto (`tokenizer.model`, `spiece.model`).
  init(serialized bytes: [UInt8]) throws(TokenizerError) {
    guard !bytes.isEmpty else {
      throw .syntax(format: "SentencePiece model", offset: 0, expected: "a model, not an empty file")
    }
    pieces = StringTable(reservingCount: bytes.count / 16, byteCount: bytes.count / 2)
    var reader = ProtobufReader(bytes, 0..<bytes.count)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (1, .bytes(let range)): try readPiece(bytes, range)
      case (2, .bytes(let range)): try readTrainerSpec(bytes, range)
      case (3, .bytes(let range)): try readNormalizerSpec(bytes, range)
      case (5, .bytes(let range)):
        var denormalizer = ProtobufReader(bytes, range)
        while let (field, value) = try denormalizer.next() {
          if field == 2, case .bytes(let map) = value, !map.isEmpty {
            throw .unsupported(field: "denormalizer_spec.precompiled_charsmap", found: "set")
          }
        }
      default: break
      }
    }
  }

  private mutating func readPiece(_ bytes: [UInt8], _ range: Range<Int>) throws(TokenizerError) {
    var reader = ProtobufReader(bytes, range)
    var piece = 0..<0
    var score: Float = 0
    var kind = TokenKind.normal
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (1, .bytes(let range)): piece = range
      case (2, .fixed32(let bits)): score = Float(bitPattern: bits)
      case (3, .integer(let type)):
        guard let known = Int32(exactly: type).flatMap(TokenKind.init(rawValue:)) else {
          throw .malformed(
            field: "pieces[\(kinds.count)].type", expected: "a type from 1 to 6", found: "\(type)")
        }
        kind = known
      default: break
      }
    }
    guard kinds.count < Self.maximumCount else {
      throw .malformed(field: "pieces", expected: "at most \(Self.maximumCount) pieces", found: "more")
    }
    pieces.append(bytes[piece])
    scores.append(score)
    kinds.append(kind)
  }

  private mutating func readTrainerSpec(_ bytes: [UInt8], _ range: Range<Int>) throws(TokenizerError) {
    var reader = ProtobufReader(bytes, range)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (3, .integer(let type)):
        guard let known = Int(exactly: type).flatMap(Algorithm.init(rawValue:)) else {
          throw .unsupported(field: "trainer_spec.model_type", found: "\(type) (neither unigram nor BPE)")
        }
        algorithm = known
      case (24, .integer(let flag)): spaceIsSuffix = flag != 0
      case (44, .bytes(let surface)): unknownSurface = Array(bytes[surface])
      default: break
      }
    }
  }

  private mutating func readNormalizerSpec(_ bytes: [UInt8], _ range: Range<Int>) throws(TokenizerError) {
    var reader = ProtobufReader(bytes, range)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (2, .bytes(let map)): normalizationMap = Array(bytes[map])
      case (3, .integer(let flag)): addsDummyPrefix = flag != 0
      case (4, .integer(let flag)): removesExtraSpaces = flag != 0
      case (5, .integer(let flag)): escapesSpaces = flag != 0
      default: break
      }
    }
  }

  /// Checks what libsentencepiece would trust, and what it would refuse with a message that names no field.
  func validate() throws(TokenizerError) {
    guard pieces.count > 0, pieces.count <= Self.maximumCount else {
      throw .malformed(field: "pieces", expected: "1 to \(Self.maximumCount)", found: "\(pieces.count)")
    }
    guard scores.count == pieces.count, kinds.count == pieces.count else {
      throw .malformed(
        field: "pieces", expected: "a score and a type for each of \(pieces.count)",
        found: "\(scores.count) scores and \(kinds.count) types")
    }
    var userDefined = SpecialTokenTrie()
    for piece in 0..<pieces.count {
      let text = pieces[piece]
      func malformed(_ expected: String) -> TokenizerError {
        .malformed(field: "pieces[\(piece)]", expected: expected, found: TokenizerError.excerpt(text))
      }
      let limit = kinds[piece] == .userDefined ? SpecialTokenTrie.maximumNameLength : Self.maximumPieceLength
      guard !text.isEmpty, text.count <= limit else { throw malformed("1 to \(limit) bytes") }
      guard !text.contains(0), String(validating: text, as: UTF8.self) != nil else {
        throw malformed("UTF-8 without NUL")
      }
      guard scores[piece].isFinite else {
        throw .malformed(
          field: "pieces[\(piece)].score", expected: "a finite number", found: "\(scores[piece])")
      }
      if kinds[piece] == .userDefined {
        _ = userDefined.insert(text, token: piece)
      }
      if kinds[piece] == .byte {
        guard Self.byte(text) != nil else { throw malformed("a byte such as <0x0A>") }
      }
    }
    guard kinds.count(where: { $0 == .unknown }) == 1 else {
      throw .malformed(
        field: "pieces", expected: "one piece of type unknown",
        found: "\(kinds.count(where: { $0 == .unknown }))")
    }
    guard userDefined.maximumNesting <= Self.maximumNesting else {
      throw .malformed(
        field: "pieces",
        expected: "at most \(Self.maximumNesting) user-defined pieces that begin one another",
        found: "\(userDefined.maximumNesting)")
    }
  }

  /// The byte that a byte piece names.
  static func byte(_ piece: ArraySlice<UInt8>) -> UInt8? {
    let name = String(decoding: piece, as: UTF8.self)
    guard name.utf8.count == 6, name.hasPrefix("<0x"), name.hasSuffix(">") else { return nil }
    return UInt8(name.dropFirst(3).dropLast(), radix: 16)
  }

  /// Whether a piece that is no byte has the name of one.
  var hasPieceNamedAsByte: Bool {
    (0..<pieces.count).contains { kinds[$0] != .byte && Self.byte(pieces[$0]) != nil }
  }

  /// Makes control pieces of user-defined ones that are marks of a prompt's structure, such as `<start_of_turn>` in
  /// Gemma's model. The library finds user-defined pieces in any text; a document must not be able to forge a turn.
  mutating func hideMarks() {
    for piece in 0..<pieces.count where kinds[piece] == .userDefined {
      let name = String(decoding: pieces[piece], as: UTF8.self)
      guard name.hasPrefix("<"), name.hasSuffix(">") || name.hasPrefix("<|") else { continue }
      let isMark =
        name.hasPrefix("<|") || name.hasSuffix("_of_turn>") || name.hasPrefix("<unused")
        || name.hasPrefix("<extra_id_")
        || ["<pad>", "<mask>", "<bos>", "<eos>"].contains(name)
      if isMark { kinds[piece] = .control }
    }
  }

  /// A ModelProto for libsentencepiece.
  ///
  /// - Parameter withExtraBytes: Adds the 256 byte pieces after the model's own.
  func serialized(withExtraBytes: Bool = false) -> [UInt8] {
    var writer = ProtobufWriter()
    for index in 0..<pieces.count {
      var piece = ProtobufWriter()
      piece.write(1, bytes: pieces[index])
      piece.write(2, float: scores[index])
      if kinds[index] != .normal { piece.write(3, integer: Int(kinds[index].rawValue)) }
      writer.write(1, bytes: piece.bytes)
    }
    for byte in 0..<256 where withExtraBytes {
      let digits = String(byte, radix: 16, uppercase: true)
      var piece = ProtobufWriter()
      piece.write(1, bytes: "<0x\(byte < 16 ? "0" : "")\(digits)>".utf8)
      piece.write(3, integer: Int(TokenKind.byte.rawValue))
      writer.write(1, bytes: piece.bytes)
    }
    var trainer = ProtobufWriter()
    trainer.write(3, integer: algorithm.rawValue)
    trainer.write(24, integer: spaceIsSuffix ? 1 : 0)
    trainer.write(35, integer: hasByteFallback || withExtraBytes ? 1 : 0)
    writer.write(2, bytes: trainer.bytes)
    var normalizer = ProtobufWriter()
    if !normalizationMap.isEmpty { normalizer.write(2, bytes: normalizationMap) }
    normalizer.write(3, integer: addsDummyPrefix ? 1 : 0)
    normalizer.write(4, integer: removesExtraSpaces ? 1 : 0)
    normalizer.write(5, integer: escapesSpaces ? 1 : 0)
    writer.write(3, bytes: normalizer.bytes)
    return writer.bytes
  }
}
