/// The tokenizer of a Hugging Face `tokenizer.json`: byte-level BPE, BPE over characters where its model falls back to
/// bytes, or SentencePiece where its model is unigram.
///
/// - Returns: The tokenizer, and the token that the file's post-processor puts in front of a text, where it has one.
/// - Throws: ``TokenizerError``, as the tokenizers' own initialisers do.
public func makeHuggingFaceTokenizer(
  json: [UInt8]
) throws(TokenizerError) -> (tokenizer: any Tokenizer, startToken: Int?) {
  let file = try TokenizerFile(json)
  let start = file.startToken
  if file.modelType == "Unigram" { return (try SentencePieceTokenizer(file: file), start) }
  return file.byteFallback ? (try CharacterBPE(file: file), start) : (try ByteLevelBPE(file: file), start)
}

extension SentencePieceTokenizer {
  /// Whether a file looks like a SentencePiece model: it begins with a piece, field 1 of a ModelProto.
  public static func isModel(_ file: some Sequence<UInt8>) -> Bool {
    file.first { _ in true } == 0x0A
  }

  /// Makes a tokenizer from a vocabulary as it stands in GGUF metadata.
  ///
  /// - Parameters:
  ///   - tokens: `tokenizer.ggml.tokens`, the pieces by ID.
  ///   - scores: `tokenizer.ggml.scores`.
  ///   - tokenTypes: `tokenizer.ggml.token_type`, ``TokenKind`` raw values.
  ///   - unknownToken: `tokenizer.ggml.unknown_token_id`. Files that give no token the type unknown need it, unless
  ///     there is a token `<unk>`.
  ///   - name: `tokenizer.ggml.model`: `llama` for BPE by score, `t5` for unigram.
  ///   - addsSpacePrefix: `tokenizer.ggml.add_space_prefix`, true if it is missing.
  ///   - removesExtraSpaces: `tokenizer.ggml.remove_extra_whitespaces`, false if it is missing.
  ///   - normalizationMap: `tokenizer.ggml.precompiled_charsmap`, empty if it is missing.
  /// - Throws: ``TokenizerError``: counts that do not fit, duplicates, scores that are no numbers, no unknown piece, a
  ///   damaged normalisation map, another model.
  public init(
    tokens: StringTable, scores: [Float], tokenTypes: [Int32], unknownToken: Int? = nil, model name: String,
    addsSpacePrefix: Bool = true,
    removesExtraSpaces: Bool = false, normalizationMap: [UInt8] = []
  ) throws(TokenizerError) {
    var model = SentencePieceModel()
    switch name {
    case "llama": model.algorithm = .bpe
    case "t5": model.algorithm = .unigram
    default: throw .unsupported(field: "tokenizer.ggml.model", found: TokenizerError.excerpt(name.utf8))
    }
    guard scores.count == tokens.count, tokenTypes.count == tokens.count else {
      throw .malformed(
        field: "tokenizer.ggml.scores", expected: "a score and a type for each of \(tokens.count) tokens",
        found: "\(scores.count) scores and \(tokenTypes.count) types")
    }
    for (token, type) in tokenTypes.enumerated() {
      guard let kind = TokenKind(rawValue: type) else {
        throw .malformed(
          field: "tokenizer.ggml.token_type[\(token)]", expected: "a type from 1 to 6", found: "\(type)")
      }
      model.kinds.append(kind)
    }
    // Converters often write the unknown piece as a control token, and keep its ID apart.
    if !model.kinds.contains(.unknown),
      let unknown = unknownToken
        ?? (0..<tokens.count).first(where: { tokens[$0].elementsEqual("<unk>".utf8) })
    {
      guard unknown >= 0, unknown < tokens.count else {
        throw .malformed(
          field: "tokenizer.ggml.unknown_token_id", expected: "0 to \(tokens.count - 1)", found: "\(unknown)")
      }
      model.kinds[unknown] = .unknown
    }
    model.pieces = tokens
    model.scores = scores
    model.addsDummyPrefix = addsSpacePrefix
    model.removesExtraSpaces = removesExtraSpaces
    model.normalizationMap = normalizationMap
    try self.init(model)
  }

  /// Makes a tokenizer from the bytes of a Hugging Face `tokenizer.json` with a unigram model, as T5's.
  ///
  /// - Throws: ``TokenizerError``: not JSON, another model than unigram, a normaliser or pre-tokenizer that
  ///   SentencePiece does not have.
  public init(tokenizerJSON json: [UInt8]) throws(TokenizerError) {
    try self.init(file: TokenizerFile(json))
  }

