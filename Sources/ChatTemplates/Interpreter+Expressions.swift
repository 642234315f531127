import Foundation

extension Interpreter {
  mutating func evaluate(_ expression: Expression, _ scope: Scope) throws(TemplateError) -> TemplateValue {
    try spend()
    switch expression {
    case .at(let line, let inner):
      self.line = line
      return try evaluate(inner, scope)
    case .literal(let value): return value
    case .name(let name): return scope.find(name) ?? .undefined(name)
    case .list(let values): return .list(try evaluate(values, scope))
    case .map(let pairs):
      var map = TemplateMap()
      for pair in pairs { map[try evaluate(pair.key, scope).text] = try evaluate(pair.value, scope) }
      return .map(map)
    case .attribute(let base, let name):
      return try attribute(try evaluate(base, scope), name)
    case .element(let base, let index):
      return try element(of: try evaluate(base, scope), at: try evaluate(index, scope))
    case .slice(let base, let start, let end, let step):
      return try slice(
        try evaluate(base, scope), try bound(start, scope), try bound(end, scope), try bound(step, scope))
    case .call(let function, let arguments):
      return try call(try evaluate(function, scope), arguments, scope)
    case .filter(let base, let name, let arguments):
      return try filter(
        name, try evaluate(base, scope), try evaluate(arguments.positional, scope),
        try evaluate(arguments.named, scope))
    case .test(let base, let name, let arguments, let isNegated):
      let result = try test(
        name, try evaluate(base, scope), try evaluate(arguments.positional, scope))
      return .bool(result != isNegated)
    case .negate(let value):
      switch try evaluate(value, scope) {
      case .int(let value) where value != .min: return .int(-value)
      case .double(let value): return .double(-value)
      case .bool(let value): return .int(value ? -1 : 0)
      case let other: throw failure("a number", other)
      }
    case .not(let value): return .bool(try !evaluate(value, scope).isTruthy)
    case .and(let first, let second):
      let value = try evaluate(first, scope)
      return value.isTruthy ? try evaluate(second, scope) : value
    case .or(let first, let second):
      let value = try evaluate(first, scope)
      return value.isTruthy ? value : try evaluate(second, scope)
    case .binary(let mark, let first, let second):
      return try binary(mark, try evaluate(first, scope), try evaluate(second, scope))
    case .comparison(let first, let others):
      var left = try evaluate(first, scope)
      for other in others {
        let right = try evaluate(other.value, scope)
        guard try compare(left, other.mark, right) else { return .bool(false) }
        left = right
      }
      return .bool(true)
    case .condition(let condition, let then, let otherwise):
      if try evaluate(condition, scope).isTruthy { return try evaluate(then, scope) }
      guard let otherwise else { return .undefined("the value of an if without else") }
      return try evaluate(otherwise, scope)
    }
  }

  mutating func evaluate(_ list: [Expression], _ scope: Scope) throws(TemplateError) -> [TemplateValue] {
    var values: [TemplateValue] = []
    for expression in list { values.append(try evaluate(expression, scope)) }
    return values
  }

  mutating func evaluate(
    _ named: [(name: String, value: Expression)], _ scope: Scope
  ) throws(TemplateError) -> [String: TemplateValue] {
    var values: [String: TemplateValue] = [:]
    for argument in named { values[argument.name] = try evaluate(argument.value, scope) }
    return values
  }

  private mutating func bound(_ expression: Expression?, _ scope: Scope) throws(TemplateError) -> Int? {
    guard let expression else { return nil }
    let value = try evaluate(expression, scope)
    if case .none = value { return nil }
    guard let integer = value.integer else { throw failure("an integer", value) }
    return integer
  }

  private func attribute(_ base: TemplateValue, _ name: String) throws(TemplateError) -> TemplateValue {
    let key = TemplateText(name)
    switch base {
    case .undefined: throw failure("a value with the attribute \(excerpt(name))", base)
    case .map(let map):
      // A method comes before a key of its name, as in Python.
      if Self.methodsOfMaps.contains(name) { return .object(TemplateObject(.method(name, base))) }
      return map[key] ?? .undefined(name)
    case .object(let object):
      switch object.kind {
      case .loop where name == "cycle": return .object(TemplateObject(.method(name, base)))
      case .namespace, .loop: return object.fields[key] ?? .undefined(name)
      default: return .undefined(name)
      }
    case .text where Self.methodsOfTexts.contains(name):
      return .object(TemplateObject(.method(name, base)))
    case .list, .text, .none, .bool, .int, .double: return .undefined(name)
    }
  }

  private mutating func element(
    of base: TemplateValue, at index: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    switch (base, index) {
    case (.undefined, _): throw failure("a value with elements", base)
    case (.map(let map), _):
      guard case .text(let key) = index else { return map[index.text] ?? .undefined("an element") }
      return map[key] ?? .undefined(key.string)
    case (.object(let object), .text(let key)): return object.fields[key] ?? .undefined(key.string)
    case (.list(let list), _):
      guard let place = index.integer else { return .undefined("an element") }
      let wanted = place < 0 ? place + list.count : place
      return list.indices.contains(wanted) ? list[wanted] : .undefined("element \(place)")
    case (.text(let text), .text(let name)):
      return try attribute(.text(text), name.string)
    case (.text(let text), _):
      guard let place = index.integer else { return .undefined("an element") }
      let wanted = place < 0 ? place + text.units.count : place
      return text.units.indices.contains(wanted)
        ? .text(TemplateText(units: [text.units[wanted]])) : .undefined("character \(place)")
    default: return .undefined("an element")
    }
  }

