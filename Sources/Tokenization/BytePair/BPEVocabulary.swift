/// The tables of a byte-level BPE tokenizer.
final class BPEVocabulary: Sendable {
  /// What the fields of the source are called, for errors.
  struct FieldNames {
    let tokens: String
    let merges: String
    let types: String
    static let gguf = FieldNames(
      tokens: "tokenizer.ggml.tokens", merges: "tokenizer.ggml.merges", types: "tokenizer.ggml.token_type")
    static let json = FieldNames(tokens: "model.vocab", merges: "model.merges", types: "added_tokens")
  }

  /// More tokens, or merges, than any tokenizer has; ranks must leave room for positions in a queue's key.
  static let maximumCount = 1 << 22
  /// The longest token in bytes. The longest of published vocabularies have some hundreds.
  static let maximumTokenLength = 4_096

  let preTokenizer: PreTokenizer
  let ignoresMerges: Bool
  /// The bytes of all tokens, one after the other; token i is `starts[i]..<starts[i + 1]`.
  let texts: [UInt8]
  let starts: [Int32]
  let kinds: [TokenKind]
  /// The token of each single byte, or -1. (256)
  let byteTokens: [Int32]
  /// The normal tokens by their bytes.
  let index: ByteStringIndex
  let pairs: PairTable
  /// The token that each merge makes, by rank.
  let mergedTokens: [Int32]
  /// Control and user-defined tokens, by name.
  let allSpecials: SpecialTokenTrie
  /// Those that are text wherever they stand: runs of spaces and the like. A name in angle brackets is a mark of the
  /// prompt's structure and never read from a document, whatever the file calls it.
  let textSpecials: SpecialTokenTrie

  var count: Int { kinds.count }

  init(
    tokens: StringTable, merges: StringTable, tokenTypes: [Int32]?, preTokenizer: PreTokenizer,
    ignoresMerges: Bool, fields: FieldNames
  ) throws(TokenizerError) {
    self.preTokenizer = preTokenizer
    self.ignoresMerges = ignoresMerges
    kinds = try Self.kinds(tokenTypes, count: tokens.count, fields)
    guard merges.count <= Self.maximumCount else {
      throw .malformed(
        field: fields.merges, expected: "at most \(Self.maximumCount) merges", found: "\(merges.count)")
    }

    let (texts, starts, isSpelled) = try Self.texts(tokens, kinds, fields)
    var index = ByteStringIndex(capacity: tokens.count)
    if let (token, duplicate) = index.insert(texts, starts, where: isSpelled) {
      throw Self.duplicate(tokens, token, of: duplicate, fields)
    }
    var byteTokens = [Int32](repeating: -1, count: 256)
    var allSpecials = SpecialTokenTrie()
    var textSpecials = SpecialTokenTrie()
    for token in 0..<tokens.count {
      if isSpelled[token] {
        if starts[token + 1] - starts[token] == 1 {
          byteTokens[Int(texts[Int(starts[token])])] = Int32(token)
        }
        continue
      }
      let name = tokens[token]
      guard kinds[token] == .control || kinds[token] == .userDefined, !name.isEmpty else { continue }
      guard name.count <= SpecialTokenTrie.maximumNameLength else {
        throw .malformed(
          field: "\(fields.tokens)[\(token)]",
          expected: "a special token of at most \(SpecialTokenTrie.maximumNameLength) bytes",
          found: "\(name.count) bytes")
      }
      if let duplicate = allSpecials.insert(name, token: token) {
        throw Self.duplicate(tokens, token, of: duplicate, fields)
      }
      let isMark = name.first == UInt8(ascii: "<") && name.last == UInt8(ascii: ">")
      if kinds[token] == .userDefined, !isMark {
        _ = textSpecials.insert(name, token: token)
      }
    }

    (pairs, mergedTokens) = try Self.merges(merges, texts, starts, isSpelled, index, fields)
    self.texts = texts
    self.starts = starts
    self.index = index
    self.byteTokens = byteTokens
    self.allSpecials = allSpecials
    self.textSpecials = textSpecials
  }

  private static func duplicate(
    _ tokens: StringTable, _ token: Int, of other: Int, _ fields: FieldNames
  ) -> TokenizerError {
    .malformed(
      field: "\(fields.tokens)[\(token)]", expected: "another text than token \(other)",
      found: TokenizerError.excerpt(tokens[token]))
  }