  init(file: TokenizerFile) throws(TokenizerError) {
    guard file.modelType == "Unigram" else {
      throw .unsupported(field: "model.type", found: TokenizerError.excerpt((file.modelType ?? "").utf8))
    }
    var model = SentencePieceModel()
    model.pieces = file.tokens
    model.scores = file.scores
    model.kinds = [TokenKind](repeating: .normal, count: file.tokens.count)
    guard let unknown = file.unknownID, unknown < model.kinds.count else {
      throw .malformed(
        field: "model.unk_id", expected: "an ID of the vocabulary",
        found: file.unknownID.map(String.init) ?? "null")
    }
    if file.byteFallback {
      for piece in 0..<model.pieces.count where SentencePieceModel.byte(model.pieces[piece]) != nil {
        model.kinds[piece] = .byte
      }
    }
    for (index, added) in file.addedTokens.sorted(by: { $0.id < $1.id }).enumerated() {
      if added.id == model.pieces.count {
        model.pieces.append(added.content)
        model.scores.append(0)
        model.kinds.append(.normal)
      }
      guard added.id < model.pieces.count, model.pieces[added.id].elementsEqual(added.content) else {
        throw .malformed(
          field: "added_tokens[\(index)]", expected: "the piece of its ID, or the next ID",
          found: "\(added.id)")
      }
      model.kinds[added.id] = added.isSpecial ? .control : .userDefined
    }
    model.kinds[unknown] = .unknown
    model.addsDummyPrefix = false
    model.removesExtraSpaces = false
    try model.read(normalizer: file.normalizer)
    try model.read(preTokenizer: file.preTokenizer)
    try self.init(model)
  }
}

extension SentencePieceModel {
  /// Takes over `normalizer`: SentencePiece's own rules, and the rule that makes one space of many.
  fileprivate mutating func read(normalizer: JSONValue) throws(TokenizerError) {
    guard normalizer != .null else { return }
    let stages =
      normalizer["type"]?.text == "Sequence" ? normalizer["normalizers"]?.array ?? [] : [normalizer]
    for stage in stages {
      switch stage["type"]?.text {
      case "Precompiled":
        guard let text = stage["precompiled_charsmap"]?.text, let map = Self.decodeBase64(text) else {
          throw .malformed(
            field: "normalizer.precompiled_charsmap", expected: "bytes in base64", found: "something else")
        }
        normalizationMap = map
      case "Replace" where stage["pattern"]?["Regex"]?.text == " {2,}":
        removesExtraSpaces = true
      case "Strip":
        // Both are part of removing extra spaces.
        break
      case let type:
        throw .unsupported(field: "normalizer.type", found: TokenizerError.excerpt((type ?? "").utf8))
      }
    }
  }

  /// Takes over `pre_tokenizer`: cutting at white space drops extra spaces, Metaspace adds one in front.
  fileprivate mutating func read(preTokenizer: JSONValue) throws(TokenizerError) {
    let isSequence = preTokenizer["type"]?.text == "Sequence"
    let stages = isSequence ? preTokenizer["pretokenizers"]?.array ?? [] : [preTokenizer]
    for stage in stages {
      switch stage["type"]?.text {
      case "WhitespaceSplit":
        removesExtraSpaces = true
      case "Metaspace" where stage["replacement"]?.text ?? "\u{2581}" == "\u{2581}":
        let scheme = stage["prepend_scheme"]?.text
        addsDummyPrefix = scheme.map { $0 != "never" } ?? stage["add_prefix_space"]?.bool ?? true
      case let type:
        throw .unsupported(field: "pre_tokenizer.type", found: TokenizerError.excerpt((type ?? "").utf8))
      }
    }
  }

  /// Base64 (RFC 4648) with or without padding; nil for other characters.
  static func decodeBase64(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(text.utf8.count / 4 * 3)
    var bits: UInt32 = 0
    var bitCount = 0
    var isPadded = false
    for character in text.utf8 {
      let value: UInt8
      switch character {
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): value = character - UInt8(ascii: "A")
      case UInt8(ascii: "a")...UInt8(ascii: "z"): value = character - UInt8(ascii: "a") + 26
      case UInt8(ascii: "0")...UInt8(ascii: "9"): value = character - UInt8(ascii: "0") + 52
      case UInt8(ascii: "+"): value = 62
      case UInt8(ascii: "/"): value = 63
      case UInt8(ascii: "="):
        isPadded = true
        continue
      default: return nil
      }
      guard !isPadded else { return nil }
      bits = bits << 6 | UInt32(value)
      bitCount += 6
      if bitCount >= 8 {
        bitCount -= 8
        bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
      }
    }
    return bytes
  }
}
