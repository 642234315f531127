import Foundation

extension Interpreter {
  static let methodsOfMaps: Set<String> = ["items", "keys", "values", "get"]
  static let methodsOfTexts: Set<String> = [
    "strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith", "replace",
    "upper",
    "lower", "capitalize", "title", "find", "rfind", "count", "join", "removeprefix", "removesuffix",
    "isdigit",
    "isalpha", "isspace",
  ]

  mutating func call(
    _ function: TemplateValue, _ arguments: Arguments, _ scope: Scope
  ) throws(TemplateError) -> TemplateValue {
    guard case .object(let object) = function else { throw failure("a function", function) }
    let line = line
    let given = try evaluate(arguments.positional, scope)
    let named = try evaluate(arguments.named, scope)
    self.line = line
    switch object.kind {
    case .macro(let macro, let definition): return try call(macro, definition, given, named)
    case .function(let name): return try callFunction(name, given, named)
    case .method(let name, let base): return try callMethod(name, base, given, named)
    case .namespace, .loop: throw failure("a function", function)
    }
  }

  private mutating func callFunction(
    _ name: String, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    switch name {
    case "range":
      var bounds: [Int] = []
      for value in given {
        guard let bound = value.integer else { throw failure("integers for a range", value) }
        bounds.append(bound)
      }
      guard (1...3).contains(bounds.count) else { throw failure("one to three integers", .list(given)) }
      let (start, end) = bounds.count == 1 ? (0, bounds[0]) : (bounds[0], bounds[1])
      let step = bounds.count == 3 ? bounds[2] : 1
      guard step != 0 else { throw .value(line: line, expected: "a step other than 0", found: "0") }
      let limit = Double(abs(Double(end) - Double(start)) / abs(Double(step)))
      guard limit <= 100_000 else { throw .limit("ranges of at most 100000 numbers") }
      try spend(Int(limit))
      return .list(Swift.stride(from: start, to: end, by: step).map { .int($0) })
    case "namespace", "dict":
      var map = TemplateMap()
      if case .map(let first)? = given.first { map = first }
      for (key, value) in named.sorted(by: { $0.key < $1.key }) { map[TemplateText(key)] = value }
      guard name == "namespace" else { return .map(map) }
      let object = TemplateObject(.namespace)
      object.fields = map
      return .object(object)
    case "raise_exception":
      throw .refused(given.first.map { excerpt($0.text.string) } ?? "without a reason")
    default:
      guard case .text(let format)? = given.first, format.units.count <= 256 else {
        throw failure("a format of at most 256 characters", given.first ?? .none)
      }
      return .text(TemplateText(Self.formatted(date, format.string)))
    }
  }

