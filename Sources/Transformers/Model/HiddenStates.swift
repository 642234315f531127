/// Hidden states of the tokens of one batch: (count, hiddenSize), row-major, 32-bit floats.
///
/// The caller owns it and may keep rows between calls: an exited token's row is what deferred completion needs.
public final class HiddenStates {
  /// Numbers of a row.
  public let hiddenSize: Int
  /// Rows that there is room for.
  public let capacity: Int
  /// Rows in use.
  public var count: Int
  var values: [Float]

  /// Makes room for rows; none is in use.
  public init(hiddenSize: Int, capacity: Int) {
    self.hiddenSize = hiddenSize
    self.capacity = capacity
    self.count = 0
    self.values = Array(repeating: 0, count: hiddenSize * capacity)
  }

  /// A copy of one row's numbers.
  public subscript(row: Int) -> [Float] {
    get { Array(values[row * hiddenSize..<(row + 1) * hiddenSize]) }
    set { values.replaceSubrange(row * hiddenSize..<(row + 1) * hiddenSize, with: newValue) }
  }

  /// Becomes rows of numbers, (hiddenSize) each, at most as many as there is room for.
  package func set(_ rows: [[Float]]) {
    count = min(rows.count, capacity)
    for row in 0..<count { self[row] = rows[row] }
  }

  /// Becomes a copy of the rows in use of `other`, which is of the same size.
  public func copy(_ other: HiddenStates) {
    count = other.count
    values.replaceSubrange(0..<count * hiddenSize, with: other.values[0..<count * hiddenSize])
  }

  /// Copies row `row` of `other` to row `destination` here.
  public func copyRow(_ row: Int, of other: HiddenStates, to destination: Int) {
    self[destination] = other[row]
  }
}
