import RiskControl

/// An array of numbers from a file, converted to 64-bit floats.
package struct NumericArray: Sendable, Equatable {
  /// The extent of each dimension, slowest first; empty for a single number.
  package var shape: [Int]
  /// Row-major, as many as the product of `shape`.
  package var values: [Double]

  package init(shape: [Int], values: [Double]) {
    self.shape = shape
    self.values = values
  }

  /// "100 × 2000", for messages.
  package var shapeText: String { Self.text(of: shape) }

  package static func text(of shape: [Int]) -> String {
    shape.isEmpty ? "a single number" : shape.map(String.init).joined(separator: " × ")
  }

  /// The number of elements of a shape, or nil where it is negative or overflows.
  package static func count(of shape: [Int]) -> Int? {
    var count = 1
    for extent in shape {
      guard extent >= 0 else { return nil }
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      guard !overflow else { return nil }
      count = product
    }
    return count
  }
}

/// How numbers are stored, little-endian.
package enum ElementType: Sendable {
  case float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, boolean

  package var size: Int {
    switch self {
    case .float64, .int64: 8
    case .float32, .int32: 4
    case .float16, .bfloat16, .int16: 2
    case .int8, .uint8, .boolean: 1
    }
  }

  /// Appends the numbers of whole elements to `values`.
  package func append(_ bytes: UnsafeRawBufferPointer, to values: inout [Double]) {
    func each<Raw: FixedWidthInteger>(_: Raw.Type, _ convert: (Raw) -> Double) {
      for offset in stride(from: 0, to: bytes.count, by: size) {
        values.append(convert(Raw(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Raw.self))))
      }
    }
    #if _endian(little)
      if self == .float64 {
        let start = values.count
        values.append(contentsOf: repeatElement(0, count: bytes.count / 8))
        values.withUnsafeMutableBytes {
          UnsafeMutableRawBufferPointer(rebasing: $0[(start * 8)...]).copyMemory(from: bytes)
        }
        return
      }
    #endif
    switch self {
    case .float64: each(UInt64.self) { Double(bitPattern: $0) }
    case .float32: each(UInt32.self) { Double(Float(bitPattern: $0)) }
    case .float16: each(UInt16.self, Self.half)
    case .bfloat16: each(UInt16.self) { Double(Float(bitPattern: UInt32($0) << 16)) }
    case .int64: each(Int64.self) { Double($0) }
    case .int32: each(Int32.self) { Double($0) }
    case .int16: each(Int16.self) { Double($0) }
    case .int8: each(Int8.self) { Double($0) }
    case .uint8, .boolean: each(UInt8.self) { Double($0) }
    }
  }

  /// IEEE 754 binary16, written out because not every platform has the type.
  private static func half(_ bits: UInt16) -> Double {
    let sign = bits >> 15 == 0 ? 1.0 : -1.0
    let exponent = Int(bits >> 10 & 31)
    let fraction = Double(bits & 1023)
    switch exponent {
    case 0: return sign * fraction * 0x1p-24
    case 31: return fraction == 0 ? sign * .infinity : .nan
    default: return sign * Double(sign: .plus, exponent: exponent - 15, significand: 1 + fraction / 1024)
    }
  }
}
