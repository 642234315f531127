import Foundation
import RiskControl

extension JSONValue {
  /// On one line, with the keys in order. Numbers that are not finite, which no JSON has, are null.
  var line: String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    guard let data = try? encoder.encode(finite) else { return "null" }
    return String(decoding: data, as: UTF8.self)
  }

  private var finite: JSONValue {
    switch self {
    case .number(let value): value.isFinite ? self : .null
    case .array(let values): .array(values.map(\.finite))
    case .object(let values): .object(values.mapValues(\.finite))
    default: self
    }
  }

  static func integer(_ value: Int) -> JSONValue { .number(Double(value)) }

  /// Null for nil.
  static func optional(_ value: String?) -> JSONValue { value.map { .text($0) } ?? .null }
  /// Null for nil.
  static func optional(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }

  /// Any value that can be encoded, with its keys as they are encoded.
  init(encoding value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.keyEncodingStrategy = .convertToSnakeCase
    self = try JSONDecoder().decode(JSONValue.self, from: encoder.encode(value))
  }

  /// What kind of value it is, for messages.
  var kind: String {
    switch self {
    case .null: "null"
    case .boolean: "true or false"
    case .number: "a number"
    case .text: "a text"
    case .array: "an array"
    case .object: "an object"
    }
  }
}
