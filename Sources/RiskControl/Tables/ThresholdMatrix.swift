/// One number for each threshold (row) and sample (column), stored densely or as the steps of each column.
///
/// An early-exit sweep over every distinct threshold has as many rows as samples × exits. But each row differs from the
/// one before it in a few columns, and only these changes are kept.
package struct ThresholdMatrix: Sendable, Equatable {
  package enum Storage: Sendable, Equatable {
    /// Row-major (rowCount, columnCount).
    case dense([Double])
    /// `first` (columnCount) is row 0; the changes of row r are those in offsets[r]..<offsets[r + 1].
    case steps(first: [Double], offsets: [Int], columns: [Int32], values: [Double])
  }

  package let rowCount: Int
  package let columnCount: Int
  package let storage: Storage

  /// - Parameter values: Row-major, (rowCount, columnCount): ``LossTable`` checks that they are so many.
  package init(rowCount: Int, columnCount: Int, dense values: [Double]) {
    self.rowCount = rowCount
    self.columnCount = columnCount
    storage = .dense(values)
  }

  package init(
    rowCount: Int, first: [Double], offsets: [Int], columns: [Int32], values: [Double]
  ) {
    self.rowCount = rowCount
    columnCount = first.count
    storage = .steps(first: first, offsets: offsets, columns: columns, values: values)
  }

  /// The mean of each row over all columns. O(stored values); summed in column order where dense.
  package func rowMeans() -> [Double] {
    let scale = 1 / Double(columnCount)
    return rowSums().map { $0 * scale }
  }

  package func rowSums() -> [Double] {
    switch storage {
    case .dense(let values):
      return values.withUnsafeBufferPointer { values in
        (0..<rowCount).map { row in
          CompensatedSum.of(
            UnsafeBufferPointer(rebasing: values[row * columnCount..<(row + 1) * columnCount]))
        }
      }
    case .steps(let first, let offsets, let columns, let values):
      var current = first
      var sum = CompensatedSum()
      for value in first { sum.add(value) }
      var sums: [Double] = []
      sums.reserveCapacity(rowCount)
      for row in 0..<rowCount {
        for change in offsets[row]..<offsets[row + 1] {
          let column = Int(columns[change])
          sum.add(values[change])
          sum.add(-current[column])
          current[column] = values[change]
        }
        sums.append(sum.value)
      }
      return sums
    }
  }

  /// One whole row. O(columnCount), plus the changes before it where stored as steps.
  package func row(_ index: Int) -> [Double] {
    var cursor = RowCursor(self, columns: (0..<columnCount).map(Int32.init))
    cursor.skip(to: index)
    return Array(cursor.row)
  }
}

/// Neumaier's compensated sum: the rounding error of n additions stays near one unit in the last place.
package struct CompensatedSum {
  private var sum = 0.0
  private var lost = 0.0

  package init() {}

  package mutating func add(_ value: Double) {
    let next = sum + value
    lost += abs(sum) >= abs(value) ? (sum - next) + value : (value - next) + sum
    sum = next
  }

  package var value: Double { sum + lost }

  package static func of(_ values: UnsafeBufferPointer<Double>) -> Double {
    // Four independent chains, so the additions overlap; each chain is compensated.
    var sum = SIMD4<Double>.zero
    var lost = SIMD4<Double>.zero
    var index = 0
    while index + 4 <= values.count {
      let value = SIMD4(values[index], values[index + 1], values[index + 2], values[index + 3])
      let next = sum + value
      // Knuth's two-sum needs no comparison of magnitudes.
      let shadow = next - sum
      lost += (sum - (next - shadow)) + (value - shadow)
      sum = next
      index += 4
    }
    var total = CompensatedSum()
    for lane in 0..<4 {
      total.add(sum[lane])
      total.add(lost[lane])
    }
    while index < values.count {
      total.add(values[index])
      index += 1
    }
    return total.value
  }
}
