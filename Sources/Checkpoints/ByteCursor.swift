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

  /// Steps over a string and checks it as ``readString(limit:_:)`` does.
  ///
  /// - Returns: the offset of its length field.
  mutating func skipString(_ field: @autoclosure () -> String) throws(CheckpointError) -> Int {
    let lengthOffset = offset
    _ = try readString(field())
    return lengthOffset
  }
}
