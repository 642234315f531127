/// Walks a table from the safe end and finds, for each ε, the last threshold that a rule lets through.
struct ThresholdWalk {
  let settings: CalibrationSettings
  /// The samples to calibrate on, in betting order.
  let order: [Int32]
  let weights: SampleWeights?

  /// The row chosen for each ε of the grid; nil where not even the first row passes. A first row that is the full model
  /// passes without a test.
  ///
  /// Several risks share one ε each and one choice.
  func select(_ risks: [Calibration.Risk]) -> [Int?] {
    if settings.rule.controlsWithHighProbability {
      return risks.count == 1 ? fixedSequence(risks[0]) : [fixedSequence(risks)]
    }
    let choices = risks.map { meanRule($0) }
    if risks.count == 1 { return choices[0] }
    let firsts = choices.map { $0[0] }
    return [firsts.contains(nil) ? nil : firsts.compactMap { $0 }.min()]
  }

  private func makeTest(_ table: LossTable) -> RowTest {
    RowTest(
      measure: settings.measure, bound: settings.bound, sampleCount: order.count, delta: settings.delta,
      range: table.lossBound, isAveraged: settings.order == .averaged,
      weights: weights.map { weights in
        (order.map { weights.values[Int($0)] }, weights.bound)
      })
  }

  /// UCB and LTT for a grid of ε: a row that passes at the smallest ε still walking passes at all larger ones, so a row
  /// costs one evaluation, and one more for each ε that ends there.
  private func fixedSequence(_ risk: Calibration.Risk) -> [Int?] {
    let ranked = risk.epsilons.indices.sorted { risk.epsilons[$0] < risk.epsilons[$1] }
    var last = [Int?](repeating: nil, count: ranked.count)
    var walking = 0
    let test = makeTest(risk.table)
    let strictly = settings.rule == .ucb
    var cursor = RowCursor(risk.table.losses, columns: order)
    while walking < ranked.count, cursor.advance() {
      if cursor.index > 0 || !risk.table.startsAtFullModel {
        test.load(cursor.row)
        while walking < ranked.count, !test.passes(risk.epsilons[ranked[walking]], strictly: strictly) {
          walking += 1
        }
      }
      for rank in walking..<ranked.count { last[ranked[rank]] = cursor.index }
    }
    return last
  }

  private func fixedSequence(_ risks: [Calibration.Risk]) -> Int? {
    let lasts = risks.map { fixedSequence($0)[0] }
    // Each risk's own walk ends at its first failure, so the common walk ends at the earliest of these.
    return lasts.contains(nil) ? nil : lasts.compactMap { $0 }.min()
  }

  /// CRC and the empirical rule: a limit on the mean loss of a row.
  private func meanRule(_ risk: Calibration.Risk) -> [Int?] {
    let table = risk.table
    var means: [Double] = []
    means.reserveCapacity(table.thresholds.count)
    var cursor = RowCursor(table.losses, columns: order)
    while cursor.advance() { means.append(mean(cursor.row)) }
    return risk.epsilons.map { epsilon in
      func passes(_ row: Int) -> Bool {
        row == 0 && table.startsAtFullModel || adjusted(means[row], bound: table.lossBound) <= epsilon
      }
      switch settings.scan {
      case .full: return means.indices.last(where: passes)
      case .cautious:
        let firstFailure = means.indices.first { !passes($0) } ?? means.count
        return firstFailure == 0 ? nil : firstFailure - 1
      }
    }
  }

  private func mean(_ row: UnsafeBufferPointer<Double>) -> Double {
    guard let weights else { return CompensatedSum.of(row) / Double(row.count) }
    var sum = CompensatedSum()
    var total = CompensatedSum()
    for (position, column) in order.enumerated() {
      sum.add(weights.values[Int(column)] * row[position])
      total.add(weights.values[Int(column)])
    }
    // CRC normalises by the sum of the weights; the others take the weights as density ratios, whose mean is 1.
    return sum.value / (settings.rule == .crc ? total.value : Double(row.count))
  }

  /// For CRC (n R̂ + B)/(n + 1), which is at most ε exactly where R̂ ≤ ((n + 1) ε − B)/n; with weights n becomes their
  /// sum and the new sample's 1 their upper bound.
  private func adjusted(_ mean: Double, bound: Double) -> Double {
    guard settings.rule == .crc else { return mean }
    let total = weights.map { weights in
      order.reduce(0) { $0 + weights.values[Int($1)] }
    }
    let (mass, next) = (total ?? Double(order.count), weights?.bound ?? 1)
    return (mass * mean + next * bound) / (mass + next)
  }

  /// Whether one row is certified at ε; a first row that is the full model is, without a test.
  func passes(_ table: LossTable, row: Int, epsilon: Double) -> Bool {
    if row == 0, table.startsAtFullModel { return true }
    var cursor = RowCursor(table.losses, columns: order)
    cursor.skip(to: row)
    let test = makeTest(table)
    test.load(cursor.row)
    return test.passes(epsilon, strictly: settings.rule == .ucb)
  }

  /// A row that bets would let through and the mean observed does not; nil for any other row.
  func heldBack(_ table: LossTable, row: Int, epsilon: Double) -> CalibrationShortfall? {
    guard settings.rule.controlsWithHighProbability, settings.bound.bets, settings.measure == .mean else {
      return nil
    }
    var cursor = RowCursor(table.losses, columns: order)
    cursor.skip(to: row)
    let observed = mean(cursor.row)
    guard observed > epsilon else { return nil }
    let test = makeTest(table)
    test.load(cursor.row)
    guard test.isHeldBack(epsilon, strictly: settings.rule == .ucb), let bound = test.boundByBets() else {
      return nil
    }
    return .observedAboveBound(
      index: row, threshold: table.thresholds[row], observedRisk: observed, bound: bound)
  }

  /// What can be said of one row: its bound, and the statistic of the calibration samples.
  func statement(_ table: LossTable, row: Int) -> (upperBound: Double?, empiricalRisk: Double) {
    var cursor = RowCursor(table.losses, columns: order)
    cursor.skip(to: row)
    let mean = mean(cursor.row)
    switch settings.rule {
    case .empirical: return (nil, mean)
    case .crc: return (adjusted(mean, bound: table.lossBound), mean)
    case .ucb, .ltt:
      let test = makeTest(table)
      test.load(cursor.row)
      return (test.upperBound(), settings.measure.statistic(of: cursor.row, mean: mean))
    }
  }
}

extension RiskMeasure {
  /// The measure of the empirical distribution. O(n log n) for a tail.
  func statistic(of row: UnsafeBufferPointer<Double>, mean: Double) -> Double {
    switch self {
    case .mean: return mean
    case .quantile(let level):
      let sorted = row.sorted()
      let rank = Int((level * Double(row.count)).rounded(.up))
      return sorted[min(max(rank, 1), row.count) - 1]
    case .conditionalValueAtRisk(let level):
      // The mean of the worst (1 − level) n losses, the last one counted in part.
      var mass = (1 - level) * Double(row.count)
      let whole = mass
      var sum = 0.0
      for loss in row.sorted(by: >) {
        let share = min(1, mass)
        guard share > 0 else { break }
        sum += share * loss
        mass -= share
      }
      return sum / whole
    }
  }
}
