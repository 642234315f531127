extension Interpreter {
  mutating func filter(
    _ name: String, _ value: TemplateValue, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    try spend(value.size)
    func argument(_ index: Int, _ key: String) -> TemplateValue? {
      given.indices.contains(index) ? given[index] : named[key]
    }
    func text(_ value: TemplateValue?, _ usual: TemplateText) throws(TemplateError) -> TemplateText {
      guard let value else { return usual }
      guard case .text(let text) = value else { throw failure("a string", value) }
      return text
    }
    switch name {
    case "trim":
      if let characters = argument(0, "chars"), case .text(let characters) = characters {
        return .text(value.text.stripped(characters))
      }
      return .text(value.text.stripped())
    case "length", "count":
      switch value {
      case .text(let text): return .int(text.units.count)
      case .list(let list): return .int(list.count)
      case .map(let map): return .int(map.keys.count)
      case .undefined: return .int(0)
      default: throw failure("something with a length", value)
      }
    case "upper", "lower", "capitalize", "title": return .text(Self.cased(value.text, name))
    case "string", "safe": return .text(value.text)
    case "tojson":
      let indent = argument(0, "indent").flatMap(\.integer)
      guard (indent ?? 0) <= 64 else { throw .limit("an indent of at most 64") }
      var writer = JSONWriter(
        indent: indent.map { max($0, 0) }, sortsKeys: named["sort_keys"]?.isTruthy ?? false,
        limit: limits.length)
      try writer.write(value)
      try reserve(writer.units.count)
      return .text(TemplateText(units: writer.units))
    case "default", "d":
      let usual = argument(0, "default_value") ?? .text("")
      if case .undefined = value { return usual }
      return argument(1, "boolean")?.isTruthy == true && !value.isTruthy ? usual : value
    case "replace":
      return .text(
        try replace(value.text, try text(argument(0, "old"), ""), try text(argument(1, "new"), "")))
    case "join":
      var values = value
      if let attribute = argument(1, "attribute") { values = .list(try map(value, attribute.text)) }
      return .text(try join(values, try text(argument(0, "d"), "")))
    case "indent":
      return .text(
        try indented(
          value.text, argument(0, "width")?.integer ?? 4, first: argument(1, "first")?.isTruthy ?? false))
    case "int":
      if let number = value.number {
        guard abs(number) < 0x1p62 else { throw .limit("numbers of 64 bits") }
        return .int(Int(number))
      }
      return Int(value.text.stripped().string).map { .int($0) } ?? argument(0, "default") ?? .int(0)
    case "float":
      return .double(value.number ?? Double(value.text.stripped().string) ?? 0)
    case "abs":
      if let integer = value.integer, integer != .min { return .int(abs(integer)) }
      guard let number = value.number else { throw failure("a number", value) }
      return .double(abs(number))
    case "items":
      if case .undefined = value { return .list([]) }
      guard case .map(let map) = value else { throw failure("a mapping", value) }
      return .list(map.items.map { .list([.text($0.key), $0.value]) })
    case "dictsort":
      guard case .map(let map) = value else { throw failure("a mapping", value) }
      let sorted = map.items.sorted { Self.cased($0.key, "lower") < Self.cased($1.key, "lower") }
      return .list(sorted.map { .list([.text($0.key), $0.value]) })
    default: return try listFilter(name, value, given, named)
    }
  }

  private static let listFilters: Set<String> = [
    "list", "first", "last", "reverse", "unique", "map", "selectattr", "rejectattr", "select", "reject",
    "sum", "min", "max", "sort",
  ]

  private mutating func listFilter(
    _ name: String, _ value: TemplateValue, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    guard Self.listFilters.contains(name) else {
      throw .unsupported(line: line, what: "the filter \(excerpt(name))")
    }
    let list = try elements(value)
    switch name {
    case "list": return .list(list)
    case "first": return list.first ?? .undefined("the first of nothing")
    case "last": return list.last ?? .undefined("the last of nothing")
    case "reverse":
      if case .text(let text) = value { return .text(TemplateText(units: text.units.reversed())) }
      return .list(list.reversed())
    case "unique":
      var seen: [TemplateValue] = []
      for element in list {
        try spend(seen.count)
        if !seen.contains(where: { $0.isEqual(to: element) }) { seen.append(element) }
      }
      return .list(seen)
    case "map":
      if let attribute = named["attribute"] { return .list(try map(value, attribute.text)) }
      guard case .text(let filter)? = given.first else { throw failure("the name of a filter", .none) }
      var mapped: [TemplateValue] = []
      for element in list {
        mapped.append(try self.filter(filter.string, element, Array(given.dropFirst()), named))
      }
      return .list(mapped)
    case "selectattr", "rejectattr", "select", "reject":
      let byAttribute = name.hasSuffix("attr")
      let rest = byAttribute ? Array(given.dropFirst()) : given
      var kept: [TemplateValue] = []
      for element in list {
        try spend()
        var tested = element
        if byAttribute {
          guard let attribute = given.first else { throw failure("an attribute", .none) }
          tested = try field(attribute.text, of: element)
        }
        let passes: Bool
        if let test = rest.first {
          passes = try self.test(test.text.string, tested, Array(rest.dropFirst()))
        } else {
          passes = tested.isTruthy
        }
        if passes == name.hasPrefix("select") { kept.append(element) }
      }
      return .list(kept)
    case "sum":
      var total = 0.0
      for element in list {
        guard let number = element.number else { throw failure("numbers", element) }
        total += number
      }
      return list.allSatisfy { $0.integer != nil } && abs(total) < 0x1p53 ? .int(Int(total)) : .double(total)
    case "min", "max", "sort":
      var failed: TemplateError?
      var sorted = list
      try spend(list.count * 16)
      sorted.sort { first, second in
        if case .text(let left) = first, case .text(let right) = second { return left < right }
        guard let left = first.number, let right = second.number else {
          failed = failure("numbers or strings", first)
          return false
        }
        return left < right
      }
      if let failed { throw failed }
      if name == "sort" { return .list(named["reverse"]?.isTruthy == true ? sorted.reversed() : sorted) }
      return (name == "min" ? sorted.first : sorted.last) ?? .undefined("one of nothing")
    default: throw .unsupported(line: line, what: "the filter \(excerpt(name))")
    }
  }

  /// A field of an element, or of a field of it: `function.name`.
  private func field(_ path: TemplateText, of value: TemplateValue) throws(TemplateError) -> TemplateValue {
    var current = value
    for part in path.split(".") {
      switch current {
      case .map(let map): current = map[part] ?? .undefined(part.string)
      case .object(let object): current = object.fields[part] ?? .undefined(part.string)
      case .list(let list):
        current =
          Int(part.string).flatMap { list.indices.contains($0) ? list[$0] : nil } ?? .undefined(part.string)
      default: return .undefined(part.string)
      }
    }
    return current
  }

  private mutating func map(_ value: TemplateValue, _ path: TemplateText) throws(TemplateError)
    -> [TemplateValue]
  {
    var result: [TemplateValue] = []
    for element in try elements(value) { result.append(try field(path, of: element)) }
    return result
  }

  private mutating func indented(
    _ text: TemplateText, _ width: Int, first: Bool
  ) throws(TemplateError) -> TemplateText {
    guard (0...64).contains(width) else { throw .limit("an indent of 0 to 64") }
    let space = TemplateText(String(repeating: " ", count: width))
    let lines = text.split("\n")
    try reserve(text.units.count + lines.count * width)
    let parts = lines.enumerated().map { index, line in
      (index == 0 ? first : !line.units.isEmpty) ? space + line : line
    }
    return TemplateValue.joined(parts, "\n")
  }

  func test(
    _ name: String, _ value: TemplateValue, _ given: [TemplateValue]
  ) throws(TemplateError) -> Bool {
    func argument() throws(TemplateError) -> TemplateValue {
      guard let value = given.first else { throw failure("an argument for \(excerpt(name))", .none) }
      return value
    }
    func number() throws(TemplateError) -> Int {
      guard let number = value.integer else { throw failure("an integer", value) }
      return number
    }
    switch (name, value) {
    case ("defined", .undefined): return false
    case ("defined", _): return true
    case ("undefined", .undefined): return true
    case ("none", .none): return true
    case ("string", .text), ("mapping", .map), ("boolean", .bool), ("float", .double): return true
    case ("integer", .int), ("number", .int), ("number", .double), ("number", .bool): return true
    case ("iterable", .list), ("iterable", .map), ("iterable", .text), ("iterable", .undefined): return true
    case ("sequence", .list), ("sequence", .map), ("sequence", .text), ("sequence", .undefined): return true
    case ("callable", .object(let object)):
      switch object.kind {
      case .macro, .function, .method: return true
      case .namespace, .loop: return false
      }
    case ("true", .bool(let flag)): return flag
    case ("false", .bool(let flag)): return !flag
    case ("even", _): return try number() % 2 == 0
    case ("odd", _): return try number() % 2 != 0
    case ("divisibleby", _):
      guard let divisor = try argument().integer, divisor != 0 else {
        throw failure("a divisor", try argument())
      }
      return try number() % divisor == 0
    case ("equalto", _), ("eq", _), ("==", _), ("sameas", _): return value.isEqual(to: try argument())
    case ("ne", _), ("!=", _): return !value.isEqual(to: try argument())
    case ("in", _):
      var copy = self
      return try copy.compare(value, "in", try argument())
    case ("lower", .text(let text)): return text == Self.cased(text, "lower")
    case ("upper", .text(let text)): return text == Self.cased(text, "upper")
    case ("undefined", _), ("none", _), ("string", _), ("mapping", _), ("boolean", _), ("float", _),
      ("integer", _), ("number", _), ("iterable", _), ("sequence", _), ("callable", _), ("true", _),
      ("false", _), ("lower", _), ("upper", _):
      return false
    default: throw .unsupported(line: line, what: "the test \(excerpt(name))")
    }
  }
}