  private mutating func slice(
    _ base: TemplateValue, _ start: Int?, _ end: Int?, _ step: Int?
  ) throws(TemplateError) -> TemplateValue {
    try spend(base.size)
    let step = step ?? 1
    guard step != 0 else { throw .value(line: line, expected: "a step other than 0", found: "0") }
    func indices(_ count: Int) -> [Int] {
      func clamped(_ value: Int?, _ usual: Int) -> Int {
        guard let value else { return usual }
        let place = value < 0 ? value + count : value
        return step > 0 ? min(max(place, 0), count) : min(max(place, -1), count - 1)
      }
      let from = clamped(start, step > 0 ? 0 : count - 1)
      let to = clamped(end, step > 0 ? count : -1)
      return Array(Swift.stride(from: from, to: to, by: step))
    }
    switch base {
    case .list(let list): return .list(indices(list.count).map { list[$0] })
    case .text(let text): return .text(TemplateText(units: indices(text.units.count).map { text.units[$0] }))
    default: throw failure("a list or a string", base)
    }
  }

  private mutating func binary(
    _ mark: String, _ first: TemplateValue, _ second: TemplateValue
  ) throws(TemplateError) -> TemplateValue {
    switch (mark, first, second) {
    case ("~", _, _):
      let (left, right) = (first.text, second.text)
      try reserve(left.units.count + right.units.count)
      return .text(left + right)
    case ("+", .text(let left), .text(let right)):
      try reserve(left.units.count + right.units.count)
      return .text(left + right)
    case ("+", .list(let left), .list(let right)):
      try reserve(left.count + right.count)
      return .list(left + right)
    case ("*", .text(let text), _) where second.integer != nil:
      try reserve(text.units.count, times: second.integer ?? 0)
      var units: [UInt32] = []
      for _ in 0..<max(0, second.integer ?? 0) where !text.units.isEmpty { units += text.units }
      return .text(TemplateText(units: units))
    case ("%", .text, _): throw .unsupported(line: line, what: "formatting with %")
    default: break
    }
    guard first.number != nil else { throw failure("a number before \(excerpt(mark))", first) }
    guard second.number != nil else { throw failure("a value like the first after \(excerpt(mark))", second) }
    if let left = first.integer, let right = second.integer, mark != "/" {
      return .int(try integer(mark, left, right))
    }
    let (left, right) = (first.number ?? 0, second.number ?? 0)
    switch mark {
    case "+": return .double(left + right)
    case "-": return .double(left - right)
    case "*": return .double(left * right)
    case "**": return .double(pow(left, right))
    default:
      guard right != 0 else { throw .value(line: line, expected: "a divisor other than 0", found: "0") }
      switch mark {
      case "//": return .double((left / right).rounded(.down))
      case "%": return .double(left - (left / right).rounded(.down) * right)
      default: return .double(left / right)
      }
    }
  }

  private func integer(_ mark: String, _ left: Int, _ right: Int) throws(TemplateError) -> Int {
    let result: (partialValue: Int, overflow: Bool)
    switch mark {
    case "+": result = left.addingReportingOverflow(right)
    case "-": result = left.subtractingReportingOverflow(right)
    case "*": result = left.multipliedReportingOverflow(by: right)
    case "**":
      let power = pow(Double(left), Double(right))
      guard right >= 0, abs(power) < 0x1p53 else { throw .limit("powers below 2^53") }
      result = (Int(power), false)
    default:
      guard right != 0 else { throw .value(line: line, expected: "a divisor other than 0", found: "0") }
      guard !(left == .min && right == -1) else { throw .limit("numbers of 64 bits") }
      let (quotient, remainder) = left.quotientAndRemainder(dividingBy: right)
      // Python rounds down.
      let isBelow = remainder != 0 && (remainder < 0) != (right < 0)
      result = (mark == "//" ? quotient - (isBelow ? 1 : 0) : remainder + (isBelow ? right : 0), false)
    }
    guard !result.overflow else { throw .limit("numbers of 64 bits") }
    return result.partialValue
  }

  mutating func compare(
    _ first: TemplateValue, _ mark: String, _ second: TemplateValue
  ) throws(TemplateError) -> Bool {
    switch mark {
    case "==": return first.isEqual(to: second)
    case "!=": return !first.isEqual(to: second)
    case "in", "not in":
      try spend(second.size)
      let isIn: Bool
      switch (second, first) {
      case (.text(let text), .text(let part)): isIn = text.firstIndex(of: part) != nil
      case (.list(let list), _): isIn = list.contains { $0.isEqual(to: first) }
      case (.map(let map), _): isIn = map[first.text] != nil
      case (.undefined, _): isIn = false
      default: throw failure("a list, a mapping or a string with strings", second)
      }
      return isIn == (mark == "in")
    default:
      let order: (isBelow: Bool, isEqual: Bool)
      if let left = first.number, let right = second.number {
        order = (left < right, left == right)
      } else if case .text(let left) = first, case .text(let right) = second {
        order = (left < right, left == right)
      } else {
        throw failure("two numbers or two strings to compare", first.number == nil ? first : second)
      }
      switch mark {
      case "<": return order.isBelow
      case "<=": return order.isBelow || order.isEqual
      case ">": return !order.isBelow && !order.isEqual
      default: return !order.isBelow
      }
    }
  }
}
