/// Makes a grammar of a JSON Schema: texts of the grammar validate.
///
/// Not every text that validates is of the grammar: properties come in the order in which the schema has them, others
/// than those named do not come, and white space is what programs write. Keywords that would need more than a grammar
/// are refused by name.
struct JSONSchemaCompiler {
  /// Bytes of an enumeration's values.
  static let enumerationLimit = 1 << 16
  /// Numbers in the keywords that count.
  static let countLimit = 100_000
  /// Values within each other where a schema does not say what they are.
  private static let freeDepth = 12

  /// Keywords that say nothing of a value.
  private static let annotations: Set<String> = [
    "title", "description", "default", "examples", "example", "$schema", "$id", "$comment", "deprecated",
    "readOnly", "writeOnly", "$defs", "definitions",
  ]
  /// Keywords that say something of values of one type only.
  private static let keywords: [String: Set<String>] = [
    "object": ["properties", "required", "additionalProperties"],
    "array": ["items", "minItems", "maxItems"],
    "string": ["minLength", "maxLength", "pattern", "format"],
    "number": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
    "integer": ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"],
    "boolean": [], "null": [],
  ]

  private let root: OrderedJSON?
  var grammar = ByteGrammar()
  private var references: [String: ByteGrammar.Node] = [:]
  /// References whose schema begins with another reference, while they are followed.
  private var following: [String] = []
  /// Schemas within each other that are being read.
  private var depth = 0
  private static let depthLimit = 128
  /// Parts that are used again and again.
  private var parts: [String: ByteGrammar.Node] = [:]

  /// - Parameter root: The schema; `nil` for any object.
  init(root: OrderedJSON?) { self.root = root }

  mutating func compile() throws(GenerationError) -> ByteGrammar {
    if let root {
      grammar.root = try node(root, "")
    } else {
      grammar.root = try freeObject(Self.freeDepth)
    }
    guard grammar.minima()[grammar.root] < ByteGrammar.infinity else {
      throw .schema(place: "", problem: "no finite value validates")
    }
    return grammar
  }

  static func at(_ place: String, _ name: String) -> String { place.isEmpty ? name : place + "." + name }

  // MARK: - Schemas

  mutating func node(_ schema: OrderedJSON, _ place: String) throws(GenerationError) -> ByteGrammar.Node {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else {
      throw .schema(place: "", problem: "schemas stand more than \(Self.depthLimit) deep in each other")
    }
    if schema == .boolean(true) { return try freeValue(Self.freeDepth) }
    guard case .object(let members) = schema else {
      throw .schema(place: place, problem: "expected a schema that some value validates against")
    }
    let keys = Set(members.map(\.key)).subtracting(Self.annotations)
    if let reference = schema["$ref"] {
      try refuse(keys, but: ["$ref"], place, beside: "$ref")
      return try self.reference(reference, Self.at(place, "$ref"))
    }
    following = []
    if schema["enum"] != nil || schema["const"] != nil {
      try refuse(keys, but: ["enum", "const", "type"], place, beside: "enum and const")
      return try enumeration(schema, place)
    }
    if let choices = schema["anyOf"] {
      try refuse(keys, but: ["anyOf"], place, beside: "anyOf")
      guard case .array(let schemas) = choices, !schemas.isEmpty, schemas.count <= 256 else {
        throw .schema(place: Self.at(place, "anyOf"), problem: "expected an array of 1 to 256 schemas")
      }
      var nodes: [ByteGrammar.Node] = []
      for (index, schema) in schemas.enumerated() {
        nodes.append(try node(schema, Self.at(place, "anyOf.\(index)")))
      }
      return try grammar.add(.choice(nodes))
    }
    if let all = schema["allOf"] {
      try refuse(keys, but: ["allOf"], place, beside: "allOf")
      guard case .array(let schemas) = all, schemas.count == 1, let only = schemas.first else {
        throw .schema(place: Self.at(place, "allOf"), problem: "only one schema is supported here")
      }
      return try node(only, Self.at(place, "allOf.0"))
    }
    let types = try types(schema, keys, place)
    let known = types.reduce(into: Set(["type"])) { $0.formUnion(Self.keywords[$1] ?? []) }
    let others = Self.keywords.values.reduce(into: Set<String>()) { $0.formUnion($1) }
    // What is said of other types says nothing of these.
    try refuse(keys, but: known.union(types.isEmpty ? [] : others), place)
    if types.isEmpty { return try freeValue(Self.freeDepth) }
    var nodes: [ByteGrammar.Node] = []
    for type in types { nodes.append(try node(ofType: type, schema, place)) }
    return nodes.count == 1 ? nodes[0] : try grammar.add(.choice(nodes))
  }

  private func refuse(
    _ keys: Set<String>, but known: Set<String>, _ place: String, beside: String? = nil
  ) throws(GenerationError) {
    guard let name = keys.subtracting(known).min() else { return }
    let isKnown = Self.keywords.values.contains { $0.contains(name) } || name == "type"
    let printable = String(name.prefix(60))
    throw .schema(
      place: Self.at(place, printable),
      problem: beside.flatMap { isKnown ? "it is not supported beside \($0)" : nil }
        ?? "the keyword is not supported")
  }

