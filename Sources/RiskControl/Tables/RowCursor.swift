/// Walks the rows of a matrix from the safe end, showing a chosen subset of its columns in a chosen order.
///
/// The row is gathered into one reused buffer, so a walk of K rows over m columns allocates once.
package struct RowCursor: ~Copyable {
  private let matrix: ThresholdMatrix
  private let columns: [Int32]
  /// Where each column of the matrix lies in the row, or −1; used by the step storage alone.
  private var positions: [Int32] = []
  private let buffer: UnsafeMutableBufferPointer<Double>
  /// The row on show; −1 before the first ``advance()``.
  package private(set) var index = -1

  /// - Parameter columns: the columns to show, in order, each in 0..<columnCount and none twice.
  package init(_ matrix: ThresholdMatrix, columns: [Int32]) {
    self.matrix = matrix
    self.columns = columns
    buffer = .allocate(capacity: columns.count)
    buffer.initialize(repeating: 0)
    if case .steps = matrix.storage {
      positions = [Int32](repeating: -1, count: matrix.columnCount)
      for (position, column) in columns.enumerated() { positions[Int(column)] = Int32(position) }
    }
  }

  deinit { buffer.deallocate() }

  /// The values of the current row; valid until the next ``advance()``.
  package var row: UnsafeBufferPointer<Double> { UnsafeBufferPointer(buffer) }

  /// Moves to the next row; false when there is none.
  package mutating func advance() -> Bool {
    guard index + 1 < matrix.rowCount else { return false }
    index += 1
    switch matrix.storage {
    case .dense: gather(index)
    case .steps(let first, let offsets, let changed, let values):
      if index == 0 {
        for (position, column) in columns.enumerated() { buffer[position] = first[Int(column)] }
      }
      for change in offsets[index]..<offsets[index + 1] {
        let position = positions[Int(changed[change])]
        if position >= 0 { buffer[Int(position)] = values[change] }
      }
    }
    return true
  }

  /// Moves forward to row `target`, which must not lie before the current one.
  package mutating func skip(to target: Int) {
    if case .dense = matrix.storage {
      index = target
      gather(target)
    } else {
      while index < target, advance() {}
    }
  }

  private func gather(_ row: Int) {
    guard case .dense(let values) = matrix.storage else { return }
    values.withUnsafeBufferPointer { values in
      columns.withUnsafeBufferPointer { columns in
        guard let start = values.baseAddress?.advanced(by: row * matrix.columnCount) else { return }
        for position in 0..<columns.count { buffer[position] = start[Int(columns[position])] }
      }
    }
  }
}
