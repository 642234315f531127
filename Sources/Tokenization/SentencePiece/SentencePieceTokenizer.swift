import CSentencePiece

/// SentencePiece (Kudo and Richardson 2018), by libsentencepiece: unigram and BPE models, with or without bytes for
/// what no piece covers.
///
/// A model may normalise text and drop spaces, so that decoding gives back the normalised text.
public struct SentencePieceTokenizer: Tokenizer {
  /// Pieces as their bytes: "▁" is a space, `<0x0A>` a line end, the unknown piece its surface.
  private let texts: StringTable
  private let kinds: [TokenKind]
  private let addsDummyPrefix: Bool
  private let removesExtraSpaces: Bool
  /// Control, user-defined and sentinel tokens, by name.
  private let specials: SpecialTokenTrie
  /// The unknown piece, where the library was given byte pieces that are not in the vocabulary.
  private let unknownForBytes: Int?
  private let library: SentencePieceLibrary

  /// Reads a model file (`tokenizer.model`, `spiece.model`).
  ///
  /// - Parameters:
  ///   - bytes: The file, a serialised ModelProto.
  ///   - sentinelCount: The number of T5's sentinels, which are not in its model: `<extra_id_0>` becomes the last ID.
  /// - Throws: ``TokenizerError``: not a SentencePiece model, cut off, damaged, of another type than unigram or BPE.
  public init(model bytes: [UInt8], sentinelCount: Int = 0) throws(TokenizerError) {
    try self.init(SentencePieceModel(serialized: bytes), sentinelCount: sentinelCount)
  }

  init(_ original: SentencePieceModel, sentinelCount: Int = 0) throws(TokenizerError) {
    guard sentinelCount >= 0, sentinelCount <= 65_536 else {
      throw .malformed(field: "sentinels", expected: "0 to 65536", found: "\(sentinelCount)")
    }
    var model = original
    try model.validate()
    if !model.normalizationMap.isEmpty {
      try NormalizationMap.check(
        model.normalizationMap[...], field: "normalizer_spec.precompiled_charsmap")
    }
    model.hideMarks()
    // Without byte pieces the library joins a run of unknown characters into one unknown piece, in quadratic time: a
    // megabyte of Chinese keeps an English model busy for minutes. With byte pieces it does not, so it is lent some,
    // and a run of them is the unknown piece again.
    let unknown = model.kinds.firstIndex(of: .unknown)
    unknownForBytes = model.hasByteFallback || model.hasPieceNamedAsByte ? nil : unknown
    library = try SentencePieceLibrary(model.serialized(withExtraBytes: unknownForBytes != nil))
    let loaded = library.count - (unknownForBytes == nil ? 0 : 256)
    guard loaded == model.pieces.count else {
      throw .sentencePiece(message: "\(loaded) pieces loaded of \(model.pieces.count)")
    }
    addsDummyPrefix = model.addsDummyPrefix
    removesExtraSpaces = model.removesExtraSpaces

    var texts = StringTable(reservingCount: model.pieces.count, byteCount: model.pieces.byteCount)
    var kinds = model.kinds
    var specials = SpecialTokenTrie()
    for piece in 0..<model.pieces.count {
      let text = model.pieces[piece]
      switch kinds[piece] {
      case .normal, .unused, .userDefined: texts.append(Self.spaced(text))
      case .byte: texts.append(CollectionOfOne(SentencePieceModel.byte(text) ?? 0))
      case .unknown: texts.append(model.unknownSurface)
      case .control: texts.append(text)
      }
      if kinds[piece] == .control || kinds[piece] == .userDefined,
        text.count <= SpecialTokenTrie.maximumNameLength
      {
        _ = specials.insert(text, token: piece)
      }
    }
    for sentinel in (0..<sentinelCount).reversed() {
      let name = Array("<extra_id_\(sentinel)>".utf8)
      _ = specials.insert(name, token: texts.count)
      texts.append(name)
      kinds.append(.control)
    }
    self.texts = texts
    self.kinds = kinds
    self.specials = specials
  }

  /// A piece with spaces for "▁" (U+2581, E2 96 81).
  static func spaced(_ piece: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(piece.count)
    var position = piece.startIndex
    while position < piece.endIndex {
      if piece[position] == 0xE2, piece[position...].starts(with: [0xE2, 0x96, 0x81]) {
        result.append(0x20)
        position += 3
      } else {
        result.append(piece[position])
        position += 1
      }
    }
    return result
  }

  /// The number of token IDs, unused ones included.
  public var vocabularySize: Int { kinds.count }