  /// As C's `strftime` writes it.
  private static func formatted(_ date: Date, _ format: String) -> String {
    var seconds = time_t(date.timeIntervalSince1970)
    var parts = tm()
    localtime_r(&seconds, &parts)
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = strftime(&buffer, buffer.count, format, &parts)
    return String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  private mutating func callMethod(
    _ name: String, _ base: TemplateValue, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    switch base {
    case .map(let map):
      try spend(map.keys.count)
      switch name {
      case "items": return .list(map.items.map { .list([.text($0.key), $0.value]) })
      case "keys": return .list(map.keys.map { .text($0) })
      case "values": return .list(map.items.map(\.value))
      default:
        guard let key = given.first else { throw failure("a key", .none) }
        return map[key.text] ?? (given.count > 1 ? given[1] : named["default"] ?? .none)
      }
    case .text(let text): return try method(name, text, given, named)
    case .object(let loop):
      guard !given.isEmpty, let index = loop.fields["index0"]?.integer else { throw failure("values", base) }
      return given[index % given.count]
    default: throw failure("a value with the method \(excerpt(name))", base)
    }
  }

  private mutating func method(
    _ name: String, _ text: TemplateText, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    try spend(text.units.count)
    func argument(_ index: Int) throws(TemplateError) -> TemplateText {
      guard given.indices.contains(index), case .text(let value) = given[index] else {
        throw failure("a string for \(excerpt(name))", given.indices.contains(index) ? given[index] : .none)
      }
      return value
    }
    func optional(_ index: Int) throws(TemplateError) -> TemplateText? {
      guard given.indices.contains(index) else { return nil }
      if case .none = given[index] { return nil }
      return try argument(index)
    }
    switch name {
    case "strip", "lstrip", "rstrip":
      return .text(text.stripped(try optional(0), left: name != "rstrip", right: name != "lstrip"))
    case "split":
      let separator = try optional(0)
      try charge(text, separator)
      let limit = (given.count > 1 ? given[1] : named["maxsplit"])?.integer ?? -1
      return .list(text.split(separator, atMost: limit < 0 ? .max : limit).map { .text($0) })
    case "rsplit":
      guard let separator = try optional(0) else {
        throw .unsupported(line: line, what: "rsplit at white space")
      }
      try charge(text, separator)
      var parts = text.split(separator)
      let limit = (given.count > 1 ? given[1] : named["maxsplit"])?.integer ?? -1
      if limit >= 0, parts.count > limit + 1 {
        let head = parts.count - limit
        parts = [TemplateValue.joined(Array(parts[..<head]), separator)] + parts[head...]
      }
      return .list(parts.map { .text($0) })
    case "splitlines":
      var lines = text.replacing("\r\n", with: "\n").replacing("\r", with: "\n").split("\n")
      if lines.last?.units.isEmpty == true { lines.removeLast() }
      return .list(lines.map { .text($0) })
    case "startswith", "endswith":
      var options: [TemplateValue] = Array(given.prefix(1))
      if case .list(let list)? = given.first { options = list }
      for option in options {
        guard case .text(let option) = option else { throw failure("a string", option) }
        if name == "startswith" ? text.starts(with: option) : text.ends(with: option) { return .bool(true) }
      }
      return .bool(false)
    case "replace":
      let (old, new) = (try argument(0), try argument(1))
      let limit = given.count > 2 ? given[2].integer ?? -1 : -1
      return .text(try replace(text, old, new, limit))
    case "upper", "lower", "capitalize", "title": return .text(Self.cased(text, name))
    case "find", "rfind":
      let part = try argument(0)
      try charge(text, part)
      return .int((name == "find" ? text.firstIndex(of: part) : text.lastIndex(of: part)) ?? -1)
    case "count":
      let part = try argument(0)
      try charge(text, part)
      return .int(part.units.isEmpty ? text.units.count + 1 : text.split(part).count - 1)
    case "join":
      return .text(try join(given.first ?? .none, text))
    case "removeprefix":
      let part = try argument(0)
      return .text(
        text.starts(with: part) ? TemplateText(units: text.units.dropFirst(part.units.count)) : text)
    case "removesuffix":
      let part = try argument(0)
      return .text(text.ends(with: part) ? TemplateText(units: text.units.dropLast(part.units.count)) : text)
    default:
      let scalars = text.units.compactMap(TemplateText.scalar)
      return .bool(
        !scalars.isEmpty
          && scalars.allSatisfy { scalar in
            switch name {
            case "isdigit":
              scalar.properties.numericType == .decimal || scalar.properties.numericType == .digit
            case "isalpha": scalar.properties.isAlphabetic
            default: scalar.properties.isWhitespace
            }
          })
    }
  }

  /// Looking for a text in another may compare all of it at every place.
  mutating func charge(_ text: TemplateText, _ part: TemplateText?) throws(TemplateError) {
    let (product, overflow) = text.units.count.multipliedReportingOverflow(by: max(part?.units.count ?? 1, 1))
    try spend(overflow ? .max / 2 : product / 4)
  }

  mutating func replace(
    _ text: TemplateText, _ old: TemplateText, _ new: TemplateText, _ limit: Int = -1
  ) throws(TemplateError) -> TemplateText {
    try charge(text, old)
    let places = old.units.isEmpty ? text.units.count + 1 : text.units.count / old.units.count
    // Only what could become too long is counted exactly.
    if places * max(new.units.count, 1) > limits.length {
      let count = old.units.isEmpty ? places : text.split(old).count - 1
      try reserve(new.units.count, times: count)
    }
    let result = text.replacing(old, with: new, atMost: limit < 0 ? .max : limit)
    try reserve(result.units.count)
    return result
  }

  mutating func join(_ value: TemplateValue, _ separator: TemplateText) throws(TemplateError) -> TemplateText
  {
    let parts = try elements(value).map(\.text)
    try reserve(parts.reduce(0) { $0 + $1.units.count } + separator.units.count * max(parts.count - 1, 0))
    return TemplateValue.joined(parts, separator)
  }

  static func cased(_ text: TemplateText, _ name: String) -> TemplateText {
    switch name {
    case "upper": return text.mapScalars { $0.properties.uppercaseMapping }
    case "lower": return text.mapScalars { $0.properties.lowercaseMapping }
    case "capitalize":
      var isFirst = true
      return text.mapScalars { scalar in
        defer { isFirst = false }
        return isFirst ? scalar.properties.titlecaseMapping : scalar.properties.lowercaseMapping
      }
    default:
      var isInWord = false
      return text.mapScalars { scalar in
        defer { isInWord = scalar.properties.isAlphabetic }
        return isInWord ? scalar.properties.lowercaseMapping : scalar.properties.titlecaseMapping
      }
    }
  }
}
