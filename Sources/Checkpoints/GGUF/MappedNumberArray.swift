import FileFormats

/// An array of numbers or booleans that stays in the mapped file.
public struct MappedNumberArray: Sendable {
  /// How the file stores each element.
  public enum Element: Sendable, Equatable {
    /// Integers of 8 to 64 bits, little-endian.
    case uint8, int8, uint16, int16, uint32, int32, uint64, int64
    /// IEEE 754, little-endian.
    case float32, float64
    /// A byte that is 0 or 1.
    case bool

    var byteCount: Int {
      switch self {
      case .uint8, .int8, .bool: 1
      case .uint16, .int16: 2
      case .uint32, .int32, .float32: 4
      case .uint64, .int64, .float64: 8
      }
    }
  }

  /// How the file stores each of them.
  public let element: Element
  /// How many there are.
  public let count: Int
  private let file: MappedFile
  private let offset: Int

  /// - Precondition: `count` elements from byte `offset` on lie in the file.
  init(file: MappedFile, offset: Int, element: Element, count: Int) {
    self.file = file
    self.offset = offset
    self.element = element
    self.count = count
  }

  /// The elements as 32-bit integers; nil unless all are integers that fit.
  public func makeInt32s() -> [Int32]? {
    switch element {
    case .uint8: integers(UInt8.self)
    case .int8: integers(Int8.self)
    case .uint16: integers(UInt16.self)
    case .int16: integers(Int16.self)
    case .uint32: integers(UInt32.self)
    case .int32: integers(Int32.self)
    case .uint64: integers(UInt64.self)
    case .int64: integers(Int64.self)
    case .float32, .float64, .bool: nil
    }
  }

  /// The elements as 32-bit floats; nil unless they are stored as 32- or 64-bit floats.
  public func makeFloats() -> [Float]? {
    switch element {
    case .float32: elements(UInt32.self) { Float(bitPattern: $0) }
    case .float64: elements(UInt64.self) { Float(Double(bitPattern: $0)) }
    default: nil
    }
  }

  private func elements<Stored: FixedWidthInteger & BitwiseCopyable, Value>(
    _ type: Stored.Type, _ convert: (Stored) -> Value
  ) -> [Value] {
    defer { withExtendedLifetime(file) {} }
    return (0..<count).map { index in
      let position = offset + index * MemoryLayout<Stored>.size
      return convert(Stored(littleEndian: file.bytes.loadUnaligned(fromByteOffset: position, as: type)))
    }
  }

  private func integers<Stored: FixedWidthInteger & BitwiseCopyable>(_ type: Stored.Type) -> [Int32]? {
    var result: [Int32] = []
    result.reserveCapacity(count)
    for value in elements(type, { Int32(exactly: $0) }) {
      guard let value else { return nil }
      result.append(value)
    }
    return result
  }
}
