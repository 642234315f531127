/// The tables of a BPE tokenizer over characters.
final class CharacterVocabulary: Sendable {
  /// Where a space is put in front of a text.
  enum Prefix: Sendable {
    case none
    /// In front of every part between special tokens (`Prepend`).
    case always
    /// The same where the part does not begin with one (`Metaspace`, "always").
    case unlessThere
    /// In front of the text, not of what follows a special token (`Metaspace`, "first").
    case atStart
  }

  let texts: StringTable
  let kinds: [TokenKind]
  /// The token of each `<0xNN>`, or -1. (256)
  let byteTokens: [Int32]
  let unknown: Int?
  let fusesUnknown: Bool
  let ignoresMerges: Bool
  let pairs: PairTable
  /// The token that each merge makes, by rank.
  let mergedTokens: [Int32]
  let prefix: Prefix
  /// Whether no merge goes across the beginning of a word.
  let cutsAtSpaces: Bool
  let allSpecials: SpecialTokenTrie
  /// Those that are text wherever they stand: runs of line ends and the like; see ``BPEVocabulary/textSpecials``.
  let textSpecials: SpecialTokenTrie
  /// Special tokens that take in the white space after them.
  let takesSpaceAfter: Set<Int>
  private let bytes: [UInt8]
  private let starts: [Int32]
  private let index: ByteStringIndex

  init(file: TokenizerFile) throws(TokenizerError) {
    guard file.modelType == nil || file.modelType == "BPE" else {
      throw .unsupported(field: "model.type", found: TokenizerError.excerpt((file.modelType ?? "").utf8))
    }
    let (tokens, types) = try file.tokensByID()
    guard tokens.count <= BPEVocabulary.maximumCount, file.merges.count <= BPEVocabulary.maximumCount,
      tokens.byteCount <= Int(Int32.max)
    else {
      throw .malformed(
        field: "model", expected: "at most \(BPEVocabulary.maximumCount) tokens and merges",
        found: "\(tokens.count) and \(file.merges.count)")
    }
    var kinds = types.map { TokenKind(rawValue: $0) ?? .normal }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(tokens.byteCount)
    var starts: [Int32] = [0]
    var byteTokens = [Int32](repeating: -1, count: 256)
    for token in 0..<tokens.count {
      let text = tokens[token]
      guard text.count <= BPEVocabulary.maximumTokenLength else {
        throw .malformed(
          field: "model.vocab", expected: "tokens of at most \(BPEVocabulary.maximumTokenLength) bytes",
          found: "\(text.count)")
      }
      bytes += text
      starts.append(Int32(bytes.count))
      if kinds[token] == .normal, file.byteFallback, let byte = SentencePieceModel.byte(text) {
        kinds[token] = .byte
        byteTokens[Int(byte)] = Int32(token)
      }
    }
    // Special tokens stand in the vocabulary too, where merges may lead to them.
    let inVocabulary = Set(file.ids)
    let included = (0..<tokens.count).map { inVocabulary.contains($0) && kinds[$0] != .byte }
    var index = ByteStringIndex(capacity: tokens.count)
    if let (token, other) = index.insert(bytes, starts, where: included) {
      throw .malformed(
        field: "model.vocab", expected: "another text than token \(other)",
        found: TokenizerError.excerpt(tokens[token]))
    }
    (pairs, mergedTokens) = try Self.merges(file.merges, bytes, starts, index)
    (allSpecials, textSpecials) = try Self.specials(file)
    unknown = file.unknownToken.flatMap { name in
      name.withUnsafeBufferPointer { name in
        bytes.withUnsafeBufferPointer { bytes in
          starts.withUnsafeBufferPointer { index.find(name, bytes, $0) }
        }
      }
    }
    takesSpaceAfter = Set(file.addedTokens.filter(\.takesSpaceAfter).map(\.id))
    (prefix, cutsAtSpaces) = try Self.spaces(file)
    fusesUnknown = file.fusesUnknown
    ignoresMerges = file.ignoresMerges
    texts = tokens
    self.kinds = kinds
    self.byteTokens = byteTokens
    self.bytes = bytes
    self.starts = starts
    self.index = index
  }

  /// The token of these bytes, or nil.
  func token(_ text: ArraySlice<UInt8>) -> Int? {
    text.withUnsafeBufferPointer { text in
      bytes.withUnsafeBufferPointer { bytes in
        starts.withUnsafeBufferPointer { index.find(text, bytes, $0) }
      }
    }
  }

