import Foundation

/// JSON with keys in the order in which they stand, and numbers as they are written: a schema's properties are written
/// in the order in which it has them.
package indirect enum OrderedJSON: Hashable, Sendable {
  case null
  case boolean(Bool)
  case number(String)
  case text(String)
  case array([OrderedJSON])
  case object([Member])

  package struct Member: Hashable, Sendable {
    package var key: String
    package var value: OrderedJSON
  }

  /// The value of a key; `nil` for other values than objects, and where there is none.
  package subscript(_ key: String) -> OrderedJSON? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.key == key }?.value
  }

  /// The value as JSON without white space.
  var bytes: [UInt8] {
    switch self {
    case .null: Array("null".utf8)
    case .boolean(let value): Array("\(value)".utf8)
    case .number(let text): Array(text.utf8)
    case .text(let text): Self.quoted(text)
    case .array(let values): Self.joined(values.map(\.bytes), in: "[]")
    case .object(let members):
      Self.joined(members.map { Self.quoted($0.key) + [UInt8(ascii: ":")] + $0.value.bytes }, in: "{}")
    }
  }

  private static func joined(_ parts: [[UInt8]], in brackets: String) -> [UInt8] {
    let brackets = Array(brackets.utf8)
    return [brackets[0]] + Array(parts.joined(separator: [UInt8(ascii: ",")])) + [brackets[1]]
  }

  /// A text as a JSON string, with as few escapes as may be.
  static func quoted(_ text: String) -> [UInt8] {
    [UInt8(ascii: "\"")] + text.unicodeScalars.flatMap(escaped) + [UInt8(ascii: "\"")]
  }

  /// A character within a JSON string.
  static func escaped(_ scalar: Unicode.Scalar) -> [UInt8] {
    switch scalar {
    case "\"": Array("\\\"".utf8)
    case "\\": Array("\\\\".utf8)
    case "\n": Array("\\n".utf8)
    case "\r": Array("\\r".utf8)
    case "\t": Array("\\t".utf8)
    case _ where scalar.value < 0x20:
      Array("\\u00".utf8) + Array((scalar.value < 16 ? "0" : "").utf8)
        + Array(String(scalar.value, radix: 16).utf8)
    default: Array(String(Character(scalar)).utf8)
    }
  }
}

/// Reads JSON and keeps its order.
package struct OrderedJSONReader {
  /// Arrays and objects within each other, at most.
  private static let depthLimit = 64

  private let bytes: [UInt8]
  private var index = 0
  private var depth = 0

  /// - Throws: ``GenerationError/schema(place:problem:)`` for what is not JSON, for keys that come twice, and for more
  ///   levels than anybody writes.
  package static func read(_ bytes: [UInt8]) throws(GenerationError) -> OrderedJSON {
    var reader = OrderedJSONReader(bytes)
    let value = try reader.value()
    reader.skipSpace()
    guard reader.index == bytes.count else { throw reader.fault() }
    return value
  }

  private init(_ bytes: [UInt8]) { self.bytes = bytes }

  private func fault() -> GenerationError {
    .schema(place: "", problem: "it is not JSON at byte \(index)")
  }

  private mutating func skipSpace() {
    while index < bytes.count, [0x20, 0x0A, 0x0D, 0x09].contains(bytes[index]) { index += 1 }
  }

  /// Whether a byte comes next, which is then passed.
  private mutating func take(_ byte: Unicode.Scalar) -> Bool {
    skipSpace()
    guard index < bytes.count, bytes[index] == UInt8(ascii: byte) else { return false }
    index += 1
    return true
  }

  private mutating func value() throws(GenerationError) -> OrderedJSON {
    skipSpace()
    guard index < bytes.count else { throw fault() }
    switch bytes[index] {
    case UInt8(ascii: "{"):
      return .object(try nested { reader throws(GenerationError) in try reader.members() })
    case UInt8(ascii: "["):
      return .array(try nested { reader throws(GenerationError) in try reader.values() })
    case UInt8(ascii: "\""): return .text(try string())
    default: break
    }
    for (word, value) in [("null", OrderedJSON.null), ("true", .boolean(true)), ("false", .boolean(false))]
    where bytes[index...].starts(with: word.utf8) {
      index += word.utf8.count
      return value
    }
    return .number(try number())
  }

  private mutating func nested<Part>(
    _ read: (inout OrderedJSONReader) throws(GenerationError) -> Part
  ) throws(GenerationError) -> Part {
    index += 1
    depth += 1
    guard depth <= Self.depthLimit else {
      throw .schema(place: "", problem: "it is more than \(Self.depthLimit) levels deep")
    }
    defer { depth -= 1 }
    return try read(&self)
  }

  private mutating func members() throws(GenerationError) -> [OrderedJSON.Member] {
    var members: [OrderedJSON.Member] = []
    var keys: Set<String> = []
    if take("}") { return members }
    repeat {
      skipSpace()
      let key = try string()
      guard keys.insert(key).inserted else {
        throw .schema(place: "", problem: "it has the key \"\(key.prefix(40))\" twice")
      }
      guard take(":") else { throw fault() }
      members.append(.init(key: key, value: try value()))
    } while take(",")
    guard take("}") else { throw fault() }
    return members
  }

  private mutating func values() throws(GenerationError) -> [OrderedJSON] {
    var values: [OrderedJSON] = []
    if take("]") { return values }
    repeat { values.append(try value()) } while take(",")
    guard take("]") else { throw fault() }
    return values
  }

  private mutating func string() throws(GenerationError) -> String {
    guard index < bytes.count, bytes[index] == UInt8(ascii: "\"") else { throw fault() }
    var end = index + 1
    while end < bytes.count, bytes[end] != UInt8(ascii: "\"") {
      guard bytes[end] >= 0x20 else { throw fault() }
      end += bytes[end] == UInt8(ascii: "\\") ? 2 : 1
    }
    guard end < bytes.count, let text = try? JSONDecoder().decode(String.self, from: Data(bytes[index...end]))
    else { throw fault() }
    index = end + 1
    return text
  }

  private mutating func number() throws(GenerationError) -> String {
    let start = index
    func isDigit(_ place: Int) -> Bool {
      place < bytes.count && (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[place])
    }
    func byte(_ place: Int) -> UInt8 { place < bytes.count ? bytes[place] : 0 }
    if byte(index) == UInt8(ascii: "-") { index += 1 }
    guard isDigit(index) else { throw fault() }
    if byte(index) == UInt8(ascii: "0") { index += 1 } else { while isDigit(index) { index += 1 } }
    if byte(index) == UInt8(ascii: ".") {
      index += 1
      guard isDigit(index) else { throw fault() }
      while isDigit(index) { index += 1 }
    }
    if byte(index) | 0x20 == UInt8(ascii: "e") {
      index += 1
      if byte(index) == UInt8(ascii: "+") || byte(index) == UInt8(ascii: "-") { index += 1 }
      guard isDigit(index) else { throw fault() }
      while isDigit(index) { index += 1 }
    }
    let text = String(decoding: bytes[start..<index], as: UTF8.self)
    guard index - start <= 40, Double(text)?.isFinite == true else { throw fault() }
    return text
  }
}
