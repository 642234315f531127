import TensorKernels

/// Rows of numbers kept in half precision: hidden states of many tokens, in half the memory.
///
/// Half precision is enough for states divided by their root mean square.
package struct HalfRows: Sendable {
  package let size: Int
  private var values: [UInt16] = []

  package init(size: Int) { self.size = max(size, 1) }

  package var count: Int { values.count / size }

  /// Appends whole rows, (rows, size) row-major.
  package mutating func append(_ rows: ArraySlice<Float>) {
    values.reserveCapacity(values.count + rows.count)
    for value in rows { values.append(value.halfBits) }
  }

  /// Rows in single precision, (range.count, size) row-major.
  package subscript(range: Range<Int>) -> [Float] {
    let part = values[range.lowerBound * size..<range.upperBound * size]
    return part.withUnsafeBufferPointer { part in
      [Float](unsafeUninitializedCapacity: part.count) { output, count in
        for i in part.indices { output[i] = Float(halfBits: part[i]) }
        count = part.count
      }
    }
  }
}
