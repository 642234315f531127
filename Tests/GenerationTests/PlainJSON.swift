import Foundation
import TestSupport

/// Any JSON, and whether it validates against a schema: written from JSON Schema's text, apart from what it tests.
enum PlainJSON: Decodable, Equatable {
  case null, boolean(Bool), number(Double), text(String), array([PlainJSON]), object([String: PlainJSON])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .boolean(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .text(value)
    } else if let value = try? container.decode([PlainJSON].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: PlainJSON].self))
    }
  }

  private subscript(_ key: String) -> PlainJSON? {
    if case .object(let fields) = self { fields[key] } else { nil }
  }
  private var asNumber: Double? { if case .number(let value) = self { value } else { nil } }
  private var asText: String? { if case .text(let value) = self { value } else { nil } }
  private var asArray: [PlainJSON]? { if case .array(let value) = self { value } else { nil } }
  private var asObject: [String: PlainJSON]? { if case .object(let value) = self { value } else { nil } }

  private func isOf(_ type: String) -> Bool {
    switch self {
    case .null: type == "null"
    case .boolean: type == "boolean"
    case .number(let value): type == "number" || type == "integer" && value == value.rounded()
    case .text: type == "string"
    case .array: type == "array"
    case .object: type == "object"
    }
  }

  /// Whether a value validates against this schema.
  func validates(_ value: PlainJSON, root: PlainJSON) throws -> Bool {
    if case .boolean(let all) = self { return all }
    if let path = self["$ref"]?.asText {
      var target = root
      for part in path.split(separator: "/").dropFirst() { target = target[String(part)] ?? .null }
      return try target.validates(value, root: root)
    }
    if let choices = self["anyOf"]?.asArray,
      try !choices.contains(where: { try $0.validates(value, root: root) })
    {
      return false
    }
    if let values = self["enum"]?.asArray, !values.contains(value) { return false }
    if let only = self["const"], only != value { return false }
    if let type = self["type"] {
      let names = type.asText.map { [$0] } ?? type.asArray?.compactMap(\.asText) ?? []
      if !names.contains(where: value.isOf) { return false }
    }
    switch value {
    case .number(let number):
      if let low = self["minimum"]?.asNumber, number < low { return false }
      if let high = self["maximum"]?.asNumber, number > high { return false }
      if let low = self["exclusiveMinimum"]?.asNumber, number <= low { return false }
      if let high = self["exclusiveMaximum"]?.asNumber, number >= high { return false }
    case .text(let text):
      let length = Double(text.unicodeScalars.count)
      if let least = self["minLength"]?.asNumber, length < least { return false }
      if let most = self["maxLength"]?.asNumber, length > most { return false }
      if let pattern = self["pattern"]?.asText {
        let regex = try Regex(pattern).matchingSemantics(.unicodeScalar)
        if try regex.firstMatch(in: text) == nil { return false }
      }
    case .array(let values):
      if let least = self["minItems"]?.asNumber, Double(values.count) < least { return false }
      if let most = self["maxItems"]?.asNumber, Double(values.count) > most { return false }
      if let items = self["items"], try !values.allSatisfy({ try items.validates($0, root: root) }) {
        return false
      }
    case .object(let fields):
      for name in self["required"]?.asArray ?? [] where fields[name.asText ?? ""] == nil { return false }
      let properties = self["properties"]?.asObject ?? [:]
      for (name, field) in fields {
        let schema = properties[name] ?? self["additionalProperties"] ?? .boolean(true)
        if try !schema.validates(field, root: root) { return false }
      }
    case .null, .boolean: break
    }
    return true
  }
}

/// Makes random schemas.
struct SchemaMaker {
  private static let patterns = [
    "^[a-c]{2,5}$", "^\\d{1,3}(-\\w+)?$", "^(yes|no|maybe)$", "^[^a-z]{1,4}$", "^.{3}$", "^[\\\"\\\\]\\s\\S$",
    "x?y*z+", "^(a|b|ab)*c$",
  ]

  /// - Parameter isRoot: Whether a recursion may begin here.
  mutating func make(depth: Int, isRoot: Bool = true, using random: inout SplitMix64) -> String {
    func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &random) }
    switch number(0...(depth > 0 ? 12 : 8)) {
    case 0: return #"{"type": "string"}"#
    case 1:
      let least = number(0...6)
      return #"{"type": "string", "minLength": \#(least), "maxLength": \#(least + number(0...6))}"#
    case 2:
      let pattern = Self.patterns[number(0...Self.patterns.count - 1)]
      let escaped = pattern.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
      return #"{"type": "string", "pattern": "\#(escaped)"}"#
    case 3:
      let low = number(-2000...2000)
      return #"{"type": "integer", "minimum": \#(low), "maximum": \#(low + number(0...3000))}"#
    case 4: return #"{"type": ["integer", "null"], "exclusiveMinimum": \#(number(-20...20))}"#
    case 5:
      let low = number(-5...5)
      let keys = [("minimum", "exclusiveMaximum"), ("exclusiveMinimum", "maximum")][number(0...1)]
      return #"{"type": "number", "\#(keys.0)": \#(low), "\#(keys.1)": \#(low + number(1...4))}"#
    case 6: return #"{"type": ["boolean", "number"]}"#
    case 7: return #"{"enum": ["red", "redder", "", 1, 10, 1.5, null, true, ["é", {}]]}"#
    case 8: return #"{"const": {"a": "\"\\", "b": [1, null]}}"#
    case 9:
      let least = number(0...3)
      let item = make(depth: depth - 1, isRoot: false, using: &random)
      return
        #"{"type": "array", "items": \#(item), "minItems": \#(least), "maxItems": \#(least + number(0...3))}"#
    case 10:
      let choices = (0...number(0...2)).map { _ in make(depth: depth - 1, isRoot: false, using: &random) }
      return #"{"anyOf": [\#(choices.joined(separator: ", "))]}"#
    case 11 where isRoot:
      let value = make(depth: 0, isRoot: false, using: &random)
      return """
        {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "required": ["value"],
        "additionalProperties": false,
        "properties": {"left": {"$ref": "#/$defs/tree"}, "value": \(value), "right": {"$ref": "#/$defs/tree"}}}}}
        """
    default:
      let names = ["name", "a", "a b", "é\\\"", "zz"].prefix(number(0...5))
      let properties = names.map { #""\#($0)": \#(make(depth: depth - 1, isRoot: false, using: &random))"# }
      let required = names.filter { _ in Bool.random(using: &random) }.map { "\"\($0)\"" }
      let others = ["", #", "additionalProperties": false"#][number(0...1)]
      let (fields, needed) = (properties.joined(separator: ", "), required.joined(separator: ", "))
      return #"{"type": "object", "properties": {\#(fields)}, "required": [\#(needed)]\#(others)}"#
    }
  }
}