  /// The bytes of all tokens, where each starts, and whether it is text in the printable spelling. A token with a
  /// character outside the byte alphabet is taken as it is; no merge can lead to it.
  private static func texts(
    _ tokens: StringTable, _ kinds: [TokenKind], _ fields: FieldNames
  ) throws(TokenizerError) -> (texts: [UInt8], starts: [Int32], isSpelled: [Bool]) {
    for token in 0..<tokens.count {
      // The printable spelling takes at most two bytes for one.
      let length = tokens.length(token)
      guard length <= 2 * maximumTokenLength else {
        throw .malformed(
          field: "\(fields.tokens)[\(token)]", expected: "at most \(maximumTokenLength) bytes",
          found: "\(length) bytes")
      }
    }
    guard tokens.byteCount <= Int(Int32.max) else {
      throw .malformed(
        field: fields.tokens, expected: "at most \(Int32.max) bytes", found: "\(tokens.byteCount) bytes")
    }
    var starts = [Int32](repeating: 0, count: tokens.count + 1)
    var isSpelled = [Bool](repeating: false, count: tokens.count)
    let texts = [UInt8](unsafeUninitializedCapacity: tokens.byteCount) { texts, used in
      guard let base = texts.baseAddress else { return }
      ByteAlphabet.bytes.withUnsafeBufferPointer { alphabet in
        for token in 0..<tokens.count {
          tokens.withBytes(token) { spelling in
            if kinds[token] == .normal || kinds[token] == .byte, !spelling.isEmpty,
              let length = ByteAlphabet.decode(spelling, alphabet, into: base + used)
            {
              isSpelled[token] = true
              used += length
            } else {
              for byte in spelling {
                base[used] = byte
                used += 1
              }
            }
          }
          starts[token + 1] = Int32(used)
        }
      }
    }
    return (texts, starts, isSpelled)
  }

  private static func kinds(
    _ types: [Int32]?, count: Int, _ fields: FieldNames
  ) throws(TokenizerError) -> [TokenKind] {
    guard count > 0, count <= maximumCount else {
      throw .malformed(field: fields.tokens, expected: "1 to \(maximumCount) tokens", found: "\(count)")
    }
    guard let types else { return [TokenKind](repeating: .normal, count: count) }
    guard types.count == count else {
      throw .malformed(
        field: fields.types, expected: "\(count) types, one for each token", found: "\(types.count)")
    }
    var kinds: [TokenKind] = []
    kinds.reserveCapacity(count)
    for (token, type) in types.enumerated() {
      guard let kind = TokenKind(rawValue: type) else {
        throw .malformed(field: "\(fields.types)[\(token)]", expected: "a type from 1 to 6", found: "\(type)")
      }
      kinds.append(kind)
    }
    return kinds
  }

  /// Looks up both sides and the result of each merge. A merge makes a longer token than its sides, so the table
  /// cannot lead in a circle.
  private static func merges(
    _ merges: StringTable, _ texts: [UInt8], _ starts: [Int32], _ isSpelled: [Bool],
    _ index: ByteStringIndex, _ fields: FieldNames
  ) throws(TokenizerError) -> (PairTable, [Int32]) {
    var pairs = PairTable(capacity: merges.count)
    var merged: [Int32] = []
    merged.reserveCapacity(merges.count)
    // Room for a merge without its space; longer ones are refused. (4 maximumTokenLength)
    let joined = UnsafeMutablePointer<UInt8>.allocate(capacity: 4 * maximumTokenLength)
    defer { joined.deallocate() }
    for rank in 0..<merges.count {
      func malformed(_ expected: String) -> TokenizerError {
        .malformed(
          field: "\(fields.merges)[\(rank)]", expected: expected, found: TokenizerError.excerpt(merges[rank]))
      }
      let sides = merges.withBytes(rank) { split($0, into: joined) }
      guard let sides else { throw malformed("two tokens and a space") }
      let whole = UnsafeBufferPointer(start: joined, count: sides.left + sides.right)
      // Vocabularies list the results of merges in the order of the merges: look at the next token first.
      let likely = Int(merged.last ?? -1) + 1
      let (left, right, result) = texts.withUnsafeBufferPointer { texts in
        starts.withUnsafeBufferPointer { starts in
          let isLikely =
            likely < isSpelled.count && isSpelled[likely]
            && Int(starts[likely + 1] - starts[likely]) == whole.count
            && equalBytes(whole, texts, Int(starts[likely]))
          return (
            index.find(UnsafeBufferPointer(rebasing: whole[..<sides.left]), texts, starts),
            index.find(UnsafeBufferPointer(rebasing: whole[sides.left...]), texts, starts),
            isLikely ? likely : index.find(whole, texts, starts)
          )
        }
      }
      guard let left, let right else { throw malformed("two tokens of the vocabulary") }
      guard let result else { throw malformed("a pair that makes a token of the vocabulary") }
      guard pairs.insert(Int32(left), Int32(right), rank: Int32(rank)) else {
        throw malformed("a pair that has not been listed before")
      }
      merged.append(Int32(result))
    }
    return (pairs, merged)
  }

  /// Writes both sides of a merge, as bytes, one after the other.
  ///
  /// - Returns: The lengths, or nil if the merge is not two spelled tokens with a space between them.
  private static func split(
    _ merge: UnsafeBufferPointer<UInt8>, into joined: UnsafeMutablePointer<UInt8>
  ) -> (left: Int, right: Int)? {
    guard merge.count <= 4 * maximumTokenLength, let space = merge.firstIndex(of: 0x20), space > 0,
      space + 1 < merge.count
    else { return nil }
    return ByteAlphabet.bytes.withUnsafeBufferPointer { alphabet in
      guard
        let left = ByteAlphabet.decode(
          UnsafeBufferPointer(rebasing: merge[..<space]), alphabet, into: joined),
        let right = ByteAlphabet.decode(
          UnsafeBufferPointer(rebasing: merge[(space + 1)...]), alphabet, into: joined + left)
      else { return nil }
      return (left, right)
    }
  }
}
