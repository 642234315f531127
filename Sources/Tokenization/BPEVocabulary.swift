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

    // Token texts, from the printable spelling to bytes.
    var texts: [UInt8] = []
    texts.reserveCapacity(tokens.byteCount)
    var starts: [Int32] = [0]
    starts.reserveCapacity(tokens.count + 1)
    var index = ByteStringIndex(capacity: tokens.count)
    var byteTokens = [Int32](repeating: -1, count: 256)
    var allSpecials = SpecialTokenTrie()
    var textSpecials = SpecialTokenTrie()
    for token in 0..<tokens.count {
      let spelling = tokens[token]
      // The printable spelling takes at most two bytes for one.
      guard spelling.count <= 2 * Self.maximumTokenLength, texts.count <= Int(Int32.max) - spelling.count
      else {
        throw .malformed(
          field: "\(fields.tokens)[\(token)]", expected: "at most \(Self.maximumTokenLength) bytes",
          found: "\(spelling.count) bytes")
      }
      let isText = kinds[token] == .normal || kinds[token] == .byte
      let isSpelled =
        isText
        && spelling.withUnsafeBufferPointer { spelling in
          ByteAlphabet.bytes.withUnsafeBufferPointer { bytes in
            ByteAlphabet.decode(spelling, bytes, into: &texts)
          }
        }
      if !isSpelled {
        texts.append(contentsOf: spelling)
      }
      starts.append(Int32(texts.count))
      if spelling.isEmpty { continue }
      var duplicate: Int?
      if isSpelled {
        duplicate = texts.withUnsafeBufferPointer { texts in
          starts.withUnsafeBufferPointer { starts in index.insert(token, texts, starts) }
        }
        if Int(starts[token + 1] - starts[token]) == 1, let byte = texts.last, duplicate == nil {
          byteTokens[Int(byte)] = Int32(token)
        }
      } else if kinds[token] == .control || kinds[token] == .userDefined {
        guard spelling.count <= SpecialTokenTrie.maximumNameLength else {
          throw .malformed(
            field: "\(fields.tokens)[\(token)]",
            expected: "a special token of at most \(SpecialTokenTrie.maximumNameLength) bytes",
            found: "\(spelling.count) bytes")
        }
        duplicate = allSpecials.insert(spelling, token: token)
        let isMark = spelling.first == UInt8(ascii: "<") && spelling.last == UInt8(ascii: ">")
        if kinds[token] == .userDefined, !isMark {
          _ = textSpecials.insert(spelling, token: token)
        }
      }
      if let duplicate {
        throw .malformed(
          field: "\(fields.tokens)[\(token)]", expected: "another text than token \(duplicate)",
          found: TokenizerError.excerpt(spelling))
      }
    }

    (pairs, mergedTokens) = try Self.merges(merges, texts, starts, index, fields)
    self.texts = texts
    self.starts = starts
    self.index = index
    self.byteTokens = byteTokens
    self.allSpecials = allSpecials
    self.textSpecials = textSpecials
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
    _ merges: StringTable, _ texts: [UInt8], _ starts: [Int32], _ index: ByteStringIndex, _ fields: FieldNames
  ) throws(TokenizerError) -> (PairTable, [Int32]) {
    var pairs = PairTable(capacity: merges.count)
    var merged: [Int32] = []
    merged.reserveCapacity(merges.count)
    var joined: [UInt8] = []
    for rank in 0..<merges.count {
      let merge = merges[rank]
      func malformed(_ expected: String) -> TokenizerError {
        .malformed(
          field: "\(fields.merges)[\(rank)]", expected: expected, found: TokenizerError.excerpt(merge))
      }
      guard merge.count <= 4 * maximumTokenLength else { throw malformed("two tokens and a space") }
      joined.removeAll(keepingCapacity: true)
      // (both sides spelled in the alphabet, bytes of the left side)
      let leftCount: Int? = merge.withUnsafeBufferPointer { merge in
        guard let space = merge.firstIndex(of: 0x20), space > 0, space + 1 < merge.count else { return nil }
        return ByteAlphabet.bytes.withUnsafeBufferPointer { bytes in
          let left = UnsafeBufferPointer(rebasing: merge[..<space])
          let right = UnsafeBufferPointer(rebasing: merge[(space + 1)...])
          guard ByteAlphabet.decode(left, bytes, into: &joined) else { return nil }
          let count = joined.count
          return ByteAlphabet.decode(right, bytes, into: &joined) ? count : nil
        }
      }
      guard let leftCount else { throw malformed("two tokens and a space") }
      let (left, right, result) = joined.withUnsafeBufferPointer { joined in
        texts.withUnsafeBufferPointer { texts in
          starts.withUnsafeBufferPointer { starts in
            (
              index.find(UnsafeBufferPointer(rebasing: joined[..<leftCount]), texts, starts),
              index.find(UnsafeBufferPointer(rebasing: joined[leftCount...]), texts, starts),
              index.find(joined, texts, starts)
            )
          }
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
}