  /// The types that a schema names or, by its keywords, is about.
  private func types(
    _ schema: OrderedJSON, _ keys: Set<String>, _ place: String
  ) throws(GenerationError) -> [String] {
    let names: [OrderedJSON]
    switch schema["type"] {
    case .text(let name): names = [.text(name)]
    case .array(let values) where !values.isEmpty: names = values
    case nil:
      return ["object", "array", "string"].filter { !(Self.keywords[$0] ?? []).isDisjoint(with: keys) }
        + ((Self.keywords["number"] ?? []).isDisjoint(with: keys) ? [] : ["number"])
    default:
      throw .schema(
        place: Self.at(place, "type"), problem: "expected the name of a type, or an array of them")
    }
    var types: [String] = []
    for name in names {
      guard case .text(let type) = name, Self.keywords[type] != nil else {
        throw .schema(
          place: Self.at(place, "type"),
          problem: "expected object, array, string, number, integer, boolean or null")
      }
      if !types.contains(type) { types.append(type) }
    }
    return types
  }

  private mutating func node(
    ofType type: String, _ schema: OrderedJSON, _ place: String
  ) throws(GenerationError) -> ByteGrammar.Node {
    switch type {
    case "object": try object(schema, place)
    case "array": try array(schema, place)
    case "string": try string(schema, place)
    case "number", "integer": try number(schema, place, isInteger: type == "integer")
    case "boolean": try grammar.oneOf([Array("true".utf8), Array("false".utf8)])
    default: try grammar.bytes("null")
    }
  }

  /// A schema that stands elsewhere in the document.
  private mutating func reference(_ value: OrderedJSON, _ place: String) throws(GenerationError)
    -> ByteGrammar.Node
  {
    guard case .text(let path) = value, path == "#" || path.hasPrefix("#/"), var target = root else {
      throw .schema(place: place, problem: "expected a place in this schema, such as #/$defs/name")
    }
    if let node = references[path] { return node }
    if following.contains(path) { throw .schema(place: place, problem: "it leads back to itself") }
    for part in path.dropFirst(2).split(separator: "/", omittingEmptySubsequences: false) where path != "#" {
      let key = (String(part).removingPercentEncoding ?? String(part))
        .replacing("~1", with: "/").replacing("~0", with: "~")
      var next = target[key]
      if case .array(let values) = target, let index = Int(key), values.indices.contains(index) {
        next = values[index]
      }
      guard let next else { throw .schema(place: place, problem: "there is nothing at \(path.prefix(80))") }
      target = next
    }
    let node = try grammar.add(.choice([]))
    // A schema that only refers to another one is that one; anything else may refer to itself.
    let isDirect = target["$ref"] != nil
    if isDirect { following.append(path) } else { references[path] = node }
    let compiled = try self.node(target, path)
    references[path] = node
    grammar.define(node, .sequence([compiled]))
    return node
  }

  private mutating func enumeration(
    _ schema: OrderedJSON, _ place: String
  ) throws(GenerationError) -> ByteGrammar.Node {
    var values: [OrderedJSON]
    switch (schema["enum"], schema["const"]) {
    case (.array(let all), nil): values = all
    case (.array(let all), let value?): values = all.filter { $0 == value }
    case (nil, let value?): values = [value]
    default: throw .schema(place: Self.at(place, "enum"), problem: "expected an array of values")
    }
    if schema["type"] != nil {
      let types = try types(schema, [], place)
      values = values.filter { value in types.contains { Self.isOf($0, value) } }
    }
    guard !values.isEmpty else {
      throw .schema(place: place, problem: "no value of the enumeration validates")
    }
    let texts = Set(values.map(\.bytes))
    guard texts.reduce(0, { $0 + $1.count }) <= Self.enumerationLimit else {
      throw .schema(
        place: Self.at(place, "enum"), problem: "it has more than \(Self.enumerationLimit) bytes of values")
    }
    return try grammar.oneOf(texts.sorted { $0.lexicographicallyPrecedes($1) })
  }

  private static func isOf(_ type: String, _ value: OrderedJSON) -> Bool {
    switch value {
    case .null: type == "null"
    case .boolean: type == "boolean"
    case .number(let text):
      type == "number" || type == "integer" && Double(text).map { $0 == $0.rounded() } == true
    case .text: type == "string"
    case .array: type == "array"
    case .object: type == "object"
    }
  }

  /// A whole number in a keyword that counts something.
  func count(_ schema: OrderedJSON, _ key: String, _ place: String) throws(GenerationError) -> Int? {
    guard let value = schema[key] else { return nil }
    guard case .number(let text) = value, let number = Double(text), let count = Int(exactly: number),
      (0...Self.countLimit).contains(count)
    else {
      throw .schema(place: Self.at(place, key), problem: "expected a whole number in 0...\(Self.countLimit)")
    }
    return count
  }

  /// Two counts of which the first is not above the second.
  func counts(
    _ schema: OrderedJSON, _ least: String, _ most: String, _ place: String
  ) throws(GenerationError) -> (least: Int, most: Int?) {
    let (low, high) = (try count(schema, least, place) ?? 0, try count(schema, most, place))
    if let high, low > high {
      throw .schema(place: Self.at(place, least), problem: "it is above \(most)")
    }
    return (low, high)
  }

  /// A part that is made once.
  mutating func part(
    _ name: String,
    _ make: (inout JSONSchemaCompiler) throws(GenerationError) -> ByteGrammar.Node
  ) throws(GenerationError) -> ByteGrammar.Node {
    if let node = parts[name] { return node }
    let node = try make(&self)
    parts[name] = node
    return node
  }
}
