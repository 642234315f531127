import FileFormats

/// An array of strings that stays in the mapped file, such as a vocabulary of 50,000 tokens.
///
/// Lengths and UTF-8 were checked when the file was opened, so that access cannot fail.
public struct MappedStringArray: Sendable {
  private let file: MappedFile
  /// Where in the file the length field of each string is; its bytes follow it.
  private let offsets: [Int]

  init(file: MappedFile, offsets: [Int]) {
    self.file = file
    self.offsets = offsets
  }

  /// How many there are.
  public var count: Int { offsets.count }

  /// Calls `body` with the UTF-8 of string `index`, without copying it.
  ///
  /// - Precondition: `0 <= index < count`.
  public func withBytes<Result, Failure: Error>(
    _ index: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let start = offsets[index] + 8
    let stored = file.bytes.loadUnaligned(fromByteOffset: offsets[index], as: UInt64.self)
    let count = Int(truncatingIfNeeded: UInt64(littleEndian: stored))
    defer { withExtendedLifetime(file) {} }
    return try body(UnsafeRawBufferPointer(rebasing: file.bytes[start..<start + count]))
  }

  /// A copy of string `index`.
  ///
  /// - Precondition: `0 <= index < count`.
  public subscript(index: Int) -> String {
    withBytes(index) { String(decoding: $0, as: UTF8.self) }
  }

  /// Copies of all strings.
  ///
  /// - Complexity: linear in the bytes of all strings.
  public func makeStrings() -> [String] {
    (0..<count).map { self[$0] }
  }
}
