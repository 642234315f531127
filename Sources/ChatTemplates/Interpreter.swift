import Foundation

/// One run of a template.
struct Interpreter {
  let limits: TemplateLimits
  let date: Date
  /// What has been written so far.
  var output: [UInt32] = []
  var line = 1
  private var steps = 0
  private var depth = 0

  init(limits: TemplateLimits, date: Date) {
    self.limits = limits
    self.date = date
  }

  enum Flow {
    case onward, breakLoop, continueLoop
  }

  /// Counts an operation on so many elements.
  mutating func spend(_ elements: Int = 0) throws(TemplateError) {
    steps += 1 + elements / 16
    guard steps <= limits.steps else { throw .limit("at most \(limits.steps) operations") }
  }

  /// Checks the length of a text before it is made.
  mutating func reserve(_ length: Int, times count: Int = 1) throws(TemplateError) {
    let (total, overflow) = length.multipliedReportingOverflow(by: max(count, 0))
    guard !overflow, total <= limits.length else {
      throw .limit("texts of at most \(limits.length) characters")
    }
    try spend(total)
  }

  mutating func write(_ text: TemplateText) throws(TemplateError) {
    try reserve(output.count / 64 + text.units.count)
    guard output.count + text.units.count <= limits.length else {
      throw .limit("an output of at most \(limits.length) characters")
    }
    output += text.units
  }

  func failure(_ expected: String, _ found: TemplateValue) -> TemplateError {
    .value(line: line, expected: expected, found: found.kindName)
  }

  @discardableResult
  mutating func run(_ statements: [Statement], _ scope: Scope) throws(TemplateError) -> Flow {
    for statement in statements {
      let flow = try run(statement, scope)
      if flow != .onward { return flow }
    }
    return .onward
  }

  private mutating func run(_ statement: Statement, _ scope: Scope) throws(TemplateError) -> Flow {
    try spend()
    switch statement {
    case .text(let text): try write(text)
    case .output(let expression):
      let value = try evaluate(expression, scope)
      try spend(value.size)
      try write(value.text)
    case .set(let names, let expression):
      try assign(names, try evaluate(expression, scope), scope)
    case .setField(let name, let field, let expression, let line):
      self.line = line
      let value = try evaluate(expression, scope)
      guard case .object(let object)? = scope.find(name), case .namespace = object.kind else {
        throw .value(
          line: line, expected: "a namespace to set a field of",
          found: scope.find(name)?.kindName ?? "no such name")
      }
      object.fields[TemplateText(field)] = value
    case .setBlock(let name, let body):
      scope.values[name] = .text(try captured(body, Scope(parent: scope)))
    case .condition(let branches, let otherwise):
      for branch in branches where try evaluate(branch.condition, scope).isTruthy {
        return try run(branch.body, scope)
      }
      return try run(otherwise, scope)
    case .loop(let loop): try run(loop, scope)
    case .macro(let macro): scope.values[macro.name] = .object(TemplateObject(.macro(macro, scope)))
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    }
    return .onward
  }

  private mutating func assign(
    _ names: [String], _ value: TemplateValue, _ scope: Scope
  ) throws(TemplateError) {
    if names.count == 1 {
      scope.values[names[0]] = value
      return
    }
    guard case .list(let values) = value, values.count == names.count else {
      throw failure("\(names.count) values", value)
    }
    for (name, value) in zip(names, values) { scope.values[name] = value }
  }

  /// What statements write, apart from the output.
  private mutating func captured(_ body: [Statement], _ scope: Scope) throws(TemplateError) -> TemplateText {
    let before = output
    output = []
    try run(body, scope)
    let text = TemplateText(units: output)
    output = before
    return text
  }

  private mutating func run(_ loop: Loop, _ scope: Scope) throws(TemplateError) {
    line = loop.line
    var items: [TemplateValue] = []
    for item in try elements(try evaluate(loop.sequence, scope)) {
      guard let filter = loop.filter else {
        items.append(item)
        continue
      }
      let inner = Scope(parent: scope)
      try assign(loop.names, item, inner)
      if try evaluate(filter, inner).isTruthy { items.append(item) }
    }
    if items.isEmpty {
      try run(loop.otherwise, scope)
      return
    }
    for (index, item) in items.enumerated() {
      try spend()
      let inner = Scope(parent: scope)
      try assign(loop.names, item, inner)
      let object = TemplateObject(.loop)
      object.fields = TemplateMap([
        ("index", .int(index + 1)), ("index0", .int(index)), ("first", .bool(index == 0)),
        ("last", .bool(index == items.count - 1)), ("length", .int(items.count)),
        ("revindex", .int(items.count - index)), ("revindex0", .int(items.count - index - 1)),
      ])
      if index > 0 { object.fields["previtem"] = items[index - 1] }
      if index + 1 < items.count { object.fields["nextitem"] = items[index + 1] }
      inner.values["loop"] = .object(object)
      if try run(loop.body, inner) == .breakLoop { break }
    }
  }

  /// What a loop goes through.
  mutating func elements(_ value: TemplateValue) throws(TemplateError) -> [TemplateValue] {
    try spend(value.size)
    switch value {
    case .undefined: return []
    case .list(let values): return values
    case .map(let map): return map.keys.map { .text($0) }
    case .text(let text): return text.units.map { .text(TemplateText(units: [$0])) }
    default: throw failure("something to go through", value)
    }
  }

  /// Calls a macro.
  mutating func call(
    _ macro: Macro, _ definition: Scope, _ given: [TemplateValue], _ named: [String: TemplateValue]
  ) throws(TemplateError) -> TemplateValue {
    depth += 1
    defer { depth -= 1 }
    guard depth <= limits.depth else { throw .limit("calls at most \(limits.depth) levels deep") }
    let scope = Scope(parent: definition)
    guard given.count <= macro.parameters.count else {
      throw .value(
        line: line, expected: "at most \(macro.parameters.count) arguments for \(excerpt(macro.name))",
        found: "\(given.count)")
    }
    for name in named.keys.sorted() where !macro.parameters.contains(where: { $0.name == name }) {
      throw .value(line: line, expected: "parameters of \(excerpt(macro.name))", found: excerpt(name))
    }
    for (index, parameter) in macro.parameters.enumerated() {
      if index < given.count {
        scope.values[parameter.name] = given[index]
      } else if let value = named[parameter.name] {
        scope.values[parameter.name] = value
      } else if let usual = parameter.usual {
        scope.values[parameter.name] = try evaluate(usual, scope)
      } else {
        scope.values[parameter.name] = .undefined(parameter.name)
      }
    }
    return .text(try captured(macro.body, scope))
  }
}
