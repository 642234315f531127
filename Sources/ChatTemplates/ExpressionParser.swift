/// Turns the tokens between two marks into an expression, with Jinja's precedences.
struct ExpressionParser {
  private let symbols: [Symbol]
  private var position = 0
  private let startLine: Int
  private var depth = 0

  /// Brackets, filters and signs within each other.
  private static let depthLimit = 96

  init(_ symbols: [Symbol], line: Int) {
    self.symbols = symbols
    startLine = line
  }

  private var next: Symbol? { position < symbols.count ? symbols[position] : nil }
  private var line: Int { next?.line ?? symbols.last?.line ?? startLine }
  var nextDescription: String { next?.description ?? "the end of the tag" }

  private func isAt(_ mark: String) -> Bool { next?.kind == .mark(mark) }
  private func isAtName(_ name: String) -> Bool { next?.kind == .name(name) }

  mutating func take(_ mark: String) -> Bool {
    guard isAt(mark) else { return false }
    position += 1
    return true
  }

  mutating func take(name: String) -> Bool {
    guard isAtName(name) else { return false }
    position += 1
    return true
  }

  mutating func expect(_ mark: String) throws(TemplateError) {
    guard take(mark) else { throw .syntax(line: line, expected: excerpt(mark), found: nextDescription) }
  }

  mutating func name(_ expected: String) throws(TemplateError) -> String {
    guard case .name(let name) = next?.kind else {
      throw .syntax(line: line, expected: expected, found: nextDescription)
    }
    position += 1
    return name
  }

  func end() throws(TemplateError) {
    guard next == nil else {
      throw .syntax(line: line, expected: "the end of the tag", found: nextDescription)
    }
  }

  /// An expression, or several with commas between them: a list.
  mutating func tuple() throws(TemplateError) -> Expression {
    let first = try expression()
    guard isAt(",") else { return first }
    var values = [first]
    while take(",") {
      if next == nil || isAt(")") { break }
      values.append(try expression())
    }
    return .list(values)
  }

  mutating func expression() throws(TemplateError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else { throw .limit("expressions at most \(Self.depthLimit) levels deep") }
    var value = try disjunction()
    while take(name: "if") {
      let condition = try disjunction()
      let otherwise: Expression? = take(name: "else") ? try expression() : nil
      value = .condition(condition, then: value, otherwise: otherwise)
    }
    return value
  }

  mutating func disjunction() throws(TemplateError) -> Expression {
    var value = try conjunction()
    while take(name: "or") { value = .or(value, try conjunction()) }
    return value
  }

  private mutating func conjunction() throws(TemplateError) -> Expression {
    var value = try negation()
    while take(name: "and") { value = .and(value, try negation()) }
    return value
  }

  private mutating func negation() throws(TemplateError) -> Expression {
    guard take(name: "not") else { return try comparison() }
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else { throw .limit("expressions at most \(Self.depthLimit) levels deep") }
    return .not(try negation())
  }

  private mutating func comparison() throws(TemplateError) -> Expression {
    let start = line
    let value = try sum()
    var comparisons: [(mark: String, value: Expression)] = []
    while true {
      if let mark = ["==", "!=", "<=", ">=", "<", ">"].first(where: isAt) {
        position += 1
        comparisons.append((mark, try sum()))
      } else if take(name: "in") {
        comparisons.append(("in", try sum()))
      } else if isAtName("not"), position + 1 < symbols.count, symbols[position + 1].kind == .name("in") {
        position += 2
        comparisons.append(("not in", try sum()))
      } else {
        break
      }
    }
    return comparisons.isEmpty ? value : .at(start, .comparison(value, comparisons))
  }

  private mutating func sum() throws(TemplateError) -> Expression {
    var value = try concatenation()
    while let mark = ["+", "-"].first(where: isAt) {
      let start = line
      position += 1
      value = .at(start, .binary(mark, value, try concatenation()))
    }
    return value
  }

  private mutating func concatenation() throws(TemplateError) -> Expression {
    var value = try product()
    while isAt("~") {
      let start = line
      position += 1
      value = .at(start, .binary("~", value, try product()))
    }
    return value
  }

  private mutating func product() throws(TemplateError) -> Expression {
    var value = try unary(withFilters: true)
    while let mark = ["*", "//", "/", "%"].first(where: isAt) {
      let start = line
      position += 1
      value = .at(start, .binary(mark, value, try unary(withFilters: true)))
    }
    return value
  }

  private mutating func unary(withFilters: Bool) throws(TemplateError) -> Expression {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else { throw .limit("expressions at most \(Self.depthLimit) levels deep") }
    let start = line
    var value: Expression
    if take("-") {
      value = .at(start, .negate(try unary(withFilters: false)))
    } else if take("+") {
      value = try unary(withFilters: false)
    } else {
      value = try postfix(try primary())
      if take("**") { value = .at(start, .binary("**", value, try unary(withFilters: false))) }
    }
    return withFilters ? try filtersAndTests(value) : value
  }

