/// Tests "the risk of this row exceeds ε", for any measure of risk, one row at a time.
package final class RowTest {
  private enum Form {
    case mean(MeanTest)
    /// Exact binomial test on the number of losses above ε.
    case quantile
    /// One test of the mean excess over each level, the failure probability shared among them.
    case excess([(level: Double, test: MeanTest)])
  }

  private let form: Form
  private let measure: RiskMeasure
  private let sampleCount: Int
  private let delta: Double
  private let range: Double
  private var row: [Double]
  /// Density-ratio weights in betting order, or nil.
  private let weights: [Double]?

  /// - Parameters:
  ///   - range: B.
  ///   - isAveraged: whether betting bounds average over many orders.
  ///   - weights: the importance weights of the samples of a row, in its order, with their upper bound; means only.
  package init(
    measure: RiskMeasure, bound: RiskBound, sampleCount: Int, delta: Double, range: Double,
    isAveraged: Bool = false, weights: (values: [Double], bound: Double)? = nil
  ) {
    self.measure = measure
    self.sampleCount = sampleCount
    self.delta = delta
    self.weights = weights?.values
    self.range = range * (weights?.bound ?? 1)
    switch measure {
    case .mean:
      form = .mean(
        MeanTest(
          bound: bound, sampleCount: sampleCount, delta: delta, range: self.range, isAveraged: isAveraged))
      row = weights == nil ? [] : [Double](repeating: 0, count: sampleCount)
    case .quantile:
      form = .quantile
      row = [Double](repeating: 0, count: sampleCount)
    case .conditionalValueAtRisk:
      // CVaR = min over c of c + E[(X − c)₊]/(1 − level), so a bound at any fixed c is a bound on it; a few levels
      // fixed in advance, each with its share of δ, come close to the best one.
      let levels = [0, 0.0625, 0.125, 0.25].map { $0 * range }
      form = .excess(
        levels.map { level in
          (
            level,
            MeanTest(
              bound: bound, sampleCount: sampleCount, delta: delta / Double(levels.count),
              range: range - level, isAveraged: isAveraged)
          )
        })
      row = [Double](repeating: 0, count: sampleCount)
    }
  }

  package func load(_ losses: UnsafeBufferPointer<Double>) {
    switch form {
    case .mean(let test):
      guard let weights else { return test.load(losses) }
      for index in 0..<sampleCount { row[index] = losses[index] * weights[index] }
      row.withUnsafeBufferPointer { test.load($0) }
    case .quantile:
      for index in 0..<sampleCount { row[index] = losses[index] }
    case .excess(let tests):
      for (level, test) in tests {
        for index in 0..<sampleCount { row[index] = max(losses[index] - level, 0) }
        row.withUnsafeBufferPointer { test.load($0) }
      }
    }
  }

  /// Whether the row is certified at `epsilon`; monotone in it.
  package func passes(_ epsilon: Double, strictly: Bool) -> Bool {
    switch (form, measure) {
    case (.mean(let test), _): return test.passes(epsilon, strictly: strictly)
    case (.excess(let tests), .conditionalValueAtRisk(let quantile)):
      return tests.contains { level, test in
        epsilon > level && test.passes((1 - quantile) * (epsilon - level), strictly: strictly)
      }
    case (.quantile, .quantile(let level)):
      let above = row.lazy.filter { $0 > epsilon }.count
      let p = Binomial.cumulative(above, n: sampleCount, p: 1 - level)
      return strictly ? p < delta : p <= delta
    default: return false
    }
  }

  /// Whether bets alone would certify the row, which the mean observed forbids.
  package func isHeldBack(_ epsilon: Double, strictly: Bool) -> Bool {
    if case .mean(let test) = form { test.isHeldBack(epsilon, strictly: strictly) } else { false }
  }

  /// See ``MeanTest/boundByBets()``.
  package func boundByBets() -> Double? {
    if case .mean(let test) = form { test.boundByBets() } else { nil }
  }

  /// The upper bound on the risk, in [0, B]; B where nothing can be said.
  package func upperBound() -> Double {
    switch (form, measure) {
    case (.mean(let test), _): return test.upperBound()
    case (.excess(let tests), .conditionalValueAtRisk(let quantile)):
      let bounds = tests.map { level, test in level + test.upperBound() / (1 - quantile) }
      return min(range, bounds.min() ?? range)
    case (.quantile, .quantile(let level)):
      // The largest number of exceedances that still passes, and the loss that so many exceed.
      var allowed = -1
      while allowed + 1 < sampleCount,
        Binomial.cumulative(allowed + 1, n: sampleCount, p: 1 - level) <= delta
      { allowed += 1 }
      guard allowed >= 0 else { return range }
      return max(0, row.sorted(by: >)[allowed])
    default: return range
    }
  }

  /// The p-value of "the risk exceeds ε"; for CVaR the smallest of its levels' p-values times their number.
  package func pValue(_ epsilon: Double) -> Double {
    switch (form, measure) {
    case (.mean(let test), _): return test.pValue(epsilon)
    case (.excess(let tests), .conditionalValueAtRisk(let quantile)):
      let values = tests.map { level, test in
        epsilon > level ? test.pValue((1 - quantile) * (epsilon - level)) : 1
      }
      return min(1, Double(tests.count) * (values.min() ?? 1))
    case (.quantile, .quantile(let level)):
      return Binomial.cumulative(row.lazy.filter { $0 > epsilon }.count, n: sampleCount, p: 1 - level)
    default: return 1
    }
  }

  /// The upper bound that samples without any loss would have: no smaller ε can be certified.
  package func smallestCertifiable() -> Double {
    let zeros = [Double](repeating: 0, count: sampleCount)
    zeros.withUnsafeBufferPointer { load($0) }
    return upperBound()
  }
}