  /// The tokens of a text, special tokens cut out first where they are recognised.
  ///
  /// - Throws: ``TokenizerError/sentencePiece(message:)`` where the library fails.
  /// - Complexity: At most O(*n* log *n*) for *n* bytes.
  public func encode(_ utf8: [UInt8], special: SpecialTokenHandling) throws(TokenizerError) -> [Int] {
    guard special == .recognize, !specials.isEmpty else { return try encodeText(utf8) }
    var output: [Int] = []
    var start = 0
    var position = 0
    while position < utf8.count {
      let match = utf8.withUnsafeBufferPointer { specials.longestMatch($0, at: position) }
      // User-defined pieces are found by the library, together with the text around them.
      if let match, kinds[match.token] == .control {
        output += try encodeText(Array(utf8[start..<position]))
        output.append(match.token)
        position += match.length
        start = position
      } else {
        position += match?.length ?? 1
      }
    }
    return output + (try encodeText(start == 0 ? utf8 : Array(utf8[start...])))
  }

  private func encodeText(_ utf8: [UInt8]) throws(TokenizerError) -> [Int] {
    var ids = try library.encode(utf8)
    guard let unknownForBytes else { return ids }
    var count = 0
    var isInRun = false
    for id in ids {
      let isByte = id >= texts.count
      if !(isByte && isInRun) {
        ids[count] = isByte ? unknownForBytes : id
        count += 1
      }
      isInRun = isByte
    }
    ids.removeLast(ids.count - count)
    return ids
  }

  /// The bytes of a piece; the space that encoding put before a text is dropped. O(length).
  public func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    guard token >= 0, token < kinds.count else {
      throw .tokenOutOfRange(token: token, vocabularySize: kinds.count)
    }
    let text = texts[token]
    let canStart = kinds[token] != .control && kinds[token] != .byte && kinds[token] != .unknown
    guard startsText, addsDummyPrefix || removesExtraSpaces, canStart, text.first == 0x20 else {
      startsText = startsText && text.isEmpty
      return Array(text)
    }
    // As the library's decoder does: one space, or every space that a piece at the start begins with.
    let rest = text.dropFirst()
    startsText = removesExtraSpaces && rest.isEmpty
    return Array(rest)
  }

  /// Whether a piece steers the model rather than stands for text.
  public func isControl(_ token: Int) -> Bool {
    token >= 0 && token < kinds.count && kinds[token] == .control
  }

  /// The longest control piece whose name stands at a place of a text. O(length of the name).
  public func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    // User-defined pieces are found by the library, together with the text around them.
    let match = text.withUnsafeBufferPointer { specials.longestMatch($0, at: position) }
    return match.flatMap { kinds[$0.token] == .control ? $0 : nil }
  }

  /// The ID of the special token of this name, or nil if there is none.
  public func id(ofSpecial name: String) -> Int? {
    specials.token(named: Array(name.utf8))
  }
}

/// Owns a loaded model of libsentencepiece.
///
/// Unchecked: the model is never changed after loading, and the library's encoder is safe for concurrent use.
private final class SentencePieceLibrary: @unchecked Sendable {
  private let model: OpaquePointer
  private static let messageCapacity = 512

  init(_ serialized: [UInt8]) throws(TokenizerError) {
    var message = [CChar](repeating: 0, count: Self.messageCapacity)
    let model = serialized.withUnsafeBufferPointer { bytes -> OpaquePointer? in
      guard let base = bytes.baseAddress else { return nil }
      return egress_sentencepiece_load(base, bytes.count, &message, message.count)
    }
    guard let model else { throw .sentencePiece(message: Self.text(message)) }
    self.model = model
  }

  deinit {
    egress_sentencepiece_free(model)
  }

  var count: Int { Int(egress_sentencepiece_count(model)) }

  func encode(_ utf8: [UInt8]) throws(TokenizerError) -> [Int] {
    // The library counts bytes in 32 bits, and normalising makes text longer.
    guard utf8.count <= 1 << 28 else {
      throw .malformed(field: "text", expected: "at most \(1 << 28) bytes", found: "\(utf8.count)")
    }
    var message = [CChar](repeating: 0, count: Self.messageCapacity)
    var ids: UnsafeMutablePointer<Int32>?
    var count = 0
    let status = utf8.withUnsafeBufferPointer {
      egress_sentencepiece_encode(model, $0.baseAddress, $0.count, &ids, &count, &message, message.count)
    }
    defer { egress_sentencepiece_free_ids(ids) }
    guard status == 0 else { throw .sentencePiece(message: Self.text(message)) }
    return UnsafeBufferPointer(start: ids, count: count).map { Int($0) }
  }

  /// The library's first line, without its source file's name.
  private static func text(_ message: [CChar]) -> String {
    let bytes = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
    let line = String(decoding: bytes, as: UTF8.self)
    return line.isEmpty ? "refused without a reason" : line
  }
}
