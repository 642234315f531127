/// BPE over characters, with bytes for those that are not in the vocabulary: what Llama 2, Mistral, Phi-3 and Gemma
/// have in their `tokenizer.json`, a SentencePiece model converted to ranked merges.
///
/// It cuts as the `tokenizers` library does: the lowest rank first, then from left to right.
public struct CharacterBPE: Tokenizer {
  let vocabulary: CharacterVocabulary

  /// Makes a tokenizer from the bytes of a Hugging Face `tokenizer.json`.
  ///
  /// - Throws: ``TokenizerError``: not JSON, fields missing or of the wrong kind, a normaliser or pre-tokenizer that
  ///   SentencePiece's conversions do not have.
  public init(tokenizerJSON json: [UInt8]) throws(TokenizerError) {
    try self.init(file: TokenizerFile(json))
  }

  init(file: TokenizerFile) throws(TokenizerError) {
    vocabulary = try CharacterVocabulary(file: file)
  }

  /// The number of token IDs, unused ones included.
  public var vocabularySize: Int { vocabulary.texts.count }

  /// - Complexity: O(*n* log *n*) for *n* bytes.
  public func encode(_ utf8: [UInt8], special: SpecialTokenHandling) -> [Int] {
    encode(utf8, special == .recognize ? vocabulary.allSpecials : vocabulary.textSpecials, startsText: true)
  }

  /// The tokens of a text that stands after a special token: without the space that is put before a text.
  public func encodeRest(_ utf8: [UInt8]) -> [Int] {
    encode(utf8, vocabulary.textSpecials, startsText: false)
  }

  private func encode(_ utf8: [UInt8], _ specials: SpecialTokenTrie, startsText: Bool) -> [Int] {
    let vocabulary = vocabulary
    return vocabulary.mergedTokens.withUnsafeBufferPointer { mergedTokens in
      vocabulary.pairs.withPointers { pairs in
        var encoder = CharacterEncoder(
          vocabulary: vocabulary, merger: BPEMerger(pairs: pairs, mergedTokens: mergedTokens))
        var start = 0
        var position = 0
        while position < utf8.count, !specials.isEmpty {
          guard let match = Self.match(vocabulary, specials, utf8, at: position) else {
            position += 1
            continue
          }
          encoder.encodeText(utf8[start..<position], startsText: startsText && start == 0)
          encoder.output.append(match.token)
          position += match.length
          start = position
        }
        encoder.encodeText(utf8[start...], startsText: startsText && start == 0)
        return encoder.output
      }
    }
  }

  /// A special token and the white space after it, where it takes that in.
  private static func match(
    _ vocabulary: CharacterVocabulary, _ specials: SpecialTokenTrie, _ text: [UInt8], at position: Int
  ) -> (token: Int, length: Int)? {
    let found = text.withUnsafeBufferPointer { specials.longestMatch($0, at: position) }
    guard let token = found?.token, var length = found?.length else { return nil }
    if vocabulary.takesSpaceAfter.contains(token) {
      while position + length < text.count, [0x20, 0x09, 0x0A, 0x0D].contains(text[position + length]) {
        length += 1
      }
    }
    return (token, length)
  }

  /// The bytes of a token; the space that encoding put before a text is dropped. O(length).
  public func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    guard token >= 0, token < vocabularySize else {
      throw .tokenOutOfRange(token: token, vocabularySize: vocabularySize)
    }
    let text = vocabulary.texts[token]
    switch vocabulary.kinds[token] {
    case .byte:
      startsText = false
      return [SentencePieceModel.byte(text) ?? 0]
    case .normal:
      let spaced = SentencePieceTokenizer.spaced(text)
      let dropsSpace = startsText && vocabulary.prefix != .none && spaced.first == 0x20
      startsText = false
      return dropsSpace ? Array(spaced.dropFirst()) : spaced
    case .control:
      // What follows a mark begins a text again for most files, but no text is lost by keeping its space.
      return Array(text)
    case .userDefined, .unknown, .unused:
      startsText = false
      return Array(text)
    }
  }

  /// Whether a token steers the model rather than stands for text.
  public func isControl(_ token: Int) -> Bool {
    token >= 0 && token < vocabularySize && vocabulary.kinds[token] == .control
  }

  /// The ID of the special token of this name, or nil if there is none.
  public func id(ofSpecial name: String) -> Int? { vocabulary.allSpecials.token(named: Array(name.utf8)) }

  /// The longest special token whose name stands at a place of a text. O(length of the name).
  public func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    Self.match(vocabulary, vocabulary.allSpecials, text, at: position)
  }
}

/// One pass over one text; the merger's pointers must outlive it.
private struct CharacterEncoder {
  let vocabulary: CharacterVocabulary
  var merger: BPEMerger
  var output: [Int] = []

  private static let space: [UInt8] = [0xE2, 0x96, 0x81]

  mutating func encodeText(_ text: ArraySlice<UInt8>, startsText: Bool) {
    guard !text.isEmpty else { return }
    var units: [UInt8] = []
    units.reserveCapacity(text.count * 5 / 4 + 3)
    let first = text[text.startIndex]
    let beginsWithSpace = first == 0x20 || text.starts(with: Self.space)
    switch vocabulary.prefix {
    case .none: break
    case .always: units += Self.space
    case .unlessThere: if !beginsWithSpace { units += Self.space }
    case .atStart: if startsText, !beginsWithSpace { units += Self.space }
    }
    for byte in text {
      if byte == 0x20 { units += Self.space } else { units.append(byte) }
    }
    guard vocabulary.cutsAtSpaces else {
      encodeWord(units[...])
      return
    }
    var start = 0
    for position in units.indices.dropFirst() where units[position...].starts(with: Self.space) {
      encodeWord(units[start..<position])
      start = position
    }
    encodeWord(units[start...])
  }

  private mutating func encodeWord(_ word: ArraySlice<UInt8>) {
    if vocabulary.ignoresMerges, let token = vocabulary.token(word) {
      output.append(token)
      return
    }
    merger.symbols.removeAll(keepingCapacity: true)
    var wasUnknown = false
    var position = word.startIndex
    while position < word.endIndex {
      let end = min(position + Self.length(word, at: position), word.endIndex)
      defer { position = end }
      let character = word[position..<end]
      if let token = vocabulary.token(character) {
        merger.symbols.append(Int32(token))
      } else if character.allSatisfy({ vocabulary.byteTokens[Int($0)] >= 0 }) {
        for byte in character { merger.symbols.append(vocabulary.byteTokens[Int(byte)]) }
      } else if let unknown = vocabulary.unknown {
        if !(wasUnknown && vocabulary.fusesUnknown) { merger.symbols.append(Int32(unknown)) }
        wasUnknown = true
        continue
      }
      wasUnknown = false
    }
    let count = merger.merge()
    for position in 0..<count { output.append(Int(merger.symbols[position])) }
  }

  /// The bytes of the character at a place; 1 where they are not UTF-8.
  private static func length(_ word: ArraySlice<UInt8>, at position: Int) -> Int {
    let count: Int
    switch word[position] {
    case 0xC2...0xDF: count = 2
    case 0xE0...0xEF: count = 3
    case 0xF0...0xF4: count = 4
    default: return 1
    }
    let rest = word[(position + 1)...].prefix(count - 1)
    return rest.count == count - 1 && rest.allSatisfy { $0 & 0xC0 == 0x80 } ? count : 1
  }
}
