/// Reads JSON (RFC 8259) from memory, value by value, without building a tree.
///
/// A tokenizer.json has up to a million strings in flat lists; they go straight into tables. Nesting is bounded, so
/// that a file of brackets cannot exhaust the stack.
struct JSONReader {
  private let bytes: [UInt8]
  private(set) var offset = 0
  private var depth = 0
  private static let maximumDepth = 64

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
    // A byte order mark is not JSON, but editors write it.
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { offset = 3 }
  }

  func failure(_ expected: String) -> TokenizerError {
    .syntax(format: "JSON", offset: offset, expected: expected)
  }

  private mutating func skipSpace() {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0A, 0x0D: offset += 1
      default: return
      }
    }
  }

  /// The first byte of the next value, which stays unread.
  mutating func peek() throws(TokenizerError) -> UInt8 {
    skipSpace()
    guard offset < bytes.count else { throw failure("a value, not the end of the file") }
    return bytes[offset]
  }

  private mutating func expect(_ byte: UInt8, _ expected: String) throws(TokenizerError) {
    guard try peek() == byte else { throw failure(expected) }
    offset += 1
  }

  private mutating func enter() throws(TokenizerError) {
    depth += 1
    guard depth <= Self.maximumDepth else { throw failure("at most \(Self.maximumDepth) levels") }
  }

  /// Reads an object; `body` must read the value of each key.
  mutating func readObject(
    _ body: (inout JSONReader, [UInt8]) throws(TokenizerError) -> Void
  ) throws(TokenizerError) {
    try expect(UInt8(ascii: "{"), "an object")
    try enter()
    if try peek() == UInt8(ascii: "}") {
      offset += 1
    } else {
      while true {
        let key = try readString()
        try expect(UInt8(ascii: ":"), "a colon")
        try body(&self, key)
        let next = try peek()
        offset += 1
        if next == UInt8(ascii: "}") { break }
        guard next == UInt8(ascii: ",") else { throw failure("a comma or the end of the object") }
      }
    }
    depth -= 1
  }

  /// Reads an array; `body` must read each element.
  mutating func readArray(
    _ body: (inout JSONReader, Int) throws(TokenizerError) -> Void
  ) throws(TokenizerError) {
    try expect(UInt8(ascii: "["), "an array")
    try enter()
    if try peek() == UInt8(ascii: "]") {
      offset += 1
    } else {
      var index = 0
      while true {
        try body(&self, index)
        index += 1
        let next = try peek()
        offset += 1
        if next == UInt8(ascii: "]") { break }
        guard next == UInt8(ascii: ",") else { throw failure("a comma or the end of the array") }
      }
    }
    depth -= 1
  }

  /// Reads a string, as UTF-8. A lone surrogate becomes U+FFFD.
  mutating func readString() throws(TokenizerError) -> [UInt8] {
    try expect(UInt8(ascii: "\""), "a string")
    var result: [UInt8] = []
    while offset < bytes.count {
      let start = offset
      while offset < bytes.count, bytes[offset] != 0x22, bytes[offset] != 0x5C, bytes[offset] >= 0x20 {
        offset += 1
      }
      result.append(contentsOf: bytes[start..<offset])
      guard offset < bytes.count else { break }
      if bytes[offset] == 0x22 {
        offset += 1
        return result
      }
      guard bytes[offset] == 0x5C else { throw failure("an escape for a control character") }
      offset += 1
      try readEscape(into: &result)
    }
    throw failure("the end of a string")
  }

  private mutating func readEscape(into result: inout [UInt8]) throws(TokenizerError) {
    guard offset < bytes.count else { throw failure("an escape") }
    let escape = bytes[offset]
    offset += 1
    switch escape {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(escape)
    case UInt8(ascii: "b"): result.append(0x08)
    case UInt8(ascii: "f"): result.append(0x0C)
    case UInt8(ascii: "n"): result.append(0x0A)
    case UInt8(ascii: "r"): result.append(0x0D)
    case UInt8(ascii: "t"): result.append(0x09)
    case UInt8(ascii: "u"):
      var value = try readHexadecimal()
      if value & 0xFC00 == 0xD800, offset + 1 < bytes.count, bytes[offset] == 0x5C,
        bytes[offset + 1] == UInt8(ascii: "u")
      {
        let start = offset
        offset += 2
        let low = try readHexadecimal()
        if low & 0xFC00 == 0xDC00 {
          value = 0x10000 + (value & 0x3FF) << 10 + low & 0x3FF
        } else {
          offset = start
        }
      }
      result.append(contentsOf: String(Unicode.Scalar(value) ?? "\u{FFFD}").utf8)
    default:
      offset -= 1
      throw failure("an escape")
    }
  }

  private mutating func readHexadecimal() throws(TokenizerError) -> UInt32 {
    guard offset + 4 <= bytes.count else { throw failure("four hexadecimal digits") }
    var value: UInt32 = 0
    for _ in 0..<4 {
      guard let digit = Character(Unicode.Scalar(bytes[offset])).hexDigitValue else {
        throw failure("four hexadecimal digits")
      }
      value = value << 4 | UInt32(digit)
      offset += 1
    }
    return value
  }

  mutating func readBool() throws(TokenizerError) -> Bool {
    _ = try peek()
    if readWord("true") { return true }
    if readWord("false") { return false }
    throw failure("true or false")
  }

  /// Reads `null`, if it stands here.
  mutating func readNull() throws(TokenizerError) -> Bool {
    _ = try peek()
    return readWord("null")
  }

  private mutating func readWord(_ word: StaticString) -> Bool {
    let count = word.utf8CodeUnitCount
    guard bytes.count - offset >= count else { return false }
    for index in 0..<count where bytes[offset + index] != word.utf8Start[index] {
      return false
    }
    offset += count
    return true
  }

  mutating func readNumber() throws(TokenizerError) -> Double {
    _ = try peek()
    let start = offset
    while offset < bytes.count {
      switch bytes[offset] {
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."),
        UInt8(ascii: "e"), UInt8(ascii: "E"):
        offset += 1
        continue
      default: break
      }
      break
    }
    // Longer numbers than this say nothing more in a Double.
    guard offset > start, offset - start <= 64,
      let value = Double(String(decoding: bytes[start..<offset], as: UTF8.self)), value.isFinite
    else {
      offset = start
      throw failure("a number")
    }
    return value
  }

  /// Reads a whole number from 0 to 2^31 - 1.
  mutating func readIndex() throws(TokenizerError) -> Int {
    _ = try peek()
    let start = offset
    var value = 0
    while offset < bytes.count, bytes[offset] >= 0x30, bytes[offset] <= 0x39, value <= Int(Int32.max) {
      value = value * 10 + Int(bytes[offset] - 0x30)
      offset += 1
    }
    guard offset > start, value <= Int(Int32.max) else {
      offset = start
      throw failure("a whole number from 0 to \(Int32.max)")
    }
    return value
  }

  /// Reads a value of any kind and drops it.
  mutating func skip() throws(TokenizerError) {
    switch try peek() {
    case UInt8(ascii: "{"):
      try readObject { (reader, _) throws(TokenizerError) in try reader.skip() }
    case UInt8(ascii: "["):
      try readArray { (reader, _) throws(TokenizerError) in try reader.skip() }
    case UInt8(ascii: "\""): _ = try readString()
    case UInt8(ascii: "t"), UInt8(ascii: "f"): _ = try readBool()
    case UInt8(ascii: "n"):
      guard try readNull() else { throw failure("a value") }
    default: _ = try readNumber()
    }
  }

  /// Makes sure that nothing follows.
  mutating func end() throws(TokenizerError) {
    skipSpace()
    guard offset == bytes.count else { throw failure("the end of the file") }
  }
}