  private static func merges(
    _ merges: StringTable, _ bytes: [UInt8], _ starts: [Int32], _ index: ByteStringIndex
  ) throws(TokenizerError) -> (PairTable, [Int32]) {
    func find(_ text: UnsafeBufferPointer<UInt8>) -> Int32? {
      bytes.withUnsafeBufferPointer { bytes in
        starts.withUnsafeBufferPointer { index.find(text, bytes, $0).map { Int32($0) } }
      }
    }
    var pairs = PairTable(capacity: merges.count)
    var merged: [Int32] = []
    merged.reserveCapacity(merges.count)
    var whole: [UInt8] = []
    for rank in 0..<merges.count {
      func malformed(_ expected: String) -> TokenizerError {
        .malformed(
          field: "model.merges[\(rank)]", expected: expected, found: TokenizerError.excerpt(merges[rank]))
      }
      whole.removeAll(keepingCapacity: true)
      let sides = merges.withBytes(rank) { merge -> (left: Int32?, right: Int32?)? in
        guard let space = merge.firstIndex(of: 0x20) else { return nil }
        let (left, right) = (merge[..<space], merge[(space + 1)...])
        whole += left
        whole += right
        return (find(UnsafeBufferPointer(rebasing: left)), find(UnsafeBufferPointer(rebasing: right)))
      }
      guard let sides else { throw malformed("two tokens and a space") }
      guard let left = sides.left, let right = sides.right else {
        throw malformed("two tokens of the vocabulary")
      }
      guard let result = whole.withUnsafeBufferPointer(find) else {
        throw malformed("a pair that makes a token of the vocabulary")
      }
      guard pairs.insert(left, right, rank: Int32(rank)) else {
        throw malformed("a pair that has not been listed before")
      }
      merged.append(result)
    }
    return (pairs, merged)
  }

  private static func specials(
    _ file: TokenizerFile
  ) throws(TokenizerError) -> (all: SpecialTokenTrie, text: SpecialTokenTrie) {
    var (all, text) = (SpecialTokenTrie(), SpecialTokenTrie())
    for (index, added) in file.addedTokens.enumerated() {
      guard added.content.count <= SpecialTokenTrie.maximumNameLength else {
        throw .malformed(
          field: "added_tokens[\(index)]",
          expected: "at most \(SpecialTokenTrie.maximumNameLength) bytes",
          found: "\(added.content.count) bytes")
      }
      guard !added.takesSpaceBefore else {
        throw .unsupported(field: "added_tokens[\(index)].lstrip", found: "true")
      }
      guard all.insert(added.content, token: added.id) == nil else {
        throw .malformed(
          field: "added_tokens[\(index)]", expected: "a text that no other has",
          found: TokenizerError.excerpt(added.content))
      }
      let isMark = added.content.first == UInt8(ascii: "<") && added.content.last == UInt8(ascii: ">")
      if !added.isSpecial, !isMark { _ = text.insert(added.content, token: added.id) }
    }
    return (all, text)
  }

  /// What normaliser and pre-tokenizer do with spaces. Anything else that they do is refused.
  private static func spaces(_ file: TokenizerFile) throws(TokenizerError) -> (Prefix, cuts: Bool) {
    let mark = "\u{2581}"
    func stages(_ value: JSONValue, _ list: String) -> [JSONValue] {
      if value == .null { return [] }
      return value["type"]?.text == "Sequence" ? value[list]?.array ?? [] : [value]
    }
    func unsupported(_ field: String, _ stage: JSONValue) -> TokenizerError {
      .unsupported(field: "\(field).type", found: TokenizerError.excerpt((stage["type"]?.text ?? "").utf8))
    }
    var prefix = Prefix.none
    var marksSpaces = false
    for stage in stages(file.normalizer, "normalizers") {
      switch stage["type"]?.text {
      case "Prepend" where stage["prepend"]?.text == mark: prefix = .always
      case "Replace" where stage["pattern"]?["String"]?.text == " " && stage["content"]?.text == mark:
        marksSpaces = true
      default: throw unsupported("normalizer", stage)
      }
    }
    var cuts = false
    for stage in stages(file.preTokenizer, "pretokenizers") {
      switch stage["type"]?.text {
      case "Metaspace" where stage["replacement"]?.text ?? mark == mark && prefix == .none:
        marksSpaces = true
        cuts = stage["split"]?.bool ?? true
        switch stage["prepend_scheme"]?.text {
        case "never": break
        case "first": prefix = .atStart
        case "always": prefix = .unlessThere
        case nil: prefix = stage["add_prefix_space"]?.bool ?? true ? .unlessThere : .none
        case let scheme?:
          throw .unsupported(
            field: "pre_tokenizer.prepend_scheme", found: TokenizerError.excerpt(scheme.utf8))
        }
      // At spaces, of which the normaliser has left none: it cuts nothing.
      case "Split" where stage["pattern"]?["String"]?.text == " " && marksSpaces: break
      default: throw unsupported("pre_tokenizer", stage)
      }
    }
    guard marksSpaces else {
      throw .unsupported(field: "normalizer", found: "one that leaves spaces as they are")
    }
    return (prefix, cuts)
  }
}
