import Foundation

/// Tests "the mean of this row exceeds ε" for one row of losses at a time.
///
/// Its memory is allocated once and reused for every row. A verdict is monotone in ε: a row that passes at ε passes at every
/// larger one, for every bound; the rules rely on it.
package final class MeanTest {
  package let bound: RiskBound
  private let sampleCount: Int
  private let delta: Double
  /// B: the losses lie at or below it.
  private let range: Double
  private var betting: BettingCapital?
  private var sum = 0.0
  /// Unbiased variance of the clipped losses, for the empirical Bernstein bound.
  private var variance = 0.0

  package init(bound: RiskBound, sampleCount: Int, delta: Double, range: Double) {
    self.bound = bound
    self.sampleCount = sampleCount
    self.delta = delta
    self.range = range
    if bound == .wsr {
      betting = BettingCapital(sampleCount: sampleCount, delta: delta, lossBound: range)
    }
  }

  /// Takes the losses of a row, (sampleCount), in the order of the bets.
  package func load(_ row: UnsafeBufferPointer<Double>) {
    if let betting {
      betting.load(row)
      return
    }
    var sum = CompensatedSum()
    for loss in row { sum.add(max(loss, 0)) }
    self.sum = sum.value
    guard bound == .empiricalBernstein, sampleCount > 1 else { return }
    let mean = self.sum / Double(sampleCount)
    var squares = CompensatedSum()
    for loss in row {
      let deviation = max(loss, 0) - mean
      squares.add(deviation * deviation)
    }
    variance = squares.value / Double(sampleCount - 1)
  }

  /// Whether the row is certified at `epsilon`: p ≤ δ, or p < δ where `strictly` ("the upper bound lies below ε").
  package func passes(_ epsilon: Double, strictly: Bool) -> Bool {
    if let betting { return betting.reaches(epsilon, strictly: strictly) }
    let p = pValue(epsilon)
    return strictly ? p < delta : p <= delta
  }

  package func pValue(_ epsilon: Double) -> Double {
    let n = Double(sampleCount)
    let (mean, target) = (sum / n / range, epsilon / range)
    switch bound {
    case .wsr:
      return betting.map { min(1, exp(-$0.maximumLogCapital(epsilon))) } ?? 1
    case .hoeffding:
      let gap = max(target - mean, 0)
      return min(1, exp(-2 * n * gap * gap))
    case .hoeffdingBentkus:
      return HoeffdingBentkus.pValue(sum: sum / range, count: sampleCount, target: target)
    case .empiricalBernstein:
      guard sampleCount > 1 else { return 1 }
      // R̂ + √(2 V ln(2/δ) / n) + 7 ln(2/δ) / (3 (n − 1)) = ε, a quadratic in √ln(2/δ).
      let gap = target - mean
      guard gap > 0 else { return 1 }
      let linear = (2 * variance / (range * range) / n).squareRoot()
      let quadratic = 7 / (3 * (n - 1))
      // 2c / (b + √(b² + 4ac)) instead of the textbook form, which cancels where the gap is small.
      let root = 2 * gap / (linear + (linear * linear + 4 * quadratic * gap).squareRoot())
      return min(1, 2 * exp(-root * root))
    }
  }

  /// The smallest ε in [0, B] at which the row passes, to the last representable digit; B where none does.
  package func upperBound() -> Double {
    if passes(0, strictly: false) { return 0 }
    guard passes(range, strictly: false) else { return range }
    return Self.smallestPassing(from: 0, to: range) { passes($0, strictly: false) }
  }

  /// Bisects a monotone verdict between a failing and a passing number.
  ///
  /// Between numbers of one sign the bit patterns of floats are ordered as the numbers are; halving the pattern finds
  /// the exact switch in at most 64 steps, for values of any magnitude.
  package static func smallestPassing(
    from failing: Double, to passing: Double, passes: (Double) -> Bool
  ) -> Double {
    // Most bounds differ from 0 by far more than 2⁻⁶⁰: a few plain halvings, then the patterns.
    var low = failing
    var high = passing
    var steps = 0
    while steps < 12 {
      let middle = low + (high - low) / 2
      guard middle > low, middle < high else { return high }
      if passes(middle) { high = middle } else { low = middle }
      steps += 1
    }
    var (lowPattern, highPattern) = (low.bitPattern, high.bitPattern)
    while highPattern - lowPattern > 1 {
      let middle = lowPattern + (highPattern - lowPattern) / 2
      if passes(Double(bitPattern: middle)) { highPattern = middle } else { lowPattern = middle }
    }
    return Double(bitPattern: highPattern)
  }
}
