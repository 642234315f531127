/// A list of byte strings in one block of memory.
///
/// Vocabularies have 50,000 to 250,000 short strings: one object each would cost more time than all the rest of
/// making a tokenizer. A reader of model files appends the bytes as they stand in the file.
public struct StringTable: Sendable, Equatable {
  /// All strings, one after the other.
  @usableFromInline internal var storage: [UInt8] = []
  /// Where string i starts in `storage`; string i ends where string i + 1 starts. (count + 1)
  @usableFromInline internal var starts: [Int] = [0]

  /// An empty table.
  ///
  /// - Parameters:
  ///   - count: The number of strings to make room for.
  ///   - byteCount: The number of bytes of all strings together to make room for.
  public init(reservingCount count: Int = 0, byteCount: Int = 0) {
    // A count from a file may be any number: what is reserved in advance is bounded.
    starts.reserveCapacity(max(0, min(count, 1 << 20)) + 1)
    storage.reserveCapacity(max(0, min(byteCount, 1 << 24)))
  }

  /// A table of these strings' UTF-8.
  public init(_ strings: some Sequence<String>) {
    self.init()
    for string in strings {
      append(string.utf8)
    }
  }

  /// The number of strings.
  public var count: Int { starts.count - 1 }

  /// The number of bytes of all strings together.
  public var byteCount: Int { storage.count }

  /// Adds a string at the end.
  @inlinable
  public mutating func append(_ bytes: some Sequence<UInt8>) {
    storage.append(contentsOf: bytes)
    starts.append(storage.count)
  }

  /// Adds a string at the end, from memory such as a mapped file.
  @inlinable
  public mutating func append(_ bytes: UnsafeRawBufferPointer) {
    storage.append(contentsOf: bytes)
    starts.append(storage.count)
  }

  /// The bytes of string `index`, which must be in 0..<count.
  public subscript(index: Int) -> ArraySlice<UInt8> {
    storage[starts[index]..<starts[index + 1]]
  }

  /// The number of bytes of string `index`.
  func length(_ index: Int) -> Int {
    starts[index + 1] - starts[index]
  }

  /// A string without a copy or a reference count; valid within `body`.
  @inline(__always)
  func withBytes<Result>(_ index: Int, _ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result {
    storage.withUnsafeBufferPointer {
      body(UnsafeBufferPointer(rebasing: $0[starts[index]..<starts[index + 1]]))
    }
  }
}