  private mutating func primary() throws(TemplateError) -> Expression {
    guard let symbol = next else { throw .syntax(line: line, expected: "a value", found: nextDescription) }
    position += 1
    switch symbol.kind {
    case .name(let name):
      switch name {
      case "true", "True": return .literal(.bool(true))
      case "false", "False": return .literal(.bool(false))
      case "none", "None": return .literal(.none)
      default: return .at(symbol.line, .name(name))
      }
    case .string(var text):
      while case .string(let more) = next?.kind {
        text += more
        position += 1
      }
      return .literal(.text(TemplateText(text)))
    case .int(let value): return .literal(.int(value))
    case .double(let value): return .literal(.double(value))
    case .mark("("):
      if take(")") { return .list([]) }
      let value = try tuple()
      try expect(")")
      return value
    case .mark("["):
      var values: [Expression] = []
      while !take("]") {
        if !values.isEmpty {
          try expect(",")
          if take("]") { break }
        }
        values.append(try expression())
      }
      return .list(values)
    case .mark("{"):
      var pairs: [(key: Expression, value: Expression)] = []
      while !take("}") {
        if !pairs.isEmpty {
          try expect(",")
          if take("}") { break }
        }
        let key = try expression()
        try expect(":")
        pairs.append((key, try expression()))
      }
      return .at(symbol.line, .map(pairs))
    case .mark:
      throw .syntax(line: symbol.line, expected: "a value", found: symbol.description)
    }
  }

  private mutating func postfix(_ base: Expression) throws(TemplateError) -> Expression {
    var value = base
    // Each link of a chain is a level of the tree.
    var links = 0
    while let symbol = next {
      let start = symbol.line
      links += 1
      guard links <= Self.depthLimit else { throw .limit("chains of at most \(Self.depthLimit) links") }
      if take(".") {
        if case .int(let index) = next?.kind {
          position += 1
          value = .at(start, .element(value, at: .literal(.int(index))))
        } else {
          value = .at(start, .attribute(value, try name("an attribute")))
        }
      } else if take("[") {
        value = .at(start, try subscripted(value))
        try expect("]")
      } else if take("(") {
        value = .at(start, .call(value, try arguments()))
      } else {
        break
      }
    }
    return value
  }

  private mutating func subscripted(_ base: Expression) throws(TemplateError) -> Expression {
    var parts: [Expression?] = [nil]
    while !isAt("]") {
      if take(":") {
        parts.append(nil)
        guard parts.count <= 3 else { throw .syntax(line: line, expected: "]", found: nextDescription) }
      } else {
        guard parts[parts.count - 1] == nil else {
          throw .syntax(line: line, expected: "]", found: nextDescription)
        }
        parts[parts.count - 1] = try expression()
      }
    }
    if parts.count == 1 {
      guard let index = parts[0] else {
        throw .syntax(line: line, expected: "an index", found: nextDescription)
      }
      return .element(base, at: index)
    }
    return .slice(base, from: parts[0], to: parts[1], by: parts.count > 2 ? parts[2] : nil)
  }

  private mutating func arguments() throws(TemplateError) -> Arguments {
    var result = Arguments()
    var isFirst = true
    while !take(")") {
      if !isFirst {
        try expect(",")
        if take(")") { break }
      }
      isFirst = false
      if case .name(let name) = next?.kind, position + 1 < symbols.count,
        symbols[position + 1].kind == .mark("=")
      {
        position += 2
        result.named.append((name, try expression()))
      } else {
        result.positional.append(try expression())
      }
    }
    return result
  }

  private mutating func filtersAndTests(_ base: Expression) throws(TemplateError) -> Expression {
    var value = base
    var links = 0
    while true {
      let start = line
      links += 1
      guard links <= Self.depthLimit else { throw .limit("chains of at most \(Self.depthLimit) filters") }
      if take("|") {
        let filter = try name("a filter")
        value = .at(start, .filter(value, filter, take("(") ? try arguments() : Arguments()))
        value = try postfix(value)
      } else if take(name: "is") {
        let isNegated = take(name: "not")
        let test = try name("a test")
        var given = Arguments()
        if take("(") {
          given = try arguments()
        } else if let symbol = next, Self.beginsArgument(symbol) {
          // One argument needs no brackets: `is divisibleby 3`.
          given.positional = [try postfix(try primary())]
        }
        value = .at(start, .test(value, test, given, isNegated: isNegated))
      } else {
        return value
      }
    }
  }

  private static func beginsArgument(_ symbol: Symbol) -> Bool {
    switch symbol.kind {
    case .string, .int, .double: true
    case .name(let name): !["else", "or", "and", "is", "if", "in", "not", "recursive"].contains(name)
    case .mark(let mark): mark == "[" || mark == "{"
    }
  }
}
