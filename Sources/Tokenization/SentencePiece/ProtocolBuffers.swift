/// Reads the fields of one message in Protocol Buffers' wire format, with every length checked.
struct ProtobufReader {
  enum Value {
    case integer(UInt64)
    case fixed32(UInt32)
    case fixed64(UInt64)
    case bytes(Range<Int>)
  }

  let bytes: [UInt8]
  private(set) var offset: Int
  private let end: Int

  /// A reader of the message at `range` of `bytes`.
  init(_ bytes: [UInt8], _ range: Range<Int>) {
    self.bytes = bytes
    offset = range.lowerBound
    end = range.upperBound
  }

  private func failure(_ expected: String) -> TokenizerError {
    .syntax(format: "SentencePiece model", offset: offset, expected: expected)
  }

  /// The next field's number and value; nil at the end of the message.
  mutating func next() throws(TokenizerError) -> (field: Int, value: Value)? {
    guard offset < end else { return nil }
    let key = try readInteger()
    let field = key >> 3
    guard field > 0, field < 1 << 29 else { throw failure("a field number") }
    switch key & 7 {
    case 0: return (Int(field), .integer(try readInteger()))
    case 1: return (Int(field), .fixed64(try readFixed(8)))
    case 2:
      let length = try readInteger()
      guard length <= UInt64(end - offset) else { throw failure("\(length) more bytes") }
      defer { offset += Int(length) }
      return (Int(field), .bytes(offset..<(offset + Int(length))))
    case 5: return (Int(field), .fixed32(UInt32(truncatingIfNeeded: try readFixed(4))))
    default: throw failure("a field")
    }
  }

  private mutating func readInteger() throws(TokenizerError) -> UInt64 {
    var value: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard offset < end else { throw failure("the rest of a number") }
      let byte = bytes[offset]
      offset += 1
      value |= UInt64(byte & 0x7F) << shift
      if byte < 0x80 { return value }
    }
    throw failure("a number of at most 64 bits")
  }

  private mutating func readFixed(_ count: Int) throws(TokenizerError) -> UInt64 {
    guard count <= end - offset else { throw failure("\(count) more bytes") }
    var value: UInt64 = 0
    for index in 0..<count {
      value |= UInt64(bytes[offset + index]) << UInt64(8 * index)
    }
    offset += count
    return value
  }
}

/// Writes messages in Protocol Buffers' wire format.
struct ProtobufWriter {
  private(set) var bytes: [UInt8] = []

  private mutating func write(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: rest))
  }

  mutating func write(_ field: Int, integer value: Int) {
    write(UInt64(field << 3))
    write(UInt64(bitPattern: Int64(value)))
  }

  mutating func write(_ field: Int, float value: Float) {
    write(UInt64(field << 3 | 5))
    for index in 0..<4 {
      bytes.append(UInt8(truncatingIfNeeded: value.bitPattern >> UInt32(8 * index)))
    }
  }

  mutating func write(_ field: Int, bytes value: some Collection<UInt8>) {
    write(UInt64(field << 3 | 2))
    write(UInt64(value.count))
    bytes.append(contentsOf: value)
  }
}
