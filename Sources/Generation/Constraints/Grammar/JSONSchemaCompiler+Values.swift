extension JSONSchemaCompiler {
  // MARK: - Objects and arrays

  /// White space as programs write it: none, a space, or a new line with its indentation.
  private mutating func space() throws(GenerationError) -> ByteGrammar.Node {
    try part("space") { compiler throws(GenerationError) in
      let indent = try compiler.grammar.add(
        .repetition(compiler.grammar.bytes(" "), least: 0, most: 40))
      let line = try compiler.grammar.add(.sequence([compiler.grammar.bytes("\n"), indent]))
      return try compiler.grammar.add(
        .choice([compiler.grammar.add(.sequence([])), compiler.grammar.bytes(" "), line]))
    }
  }

  private mutating func sequence(_ nodes: ByteGrammar.Node...) throws(GenerationError) -> ByteGrammar.Node {
    try grammar.add(.sequence(nodes))
  }

  private mutating func separated(_ node: ByteGrammar.Node) throws(GenerationError) -> ByteGrammar.Node {
    try sequence(grammar.bytes(","), space(), node)
  }

  private mutating func enclosed(
    _ open: String, _ content: ByteGrammar.Node, _ close: String
  ) throws(GenerationError) -> ByteGrammar.Node {
    try sequence(grammar.bytes(open), space(), content, grammar.bytes(close))
  }

  /// A list, and the white space after it.
  private mutating func list(
    _ item: ByteGrammar.Node, least: Int, most: Int?
  ) throws(GenerationError) -> ByteGrammar.Node {
    let empty = try grammar.add(.sequence([]))
    if most == 0 { return empty }
    let rest = try grammar.add(
      .repetition(separated(item), least: max(0, least - 1), most: most.map { $0 - 1 }))
    let items = try sequence(item, rest, space())
    return least > 0 ? items : try grammar.add(.choice([empty, items]))
  }

  mutating func array(_ schema: OrderedJSON, _ place: String) throws(GenerationError) -> ByteGrammar.Node {
    let (least, most) = try counts(schema, "minItems", "maxItems", place)
    let item =
      if let items = schema["items"] { try node(items, Self.at(place, "items")) } else { try freeValue(8) }
    return try enclosed("[", list(item, least: least, most: most), "]")
  }

  mutating func object(_ schema: OrderedJSON, _ place: String) throws(GenerationError) -> ByteGrammar.Node {
    var required: Set<String> = []
    switch schema["required"] {
    case nil: break
    case .array(let names):
      for name in names {
        guard case .text(let text) = name else {
          throw .schema(place: Self.at(place, "required"), problem: "expected names")
        }
        required.insert(text)
      }
    default: throw .schema(place: Self.at(place, "required"), problem: "expected names")
    }
    var properties: [OrderedJSON.Member] = []
    switch schema["properties"] {
    case nil: break
    case .object(let members): properties = members
    default: throw .schema(place: Self.at(place, "properties"), problem: "expected an object")
    }
    guard properties.count <= 1024 else {
      throw .schema(place: Self.at(place, "properties"), problem: "it has more than 1024 properties")
    }
    let others = schema["additionalProperties"] ?? .boolean(true)
    for name in required.subtracting(properties.map(\.key)).sorted() {
      guard others != .boolean(false) else {
        throw .schema(
          place: Self.at(place, "required"), problem: "\"\(name.prefix(60))\" is not among the properties")
      }
      properties.append(.init(key: name, value: others))
    }
    if properties.isEmpty, others != .boolean(false) {
      let value =
        others == .boolean(true)
        ? try freeValue(8) : try node(others, Self.at(place, "additionalProperties"))
      let entry = try sequence(text(least: 0, most: nil), grammar.bytes(":"), space(), value)
      return try enclosed("{", list(entry, least: 0, most: nil), "}")
    }
    var entries: [(node: ByteGrammar.Node, isRequired: Bool)] = []
    for property in properties {
      let value = try node(property.value, Self.at(place, "properties.\(property.key.prefix(60))"))
      let key = try grammar.add(.bytes(OrderedJSON.quoted(property.key) + [UInt8(ascii: ":")]))
      entries.append((try sequence(key, space(), value), required.contains(property.key)))
    }
    // From each property on: what may follow where one stands before it, and where none does.
    var after = try space()
    var first = try grammar.add(.sequence([]))
    for entry in entries.reversed() {
      let begins = try sequence(entry.node, after)
      let goesOn = try separated(entry.node)
      if entry.isRequired {
        first = begins
        after = try sequence(goesOn, after)
      } else {
        first = try grammar.add(.choice([begins, first]))
        after = try sequence(grammar.optional(goesOn), after)
      }
    }
    return try enclosed("{", first, "}")
  }

  // MARK: - Values of no schema

  mutating func freeValue(_ depth: Int) throws(GenerationError) -> ByteGrammar.Node {
    try part("value \(depth)") { compiler throws(GenerationError) in
      let words = try compiler.grammar.oneOf(["true", "false", "null"].map { Array($0.utf8) })
      var nodes = [words, try compiler.anyNumber(), try compiler.text(least: 0, most: nil)]
      if depth > 0 {
        nodes.append(try compiler.freeObject(depth - 1))
        let items = try compiler.list(compiler.freeValue(depth - 1), least: 0, most: nil)
        nodes.append(try compiler.enclosed("[", items, "]"))
      }
      return try compiler.grammar.add(.choice(nodes))
    }
  }

  mutating func freeObject(_ depth: Int) throws(GenerationError) -> ByteGrammar.Node {
    try part("object \(depth)") { compiler throws(GenerationError) in
      let key = try compiler.text(least: 0, most: nil)
      let entry = try compiler.sequence(
        key, compiler.grammar.bytes(":"), compiler.space(), compiler.freeValue(depth))
      return try compiler.enclosed("{", compiler.list(entry, least: 0, most: nil), "}")
    }
  }

  // MARK: - Strings

  mutating func string(_ schema: OrderedJSON, _ place: String) throws(GenerationError) -> ByteGrammar.Node {
    let (least, most) = try counts(schema, "minLength", "maxLength", place)
    var pattern: String?
    switch schema["pattern"] {
    case nil: break
    case .text(let text): pattern = text
    default: throw .schema(place: Self.at(place, "pattern"), problem: "expected a text")
    }
    var key = "pattern"
    if let format = schema["format"] {
      guard pattern == nil, case .text(let name) = format, let known = Self.formats[name] else {
        throw .schema(
          place: Self.at(place, "format"),
          problem: pattern == nil
            ? "expected one of \(Self.formats.keys.sorted().joined(separator: ", "))"
            : "it is not supported beside pattern")
      }
      (pattern, key) = (known, "format")
    }
    guard let pattern else { return try text(least: least, most: most) }
    for name in ["minLength", "maxLength"] where schema[name] != nil {
      throw .schema(place: Self.at(place, name), problem: "it is not supported beside \(key)")
    }
    guard pattern.utf8.count <= 4096 else {
      throw .schema(place: Self.at(place, key), problem: "it is longer than 4096 bytes")
    }
    let content: ByteGrammar.Node
    do {
      content = try JSONPattern.compile(pattern, into: &grammar)
    } catch {
      throw .schema(place: Self.at(place, key), problem: error.problem)
    }
    return try sequence(grammar.bytes("\""), content, grammar.bytes("\""))
  }

  /// Formats as patterns; each is stricter than its definition.
  private static let formats: [String: String] = {
    let date =
      "[12][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
      + "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    let time = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:Z|[+-](?:0[0-9]|1[0-4]):[03]0)"
    let hexadecimal = "[0-9a-f]"
    return [
      "date": date, "time": time, "date-time": date + "T" + time,
      "uuid": "\(hexadecimal){8}-(?:\(hexadecimal){4}-){3}\(hexadecimal){12}",
    ]
  }()

  /// A string of so many characters.
  mutating func text(least: Int, most: Int?) throws(GenerationError) -> ByteGrammar.Node {
    try part("text \(least) \(most ?? -1)") { compiler throws(GenerationError) in
      let content = try compiler.grammar.add(
        .repetition(compiler.character(), least: least, most: most))
      let quote = try compiler.grammar.bytes("\"")
      return most == 0 ? try compiler.grammar.bytes("\"\"") : try compiler.sequence(quote, content, quote)
    }
  }

  /// A character of a string: UTF-8, or an escape that is one character by itself.
  mutating func character() throws(GenerationError) -> ByteGrammar.Node {
    try part("character") { compiler throws(GenerationError) in
      let plain = ByteSet(
        (UInt8(0x20)..<0x7F).filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") })
      let hexadecimal = try compiler.grammar.add(.set(ByteSet("0123456789abcdefABCDEF".utf8)))
      let unit = try compiler.grammar.add(
        .choice([
          compiler.sequence(
            compiler.grammar.add(.set(ByteSet("0123456789abcefABCEF".utf8))), hexadecimal),
          // Halves of pairs are no characters.
          compiler.sequence(
            compiler.grammar.add(.set(ByteSet("dD".utf8))),
            compiler.grammar.add(.set(ByteSet("01234567".utf8)))),
        ]))
      let escape = try compiler.sequence(
        compiler.grammar.bytes("\\"),
        compiler.grammar.add(
          .choice([
            compiler.grammar.add(.set(ByteSet("\"\\/bfnrt".utf8))),
            compiler.sequence(compiler.grammar.bytes("u"), unit, hexadecimal, hexadecimal),
          ])))
      return try compiler.grammar.add(
        .choice([compiler.grammar.add(.set(plain)), compiler.beyondASCII(), escape]))
    }
  }

  /// A character of two to four bytes (RFC 3629, section 4).
  private mutating func beyondASCII() throws(GenerationError) -> ByteGrammar.Node {
    func set(_ range: ClosedRange<UInt8>) throws(GenerationError) -> ByteGrammar.Node {
      try grammar.add(.set(ByteSet(range)))
    }
    let tail = try set(0x80...0xBF)
    return try grammar.add(
      .choice([
        sequence(set(0xC2...0xDF), tail),
        sequence(set(0xE0...0xE0), set(0xA0...0xBF), tail),
        sequence(set(0xE1...0xEC), tail, tail),
        sequence(set(0xED...0xED), set(0x80...0x9F), tail),
        sequence(set(0xEE...0xEF), tail, tail),
        sequence(set(0xF0...0xF0), set(0x90...0xBF), tail, tail),
        sequence(set(0xF1...0xF3), tail, tail, tail),
        sequence(set(0xF4...0xF4), set(0x80...0x8F), tail, tail),
      ]))
  }
}
