/// What a template computes with.
public indirect enum TemplateValue: Sendable {
  /// A name that has no value, with the name.
  case undefined(String)
  /// Jinja's `none`.
  case none
  /// True or false.
  case bool(Bool)
  /// A whole number.
  case int(Int)
  /// A number with a fraction.
  case double(Double)
  /// A text that knows where its characters come from.
  case text(TemplateText)
  /// A list.
  case list([TemplateValue])
  /// A dictionary that keeps its order.
  case map(TemplateMap)
  /// A function or a `namespace`: what is shared by reference.
  case object(TemplateObject)

  /// A text of the conversation.
  public static func content(_ text: String) -> TemplateValue { .text(TemplateText(text, isContent: true)) }
  /// A text that the template may write marks with, such as the name of a token.
  public static func trusted(_ text: String) -> TemplateValue { .text(TemplateText(text)) }
}

/// Keys and values in their order.
public struct TemplateMap: Sendable {
  var keys: [TemplateText] = []
  var values: [TemplateText: TemplateValue] = [:]

  /// Makes a dictionary; of equal keys the last one counts.
  public init(_ pairs: [(String, TemplateValue)] = []) {
    for (key, value) in pairs { self[TemplateText(key)] = value }
  }

  subscript(key: TemplateText) -> TemplateValue? {
    get { values[key] }
    set {
      guard let newValue else { return }
      if values.updateValue(newValue, forKey: key) == nil { keys.append(key) }
    }
  }

  var items: [(key: TemplateText, value: TemplateValue)] {
    keys.compactMap { key in values[key].map { (key, $0) } }
  }
}

/// What has an identity: namespaces, loops, macros and functions.
///
/// `@unchecked Sendable`: a namespace is changed by the one run that made it, which stays on one thread.
public final class TemplateObject: @unchecked Sendable {
  enum Kind {
    case namespace
    case loop
    case macro(Macro, Scope)
    case function(String)
    case method(String, TemplateValue)
  }

  let kind: Kind
  var fields = TemplateMap()

  init(_ kind: Kind) { self.kind = kind }
}

extension TemplateValue {
  var isTruthy: Bool {
    switch self {
    case .undefined, .none: false
    case .bool(let value): value
    case .int(let value): value != 0
    case .double(let value): value != 0
    case .text(let value): !value.units.isEmpty
    case .list(let value): !value.isEmpty
    case .map(let value): !value.keys.isEmpty
    case .object: true
    }
  }

  /// What kind of value it is, for messages.
  var kindName: String {
    switch self {
    case .undefined(let name): "\(excerpt(name)), which is not defined"
    case .none: "none"
    case .bool: "a boolean"
    case .int: "an integer"
    case .double: "a number"
    case .text: "a string"
    case .list: "a list"
    case .map: "a mapping"
    case .object: "a function or namespace"
    }
  }

  /// As `str` writes it in Python.
  var text: TemplateText {
    switch self {
    case .undefined: ""
    case .none: "None"
    case .bool(let value): value ? "True" : "False"
    case .int(let value): TemplateText(String(value))
    case .double(let value): TemplateText(Self.describe(value))
    case .text(let value): value
    case .list, .map, .object: representation
    }
  }

  /// As Python writes a float.
  static func describe(_ value: Double) -> String {
    if value.isNaN { return "nan" }
    if value.isInfinite { return value < 0 ? "-inf" : "inf" }
    return "\(value)"
  }

  /// As `repr` writes it in Python.
  private var representation: TemplateText {
    switch self {
    case .text(let value):
      let quote: TemplateText =
        value.firstIndex(of: "'") != nil && value.firstIndex(of: "\"") == nil ? "\"" : "'"
      let quoted = value.mapScalars { scalar in
        switch scalar {
        case "\\": "\\\\"
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        case "'": quote == "'" ? "\\'" : "'"
        default: String(scalar)
        }
      }
      return quote + quoted + quote
    case .list(let values):
      return "[" + Self.joined(values.map(\.representation)) + "]"
    case .map(let map):
      return "{"
        + Self.joined(
          map.items.map { TemplateValue.text($0.key).representation + ": " + $0.value.representation })
        + "}"
    case .object: return "<object>"
    default: return text
    }
  }

  static func joined(_ parts: [TemplateText], _ separator: TemplateText = ", ") -> TemplateText {
    var result: [UInt32] = []
    for (index, part) in parts.enumerated() {
      if index > 0 { result += separator.units }
      result += part.units
    }
    return TemplateText(units: result)
  }

  /// Numbers as one kind; Python counts booleans among them.
  var number: Double? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .int(let value): Double(value)
    case .double(let value): value
    default: nil
    }
  }

  var integer: Int? {
    switch self {
    case .bool(let value): value ? 1 : 0
    case .int(let value): value
    default: nil
    }
  }

  func isEqual(to other: TemplateValue) -> Bool {
    switch (self, other) {
    case (.undefined, .undefined), (.none, .none): return true
    case (.text(let first), .text(let second)): return first == second
    case (.list(let first), .list(let second)):
      return first.count == second.count && zip(first, second).allSatisfy { $0.isEqual(to: $1) }
    case (.map(let first), .map(let second)):
      return first.keys.count == second.keys.count
        && first.items.allSatisfy { item in second[item.key]?.isEqual(to: item.value) ?? false }
    case (.object(let first), .object(let second)): return first === second
    default:
      guard let first = number, let second = other.number else { return false }
      return first == second
    }
  }

  /// Elements, some more than one for texts of many: a cost for loops over them.
  var size: Int {
    switch self {
    case .text(let text): text.units.count
    case .list(let list): list.reduce(list.count) { $0 + ($1.isContainer ? $1.size : 1) }
    case .map(let map): map.items.reduce(map.keys.count) { $0 + $1.key.units.count + $1.value.size }
    default: 1
    }
  }

  private var isContainer: Bool {
    switch self {
    case .text, .list, .map: true
    default: false
    }
  }
}
