import FileFormats
import Foundation
import Generation
import RiskControl

/// The fields of a request, read one by one; whatever nobody reads is refused at the end, never dropped.
///
/// A field that is null is as one that is not there.
struct RequestFields {
  private let fields: [String: JSONValue]
  /// What stands before the names of fields in messages: `messages[0].`
  private let place: String
  private var read: Set<String> = []
  /// The request as it came; empty for what is within it.
  private var body: [UInt8] = []

  /// Values and keys that a request may have: far more than any of people, few enough to be read at once.
  static let valueLimit = 1 << 16

  /// Reads the body of a request, as JSON that nobody vouches for.
  init(body: [UInt8]) throws {
    let value: JSONValue
    do {
      value = try body.withUnsafeBytes {
        try JSONStructure.decode(
          JSONValue.self, from: $0, file: "the body", field: "", valueLimit: Self.valueLimit)
      }
    } catch {
      throw APIError.invalid("\(error)", code: "invalid_json")
    }
    guard case .object(let fields) = value else {
      throw APIError.invalid("the body: expected an object, found \(value.kind)", code: "invalid_json")
    }
    self.init(fields, place: "")
    self.body = body
  }

  /// The request with its keys in order.
  func ordered() throws -> OrderedJSON {
    do {
      return try OrderedJSONReader.read(body)
    } catch {
      throw APIError.invalid("the body: \(error)", code: "invalid_json")
    }
  }

  init(_ fields: [String: JSONValue], place: String) {
    self.fields = fields
    self.place = place
  }

  /// The name of a field with its place.
  func path(_ name: String) -> String { place + name }

  /// A field's value; `nil` where it is absent or null.
  mutating func value(_ name: String) -> JSONValue? {
    read.insert(name)
    guard let value = fields[name], value != .null else { return nil }
    return value
  }

  func fault(_ name: String, expected: String, found: String) -> APIError {
    .invalid("\(path(name)): expected \(expected), found \(found)", param: path(name))
  }

  /// A field of one kind; `nil` where it is absent or null.
  private mutating func field<Value>(
    _ name: String, _ expected: String, _ take: (JSONValue) -> Value?
  ) throws -> Value? {
    guard let value = value(name) else { return nil }
    guard let found = take(value) else { throw fault(name, expected: expected, found: value.kind) }
    return found
  }

  mutating func text(_ name: String) throws -> String? {
    try field(name, "a text") { if case .text(let text) = $0 { text } else { nil } }
  }

  mutating func boolean(_ name: String) throws -> Bool? {
    try field(name, "true or false") { if case .boolean(let found) = $0 { found } else { nil } }
  }

  mutating func number(_ name: String, in range: ClosedRange<Double>) throws -> Double? {
    guard let value = value(name) else { return nil }
    guard case .number(let number) = value else { throw fault(name, expected: "a number", found: value.kind) }
    guard range.contains(number) else {
      throw fault(
        name, expected: "a number in \(Self.plain(range.lowerBound))...\(Self.plain(range.upperBound))",
        found: Self.plain(number))
    }
    return number
  }

  mutating func integer(_ name: String, in range: ClosedRange<Int>) throws -> Int? {
    guard let value = value(name) else { return nil }
    guard case .number(let number) = value else {
      throw fault(name, expected: "an integer", found: value.kind)
    }
    guard let integer = Int(exactly: number), range.contains(integer) else {
      throw fault(name, expected: "an integer in \(range)", found: Self.plain(number))
    }
    return integer
  }

  mutating func array(_ name: String) throws -> [JSONValue]? {
    try field(name, "an array") { if case .array(let values) = $0 { values } else { nil } }
  }

  mutating func object(_ name: String) throws -> RequestFields? {
    let values: [String: JSONValue]? = try field(name, "an object") {
      if case .object(let values) = $0 { values } else { nil }
    }
    return values.map { RequestFields($0, place: path(name) + ".") }
  }

  /// A field that is taken only where it asks for what happens anyway.
  mutating func allow(_ name: String, only usual: [JSONValue], because reason: String) throws {
    guard let value = value(name), !usual.contains(value) else { return }
    throw APIError.unsupported(reason, param: path(name))
  }

  /// Fields that change nothing in the output.
  mutating func ignore(_ names: String...) { read.formUnion(names) }

  /// Refuses what was not read.
  func refuseOthers() throws {
    guard let name = fields.keys.filter({ !read.contains($0) && fields[$0] != .null }).min() else { return }
    throw APIError.invalid(
      "\(path(FileError.printable(name))): there is no such field here",
      param: path(FileError.printable(name)),
      code: "unknown_parameter")
  }

  private static func plain(_ number: Double) -> String {
    Int(exactly: number).map { "\($0)" } ?? "\(number)"
  }
}
