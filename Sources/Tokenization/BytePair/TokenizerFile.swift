/// The contents of a Hugging Face `tokenizer.json`, as far as a tokenizer needs them.
///
/// The file is read in one pass. What is not understood is refused, not skipped, where it would change the tokens.
struct TokenizerFile {
  struct AddedToken {
    var id: Int
    var content: [UInt8]
    var isSpecial: Bool
    /// Whether the token takes in the white space before it, and after it.
    var takesSpaceBefore = false
    var takesSpaceAfter = false
  }

  /// `model.type`, nil in files written before the field existed.
  var modelType: String?
  /// Tokens and IDs in the order of the file. (`model.vocab` of BPE)
  var tokens = StringTable()
  var ids: [Int] = []
  /// `model.vocab` of Unigram: the log-probability of `tokens[i]`.
  var scores: [Float] = []
  var merges = StringTable()
  var ignoresMerges = false
  var unknownID: Int?
  /// `model.unk_token` of BPE.
  var unknownToken: [UInt8]?
  var fusesUnknown = false
  var byteFallback = false
  var addedTokens: [AddedToken] = []
  var normalizer: JSONValue = .null
  var preTokenizer: JSONValue = .null
  var postProcessor: JSONValue = .null

  init(_ json: [UInt8]) throws(TokenizerError) {
    var reader = JSONReader(json)
    var hasModel = false
    try reader.readObject { (reader, key) throws(TokenizerError) in
      switch String(decoding: key, as: UTF8.self) {
      case "added_tokens": try readAddedTokens(&reader)
      case "normalizer": normalizer = try reader.readValue()
      case "pre_tokenizer": preTokenizer = try reader.readValue()
      case "post_processor": postProcessor = try reader.readValue()
      case "model":
        hasModel = true
        try readModel(&reader)
      default: try reader.skip()
      }
    }
    try reader.end()
    guard hasModel else { throw .malformed(field: "model", expected: "an object", found: "nothing") }
  }

  private mutating func readAddedTokens(_ reader: inout JSONReader) throws(TokenizerError) {
    if try reader.readNull() { return }
    try reader.readArray { (reader, index) throws(TokenizerError) in
      var token = AddedToken(id: -1, content: [], isSpecial: false)
      try reader.readObject { (reader, key) throws(TokenizerError) in
        let name = String(decoding: key, as: UTF8.self)
        switch name {
        case "id": token.id = try reader.readIndex()
        case "content": token.content = try reader.readString()
        case "special": token.isSpecial = try reader.readBool()
        case "lstrip": token.takesSpaceBefore = try reader.readBool()
        case "rstrip": token.takesSpaceAfter = try reader.readBool()
        case "single_word":
          if try reader.readBool() {
            throw .unsupported(field: "added_tokens[\(index)].\(name)", found: "true")
          }
        default: try reader.skip()
        }
      }
      guard token.id >= 0, !token.content.isEmpty else {
        throw .malformed(field: "added_tokens[\(index)]", expected: "an id and a content", found: "none")
      }
      addedTokens.append(token)
    }
  }

  private mutating func readModel(_ reader: inout JSONReader) throws(TokenizerError) {
    try reader.readObject { (reader, key) throws(TokenizerError) in
      let name = String(decoding: key, as: UTF8.self)
      switch name {
      case "type": modelType = String(decoding: try reader.readString(), as: UTF8.self)
      case "vocab": try readVocabulary(&reader)
      case "merges": try readMerges(&reader)
      case "ignore_merges": ignoresMerges = try reader.readBool()
      case "unk_token":
        if try !reader.readNull() { unknownToken = try reader.readString() }
      case "fuse_unk": fusesUnknown = try reader.readBool()
      case "byte_fallback": byteFallback = try reader.readBool()
      case "unk_id":
        if try !reader.readNull() { unknownID = try reader.readIndex() }
      case "dropout", "continuing_subword_prefix", "end_of_word_suffix":
        // Null, an empty string and a dropout of 0 mean that the setting is off.
        let value = try reader.readValue()
        guard value == .null || value == .string([]) || value == .number(0) else {
          throw .unsupported(field: "model.\(name)", found: "set")
        }
      default: try reader.skip()
      }
    }
  }

  /// An object of token and ID (BPE), or an array of pairs of piece and score (Unigram).
  private mutating func readVocabulary(_ reader: inout JSONReader) throws(TokenizerError) {
    if try reader.peek() == UInt8(ascii: "{") {
      try reader.readObject { (reader, key) throws(TokenizerError) in
        tokens.append(key)
        ids.append(try reader.readIndex())
      }
      return
    }
    try reader.readArray { (reader, index) throws(TokenizerError) in
      var fields = 0
      try reader.readArray { (reader, field) throws(TokenizerError) in
        switch field {
        case 0: tokens.append(try reader.readString())
        case 1: scores.append(Float(try reader.readNumber()))
        default: throw reader.failure("two elements")
        }
        fields += 1
      }
      guard fields == 2 else {
        throw .malformed(
          field: "model.vocab[\(index)]", expected: "a piece and a score", found: "\(fields) fields")
      }
      ids.append(index)
    }
  }

  /// An array of strings "left right", or of pairs.
  private mutating func readMerges(_ reader: inout JSONReader) throws(TokenizerError) {
    try reader.readArray { (reader, index) throws(TokenizerError) in
      if try reader.peek() == UInt8(ascii: "\"") {
        merges.append(try reader.readString())
        return
      }
      var merge: [UInt8] = []
      var sides = 0
      try reader.readArray { (reader, side) throws(TokenizerError) in
        if side == 1 { merge.append(0x20) }
        merge += try reader.readString()
        sides += 1
      }
      guard sides == 2 else {
        throw .malformed(field: "model.merges[\(index)]", expected: "two tokens", found: "\(sides)")
      }
      merges.append(merge)
    }
  }
}
