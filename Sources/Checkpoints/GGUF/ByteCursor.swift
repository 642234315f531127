import FileFormats

/// Reads little-endian numbers and strings in order from a mapped file, never past its end.
struct ByteCursor {
  let file: MappedFile
  private(set) var offset = 0

  init(_ file: MappedFile) { self.file = file }

  var remaining: Int { file.bytes.count - offset }

  /// Checks that `count` more bytes are there and steps over them.
  ///
  /// - Returns: the offset at which they begin.
  mutating func skip(_ count: Int, _ field: @autoclosure () -> String) throws(CheckpointError) -> Int {
    guard count >= 0, count <= remaining else {
      throw .damaged(
        file.path, field(), expected: "\(count) bytes at byte \(offset)",
        found: "the end of the file after \(remaining)")
    }
    defer { offset += count }
    return offset
  }

  /// Reads one little-endian integer.
  mutating func read<Value: FixedWidthInteger & BitwiseCopyable>(
    _ type: Value.Type, _ field: @autoclosure () -> String
  ) throws(CheckpointError) -> Value {
    let start = try skip(MemoryLayout<Value>.size, field())
    return Value(littleEndian: file.bytes.loadUnaligned(fromByteOffset: start, as: type))
  }

  /// Reads a 64-bit count of things that take at least `bytesEach` bytes, all of which must still be in the file.
  mutating func readCount(bytesEach: Int, _ field: @autoclosure () -> String) throws(CheckpointError) -> Int {
    let stored = try read(UInt64.self, field())
    guard let count = Int(exactly: stored), count <= remaining / bytesEach else {
      throw .damaged(
        file.path, field(), expected: "a count that fits the \(remaining) bytes left in the file",
        found: "\(stored)")
    }
    return count
  }

  /// Reads a string: a 64-bit length in bytes, then UTF-8.
  mutating func readString(
    limit: Int = .max, _ field: @autoclosure () -> String
  ) throws(CheckpointError) -> String {
    let count = try readCount(bytesEach: 1, field())
    guard count <= limit else {
      throw .damaged(file.path, field(), expected: "at most \(limit) bytes", found: "\(count)")
    }
    let start = try skip(count, field())
    guard let text = String(validating: file.bytes[start..<start + count], as: UTF8.self) else {
      throw .damaged(file.path, field(), expected: "UTF-8", found: "other bytes")
    }
    return text
  }

  /// Steps over `count` strings and checks each as ``readString(limit:_:)`` does.
  ///
  /// - Returns: the offsets of their length fields.
  mutating func skipStrings(_ count: Int, _ field: String) throws(CheckpointError) -> [Int] {
    var offsets: [Int] = []
    offsets.reserveCapacity(count)
    for index in 0..<count {
      let lengthOffset = offset
      // Vocabularies have 100,000 of them: a sound one is told apart without making a string or a message.
      if remaining >= 8 {
        let stored = file.bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        let length = UInt64(littleEndian: stored)
        if length <= UInt64(remaining - 8) {
          let text = UnsafeRawBufferPointer(rebasing: file.bytes[offset + 8..<offset + 8 + Int(length)])
          if ByteCursor.isUTF8(text) {
            offset += 8 + text.count
            offsets.append(lengthOffset)
            continue
          }
        }
      }
      // Fails, and says why.
      _ = try readString("\(field)[\(index)]")
      offsets.append(lengthOffset)
    }
    return offsets
  }

  /// Whether the bytes are well-formed UTF-8 (Unicode 16, table 3-7).
  ///
  /// Several times faster on short strings than making a validated `String` and dropping it.
  static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while index < bytes.count {
      let first = bytes[index]
      index += 1
      if first < 0x80 { continue }
      // The range of the second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF.
      let following: Int
      var second: ClosedRange<UInt8> = 0x80...0xBF
      switch first {
      case 0xC2...0xDF: following = 1
      case 0xE0: (following, second) = (2, 0xA0...0xBF)
      case 0xED: (following, second) = (2, 0x80...0x9F)
      case 0xE1...0xEF: following = 2
      case 0xF0: (following, second) = (3, 0x90...0xBF)
      case 0xF1...0xF3: following = 3
      case 0xF4: (following, second) = (3, 0x80...0x8F)
      default: return false
      }
      guard following <= bytes.count - index, second.contains(bytes[index]) else { return false }
      for continuation in index + 1..<index + following where bytes[continuation] & 0xC0 != 0x80 {
        return false
      }
      index += following
    }
    return true
  }
}
