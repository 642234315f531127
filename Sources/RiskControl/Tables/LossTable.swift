/// Losses of calibration samples at each exit threshold, from the safest threshold to the least safe.
///
/// Row k holds the loss of every sample when decoding with `thresholds[k]`. A loss is measured against the full model's
/// run, and lies in [−B, B]. It is negative where leaving early did better (Jazbec et al. 2024). Thresholds run
/// strictly in one direction: down for a confidence that must be reached, up for a distance that is tolerated.
public struct LossTable: Sendable, Equatable {
  /// What each threshold costs (layers, FLOPs, milliseconds: any one unit), smaller being better.
  public enum Costs: Sendable, Equatable {
    /// One mean cost a threshold, (K).
    case byThreshold([Double])
    /// The cost of each sample at each threshold, row-major (K, N).
    case bySample([Double])
  }

  /// How the first row is to be understood.
  public enum FirstRow: Sendable, Equatable {
    /// If all its losses are 0 it is the full model; otherwise it is a threshold like any other.
    case fullModelWhereZero
    /// It is a threshold like any other, even if all its losses happen to be 0.
    case ordinary
  }

  /// The thresholds, safest first, strictly ascending or strictly descending, K ≥ 1.
  public let thresholds: [Double]

  /// B: no loss lies outside [−B, B].
  public let lossBound: Double

  /// Whether the first row is the full model itself, whose loss is 0 by construction for every sample there can be.
  public let startsAtFullModel: Bool

  package let losses: ThresholdMatrix
  package let costs: CostTable?

  package enum CostTable: Sendable, Equatable {
    case means([Double])
    case samples(ThresholdMatrix)
  }

  /// n, the number of samples.
  public var sampleCount: Int { losses.columnCount }

  /// A table from K rows of N losses.
  ///
  /// - Parameters:
  ///   - thresholds: (K), safest first, finite, strictly monotone.
  ///   - losses: row-major (K, N), each in [−lossBound, lossBound].
  ///   - lossBound: B, finite and above 0.
  ///   - costs: finite; (K) or (K, N).
  ///   - firstRow: whether a first row of zeros is the full model.
  /// - Throws: ``RiskControlError`` naming row, column and value. O(K N).
  public init(
    thresholds: [Double], losses: [Double], lossBound: Double = 1, costs: Costs? = nil,
    firstRow: FirstRow = .fullModelWhereZero
  ) throws(RiskControlError) {
    try self.init(
      thresholds: thresholds, losses: losses, lossBound: lossBound, costs: costs, firstRow: firstRow,
      cells: CellNames())
  }

  package init(
    thresholds: [Double], losses: [Double], lossBound: Double, costs: Costs?, firstRow: FirstRow,
    cells: CellNames
  ) throws(RiskControlError) {
    try Self.check(lossBound: lossBound)
    try Self.check(thresholds: thresholds, cells: cells)
    let (count, remainder) = losses.count.quotientAndRemainder(dividingBy: thresholds.count)
    guard remainder == 0 else {
      throw .table(
        "\(losses.count) losses do not divide into \(thresholds.count) rows, one for each threshold")
    }
    guard count > 0 else { throw .table("the table has no samples; expected at least one column of losses") }
    try Self.check(sampleCount: count)
    try Self.check(
      losses: losses, columns: count, thresholds: thresholds, bound: lossBound, cells: cells)
    self.thresholds = thresholds
    self.lossBound = lossBound
    self.losses = ThresholdMatrix(rowCount: thresholds.count, columnCount: count, dense: losses)
    self.costs = try Self.checked(costs, rows: thresholds.count, columns: count)
    startsAtFullModel = firstRow == .fullModelWhereZero && losses[0..<count].allSatisfy { $0 == 0 }
  }

  package init(
    thresholds: [Double], lossBound: Double, losses: ThresholdMatrix, costs: CostTable?, firstRow: FirstRow
  ) {
    self.thresholds = thresholds
    self.lossBound = lossBound
    self.losses = losses
    self.costs = costs
    startsAtFullModel = firstRow == .fullModelWhereZero && losses.row(0).allSatisfy { $0 == 0 }
  }

  /// The losses of every sample at one threshold, in the table's order.
  ///
  /// - Returns: (N), or nil where `index` is not a row. O(N) for a dense table.
  public func losses(atRow index: Int) -> [Double]? {
    thresholds.indices.contains(index) ? losses.row(index) : nil
  }

  /// The mean loss at each threshold, (K). O(stored losses).
  public func meanLosses() -> [Double] { losses.rowMeans() }

  /// The mean cost at each threshold, (K); nil where the table has no costs.
  public func meanCosts() -> [Double]? {
    switch costs {
    case nil: nil
    case .means(let means): means
    case .samples(let matrix): matrix.rowMeans()
    }
  }
}

/// How the rows and columns of a table are called in messages: by their place in the file they came from.
package struct CellNames: Sendable, Equatable {
  /// Number of the first row of losses, and of the first column of losses.
  package var firstRow = 1
  package var firstColumn = 1

  package init(firstRow: Int = 1, firstColumn: Int = 1) {
    self.firstRow = firstRow
    self.firstColumn = firstColumn
  }

  package func cell(_ row: Int, _ column: Int) -> String {
    "row \(row + firstRow), column \(column + firstColumn)"
  }
}