/// JSON as Python's `json.dumps` writes it, without escapes for what is not ASCII.
struct JSONWriter {
  let indent: Int?
  let sortsKeys: Bool
  let limit: Int
  var units: [UInt32] = []
  private var depth = 0

  init(indent: Int?, sortsKeys: Bool, limit: Int) {
    self.indent = indent
    self.sortsKeys = sortsKeys
    self.limit = limit
  }

  private mutating func append(_ text: TemplateText) { units += text.units }

  mutating func write(_ value: TemplateValue) throws(TemplateError) {
    guard units.count <= limit else { throw .limit("texts of at most \(limit) characters") }
    switch value {
    case .none: append("null")
    case .bool(let value): append(value ? "true" : "false")
    case .int, .double: append(value.text)
    case .text(let text): append(Self.quoted(text))
    case .list(let list):
      try group("[", "]", list.count) { (writer, index) throws(TemplateError) in try writer.write(list[index])
      }
    case .map(let map):
      let items = sortsKeys ? map.items.sorted { $0.key < $1.key } : map.items
      try group("{", "}", items.count) { (writer, index) throws(TemplateError) in
        writer.append(Self.quoted(items[index].key) + ": ")
        try writer.write(items[index].value)
      }
    case .undefined, .object:
      throw .value(line: 0, expected: "a value that JSON has", found: value.kindName)
    }
  }

  private mutating func group(
    _ opening: TemplateText, _ closing: TemplateText, _ count: Int,
    _ element: (inout JSONWriter, Int) throws(TemplateError) -> Void
  ) throws(TemplateError) {
    append(opening)
    depth += 1
    for index in 0..<count {
      if index > 0 { append(indent == nil ? ", " : ",") }
      breakLine()
      try element(&self, index)
    }
    depth -= 1
    if count > 0 { breakLine() }
    append(closing)
  }

  private mutating func breakLine() {
    guard let indent else { return }
    append("\n")
    append(TemplateText(String(repeating: " ", count: min(indent * depth, 4096))))
  }

  private static func quoted(_ text: TemplateText) -> TemplateText {
    let escaped = text.mapScalars { scalar in
      switch scalar {
      case "\"": "\\\""
      case "\\": "\\\\"
      case "\n": "\\n"
      case "\r": "\\r"
      case "\t": "\\t"
      case "\u{8}": "\\b"
      case "\u{C}": "\\f"
      case "\0"..."\u{1F}":
        "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
      default: String(scalar)
      }
    }
    return "\"" + escaped + "\""
  }
}