/// A small part of a JSON file as a tree, for settings that need a look back and forth.
indirect enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case number(Double)
  case string([UInt8])
  case array([JSONValue])
  case object([[UInt8]: JSONValue])

  subscript(key: String) -> JSONValue? {
    guard case .object(let members) = self else { return nil }
    return members[Array(key.utf8)]
  }

  var text: String? {
    guard case .string(let bytes) = self else { return nil }
    return String(decoding: bytes, as: UTF8.self)
  }

  var bool: Bool? {
    guard case .bool(let value) = self else { return nil }
    return value
  }

  var array: [JSONValue]? {
    guard case .array(let elements) = self else { return nil }
    return elements
  }
}

extension JSONReader {
  mutating func readValue() throws(TokenizerError) -> JSONValue {
    switch try peek() {
    case UInt8(ascii: "{"):
      var members: [[UInt8]: JSONValue] = [:]
      try readObject { (reader, key) throws(TokenizerError) in members[key] = try reader.readValue() }
      return .object(members)
    case UInt8(ascii: "["):
      var elements: [JSONValue] = []
      try readArray { (reader, _) throws(TokenizerError) in elements.append(try reader.readValue()) }
      return .array(elements)
    case UInt8(ascii: "\""): return .string(try readString())
    case UInt8(ascii: "t"), UInt8(ascii: "f"): return .bool(try readBool())
    case UInt8(ascii: "n"):
      guard try readNull() else { throw failure("a value") }
      return .null
    default: return .number(try readNumber())
    }
  }
}
