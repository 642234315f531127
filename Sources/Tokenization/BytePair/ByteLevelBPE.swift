/// Byte-pair encoding over bytes, as in GPT-2 (Radford et al. 2019, after Sennrich et al. 2016): text is cut into words
/// (``PreTokenizer``), then the neighbouring pair with the lowest rank is merged until no pair has a rank.
///
/// Text is taken as it is, without Unicode normalisation, so that decoding gives back the very bytes that were encoded,
/// as long as the vocabulary has a token for each single byte (``missingBytes``).
public struct ByteLevelBPE: Tokenizer {
  let vocabulary: BPEVocabulary

  /// Makes a tokenizer from a vocabulary as it stands in GGUF metadata.
  ///
  /// - Parameters:
  ///   - tokens: The tokens by ID, in the printable spelling of bytes (a space is "Ġ"); names of special tokens as they
  ///     are.
  ///   - merges: Pairs of tokens, a space between them, the first to merge first.
  ///   - tokenTypes: ``TokenKind`` raw values by ID; nil if all tokens are normal.
  ///   - preTokenizer: How text is cut into words.
  ///   - ignoresMerges: Whether a word that is a token is taken whole without looking at merges. Llama 3 does so.
  /// - Throws: ``TokenizerError/malformed(field:expected:found:)``: counts that do not fit, duplicates, a merge of
  ///   unknown tokens or into an unknown token, absurd lengths.
  /// - Complexity: O(bytes). 49,152 tokens take about 10 ms.
  public init(
    tokens: StringTable, merges: StringTable, tokenTypes: [Int32]?, preTokenizer: PreTokenizer,
    ignoresMerges: Bool? = nil
  ) throws(TokenizerError) {
    vocabulary = try BPEVocabulary(
      tokens: tokens, merges: merges, tokenTypes: tokenTypes, preTokenizer: preTokenizer,
      ignoresMerges: ignoresMerges ?? (preTokenizer == .llama3), fields: .gguf)
  }

  init(vocabulary: BPEVocabulary) {
    self.vocabulary = vocabulary
  }

  /// The number of token IDs, unused ones included.
  public var vocabularySize: Int { vocabulary.count }

  /// How text is cut into words.
  public var preTokenizer: PreTokenizer { vocabulary.preTokenizer }

  /// The bytes that no token stands for; they are left out when text is encoded.
  ///
  /// Empty for most vocabularies. SmolLM's lacks 21: six control characters and bytes that UTF-8 does not use, or
  /// only for scalars that are not assigned.
  public var missingBytes: [UInt8] {
    (0...255).filter { vocabulary.byteTokens[Int($0)] < 0 }
  }

  /// The bytes of a token. No token's bytes depend on where it stands. O(length).
  public func bytes(of token: Int, startsText: inout Bool) throws(TokenizerError) -> [UInt8] {
    guard token >= 0, token < vocabulary.count else {
      throw .tokenOutOfRange(token: token, vocabularySize: vocabulary.count)
    }
    startsText = false
    return Array(vocabulary.texts[Int(vocabulary.starts[token])..<Int(vocabulary.starts[token + 1])])
  }

  /// Whether a token is a control token, the unknown token or an unused one.
  public func isControl(_ token: Int) -> Bool {
    guard token >= 0, token < vocabulary.count else { return false }
    let kind = vocabulary.kinds[token]
    return kind == .control || kind == .unknown || kind == .unused
  }

  /// The longest special token whose name stands at a place of a text. O(length of the name).
  public func specialToken(in text: [UInt8], at position: Int) -> (token: Int, length: Int)? {
    text.withUnsafeBufferPointer { vocabulary.allSpecials.longestMatch($0, at: position) }
  }

  /// The ID of the special token of this name, or nil if there is none.
  public func id(ofSpecial name: String) -> Int? {
    vocabulary.allSpecials.token(named: Array(name.utf8))
  }
}
