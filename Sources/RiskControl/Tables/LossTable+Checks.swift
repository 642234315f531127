extension LossTable {
  /// Refuses losses other than 0, B and, counted as 0, negative ones.
  func checkBinary() throws(RiskControlError) {
    let values: [Double] =
      switch losses.storage {
      case .dense(let values): values
      case .steps(let first, _, _, let values): first + values
      }
    if let bad = values.first(where: { $0 > 0 && $0 < lossBound }) {
      throw RiskBound.notBinary(bad, bound: lossBound)
    }
  }

  package static func check(lossBound: Double) throws(RiskControlError) {
    guard lossBound.isFinite, lossBound > 0 else {
      throw .setting("the loss bound B must be a finite number above 0, found \(lossBound)")
    }
  }

  /// Sample indices are kept in 32 bits.
  package static func check(sampleCount: Int) throws(RiskControlError) {
    guard sampleCount <= Int(Int32.max) else {
      throw .table("\(sampleCount) samples; at most \(Int32.max) can be calibrated at once")
    }
  }

  static func check(thresholds: [Double], cells: CellNames) throws(RiskControlError) {
    guard let first = thresholds.first else {
      throw .table("the table is empty; expected at least one threshold with its losses")
    }
    for (row, threshold) in thresholds.enumerated() where !threshold.isFinite {
      throw .table("row \(row + cells.firstRow): threshold is \(threshold), expected a finite number")
    }
    guard thresholds.count > 1 else { return }
    let descending = thresholds[1] < first
    for row in 1..<thresholds.count {
      let (previous, current) = (thresholds[row - 1], thresholds[row])
      guard previous != current else {
        throw .table(
          "row \(row + cells.firstRow): threshold \(plain(current)) is repeated; expected each threshold once"
        )
      }
      guard (current < previous) == descending else {
        throw .table(
          "row \(row + cells.firstRow): threshold \(plain(current)) after \(plain(previous)) breaks the "
            + "\(descending ? "descending" : "ascending") order; expected thresholds sorted from the safest on"
        )
      }
    }
  }

  static func check(
    losses: [Double], columns: Int, thresholds: [Double], bound: Double, cells: CellNames
  ) throws(RiskControlError) {
    // The comparison is false for NaN too, so one test finds every bad value.
    let bad = losses.withUnsafeBufferPointer { losses in losses.firstIndex { !($0.magnitude <= bound) } }
    guard let bad else { return }
    let (row, column) = bad.quotientAndRemainder(dividingBy: columns)
    throw .table(
      "\(cells.cell(row, column)) (threshold \(plain(thresholds[row]))): "
        + complaint(about: losses[bad], bound: bound))
  }

  static func complaint(about loss: Double, bound: Double) -> String {
    if loss.isNaN { return "loss is NaN, expected a number in [\(plain(-bound)), \(plain(bound))]" }
    if loss.isInfinite {
      return
        "loss is \(loss > 0 ? "+" : "-")infinity, expected a number in [\(plain(-bound)), \(plain(bound))]"
    }
    return
      "loss \(plain(loss)) is \(loss > 0 ? "above B = \(plain(bound))" : "below -B = \(plain(-bound))"); "
      + "expected a number in [\(plain(-bound)), \(plain(bound))]"
  }

  static func checked(_ costs: Costs?, rows: Int, columns: Int) throws(RiskControlError) -> CostTable? {
    let values: [Double]
    switch costs {
    case nil: return nil
    case .byThreshold(let means):
      guard means.count == rows else {
        throw .table("\(means.count) costs for \(rows) thresholds; expected one cost a threshold")
      }
      values = means
    case .bySample(let samples):
      guard samples.count == rows * columns else {
        throw .table(
          "\(samples.count) costs for \(rows) thresholds and \(columns) samples; expected \(rows * columns)")
      }
      values = samples
    }
    if let bad = values.firstIndex(where: { !$0.isFinite }) {
      let place =
        values.count == rows
        ? "cost \(bad + 1)" : "cost in row \(bad / columns + 1), column \(bad % columns + 1)"
      throw .table("\(place) is \(values[bad]), expected a finite number")
    }
    if case .bySample = costs {
      return .samples(ThresholdMatrix(rowCount: rows, columnCount: columns, dense: values))
    }
    return .means(values)
  }
}
