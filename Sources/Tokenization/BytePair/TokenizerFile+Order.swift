extension TokenizerFile {
  /// Vocabulary and added tokens by ID. IDs that nothing has are unused tokens.
  func tokensByID() throws(TokenizerError) -> (tokens: StringTable, types: [Int32]) {
    let listed = ids.count + addedTokens.count
    // Real files have few holes or none; an absurd ID must not cost memory.
    let limit = min(2 * listed + 65_536, BPEVocabulary.maximumCount)
    let count = 1 + max(ids.max() ?? -1, addedTokens.map(\.id).max() ?? -1)
    guard listed > 0, count <= limit else {
      throw .malformed(
        field: "model.vocab", expected: "IDs below \(limit) for \(listed) tokens",
        found: listed == 0 ? "no tokens" : "\(count - 1)")
    }
    // Where each token's text is: an index into the vocabulary, or -2 - an index into the added tokens.
    var sources = [Int](repeating: -1, count: count)
    var types = [Int32](repeating: TokenKind.unused.rawValue, count: count)
    for (index, id) in ids.enumerated() {
      guard sources[id] == -1 else {
        throw .malformed(
          field: "model.vocab", expected: "one token for ID \(id)",
          found: TokenizerError.excerpt(tokens[index]))
      }
      sources[id] = index
      types[id] = TokenKind.normal.rawValue
    }
    for (index, added) in addedTokens.enumerated() {
      let source = sources[added.id]
      // An added token may stand in the vocabulary as well, under the same text.
      guard source == -1 || (source >= 0 && tokens[source].elementsEqual(added.content)) else {
        throw .malformed(
          field: "added_tokens[\(index)]", expected: "an ID that no other token has", found: "\(added.id)")
      }
      sources[added.id] = -2 - index
      types[added.id] = (added.isSpecial ? TokenKind.control : .userDefined).rawValue
    }
    var ordered = StringTable(reservingCount: count, byteCount: tokens.byteCount)
    for source in sources {
      if source >= 0 {
        ordered.append(tokens[source])
      } else if source == -1 {
        ordered.append([])
      } else {
        ordered.append(addedTokens[-2 - source].content)
      }
    }
    return (ordered, types)
  }

  /// The token that `post_processor` puts in front of a text, as in every directory of Llama 3's family; nil for none.
  var startToken: Int? {
    let stages =
      postProcessor["type"]?.text == "Sequence" ? postProcessor["processors"]?.array ?? [] : [postProcessor]
    for stage in stages where stage["type"]?.text == "TemplateProcessing" {
      guard let name = stage["single"]?.array?.first?["SpecialToken"]?["id"]?.text else { continue }
      if let added = addedTokens.first(where: { $0.content.elementsEqual(name.utf8) }) { return added.id }
      return (0..<tokens.count).first { tokens[$0].elementsEqual(name.utf8) }.map { ids[$0] }
    }
    return nil
  }
}
