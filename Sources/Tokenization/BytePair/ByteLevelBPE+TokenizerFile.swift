extension ByteLevelBPE {
  /// Makes a tokenizer from the bytes of a Hugging Face `tokenizer.json`.
  ///
  /// The file's model must be BPE over bytes, its pre-tokenizer one of ``PreTokenizer``'s. A Unicode normaliser (NFC,
  /// in Qwen 2's file) is not applied, so that text survives unchanged; text on disk nearly always is in NFC already.
  ///
  /// - Throws: ``TokenizerError``: not JSON, fields missing or of the wrong kind, IDs that are taken twice or are far
  ///   outside the vocabulary, an unsupported model, pre-tokenizer or normaliser.
  public init(tokenizerJSON json: [UInt8]) throws(TokenizerError) {
    try self.init(file: TokenizerFile(json))
  }

  init(file: TokenizerFile) throws(TokenizerError) {
    guard file.modelType == nil || file.modelType == "BPE" else {
      throw .unsupported(field: "model.type", found: TokenizerError.excerpt((file.modelType ?? "").utf8))
    }
    guard !file.byteFallback else {
      throw .unsupported(field: "model.byte_fallback", found: "true (BPE over characters)")
    }
    guard file.scores.isEmpty else {
      throw .malformed(field: "model.vocab", expected: "an object of tokens and IDs", found: "an array")
    }
    if let index = file.addedTokens.firstIndex(where: { $0.takesSpaceBefore || $0.takesSpaceAfter }) {
      throw .unsupported(field: "added_tokens[\(index)].lstrip or rstrip", found: "true")
    }
    try Self.checkNormalizer(file.normalizer)
    let preTokenizer = try PreTokenizer(json: file.preTokenizer)
    let (tokens, types) = try file.tokensByID()
    self.init(
      vocabulary: try BPEVocabulary(
        tokens: tokens, merges: file.merges, tokenTypes: types, preTokenizer: preTokenizer,
        ignoresMerges: file.ignoresMerges, fields: .json))
  }

  private static func checkNormalizer(_ normalizer: JSONValue) throws(TokenizerError) {
    switch normalizer["type"]?.text {
    case nil where normalizer == .null: return
    case "NFC": return
    case "Sequence" where normalizer["normalizers"]?.array?.isEmpty == true: return
    case let type:
      throw .unsupported(field: "normalizer.type", found: TokenizerError.excerpt((type ?? "").utf8))
    }
  }
}

extension PreTokenizer {
  /// The expressions as files spell them.
  private static let patterns: [(pattern: String, preTokenizer: PreTokenizer)] = [
    (#"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#, .gpt2),
    (
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
        + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#, .llama3
    ),
    (
      #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"#
        + #"|\s*[\r\n]+|\s+(?!\S)|\s+"#, .qwen2
    ),
  ]

  /// The preset that a file's `pre_tokenizer` describes.
  init(json: JSONValue) throws(TokenizerError) {
    func unsupported(_ field: String, _ found: String?) -> TokenizerError {
      .unsupported(
        field: "pre_tokenizer" + field, found: found.map { TokenizerError.excerpt($0.utf8) } ?? "missing")
    }
    let stages = json["type"]?.text == "Sequence" ? json["pretokenizers"]?.array ?? [] : [json]
    guard let last = stages.last, last["type"]?.text == "ByteLevel" else {
      throw unsupported(".type", stages.last?["type"]?.text)
    }
    guard last["add_prefix_space"]?.bool != true else {
      throw .unsupported(field: "pre_tokenizer.add_prefix_space", found: "true")
    }
    let splitsAsGPT2 = last["use_regex"]?.bool ?? true
    switch (stages.count, stages[0]["type"]?.text) {
    case (1, _) where splitsAsGPT2:
      self = .gpt2
    case (2, "Digits") where splitsAsGPT2 && stages[0]["individual_digits"]?.bool == true:
      self = .smolLM
    case (2, "Split") where !splitsAsGPT2:
      let pattern = stages[0]["pattern"]?["Regex"]?.text
      guard let preset = Self.patterns.first(where: { $0.pattern == pattern }) else {
        throw unsupported(".pattern", pattern)
      }
      guard stages[0]["behavior"]?.text == "Isolated", stages[0]["invert"]?.bool != true else {
        throw unsupported(".behavior", stages[0]["behavior"]?.text)
      }
      self = preset.preTokenizer
    default:
      throw unsupported(".type", stages.map { $0["type"]?.text ?? "?" }.joined(separator: " + "))
    }
  }
}
