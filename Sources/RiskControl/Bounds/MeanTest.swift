import RealModule

/// Tests "the mean of this row exceeds ε" for one row of losses at a time.
///
/// Its memory is allocated once and reused for every row. A verdict is monotone in ε: a row that passes at ε passes at
/// every larger one, for every bound; the rules rely on it.
package final class MeanTest {
  package let bound: RiskBound
  private let sampleCount: Int
  private let delta: Double
  /// B: the losses lie at or below it.
  private let range: Double
  private enum Betting {
    case order(BettingCapital)
    case averaged(AveragedCapital)
    case anytime(AnytimeCapital)
  }
  private var betting: Betting?
  private var sum = 0.0
  /// Unbiased variance of the clipped losses, for the empirical Bernstein bound.
  private var variance = 0.0

  /// - Parameter isAveraged: Whether the betting bound averages over many orders, so that the one given does not
  ///   matter.
  package init(
    bound: RiskBound, sampleCount: Int, delta: Double, range: Double, isAveraged: Bool = false
  ) {
    self.bound = bound
    self.sampleCount = sampleCount
    self.delta = delta
    self.range = range
    switch bound {
    case .wsr where isAveraged:
      betting = .averaged(AveragedCapital(sampleCount: sampleCount, delta: delta, lossBound: range))
    case .wsr:
      betting = .order(BettingCapital(sampleCount: sampleCount, delta: delta, lossBound: range))
    case .anytime: betting = .anytime(AnytimeCapital(delta: delta, lossBound: range))
    case .binomial, .hoeffding, .hoeffdingBentkus, .empiricalBernstein: betting = nil
    }
  }

  /// Takes the losses of a row, (sampleCount), in the order of the bets.
  package func load(_ row: UnsafeBufferPointer<Double>) {
    switch betting {
    case .order(let capital): capital.load(row)
    case .averaged(let capital): capital.load(row)
    case .anytime(let capital): capital.load(row)
    case nil: break
    }
    if betting != nil {
      sum = CompensatedSum.of(row)
      return
    }
    if bound == .binomial {
      sum = Double(row.count { $0 > 0 })
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
  ///
  /// Bets look for any moment at which the samples so far rule the risk out, and may have found one though the mean
  /// over all of them is above ε; such a row never passes. Passing less often costs no validity.
  package func passes(_ epsilon: Double, strictly: Bool) -> Bool {
    if betting != nil { return !isObservedAbove(epsilon) && reaches(epsilon, strictly: strictly) }
    let p = pValue(epsilon)
    return strictly ? p < delta : p <= delta
  }

  /// Whether the bets alone would certify the row, which the mean observed forbids.
  package func isHeldBack(_ epsilon: Double, strictly: Bool) -> Bool {
    betting != nil && isObservedAbove(epsilon) && reaches(epsilon, strictly: strictly)
  }

  /// The upper bound by bets alone, which the mean observed may lie above; nil for the other bounds.
  package func boundByBets() -> Double? {
    guard betting != nil else { return nil }
    guard !reaches(0, strictly: false), reaches(range, strictly: false) else {
      return reaches(0, strictly: false) ? 0 : range
    }
    return Self.smallestPassing(from: 0, to: range, within: 1e-9 * range) { reaches($0, strictly: false) }
  }

  private func isObservedAbove(_ epsilon: Double) -> Bool { sum / Double(sampleCount) > epsilon }

  private func reaches(_ epsilon: Double, strictly: Bool) -> Bool {
    switch betting {
    case .order(let capital): capital.reaches(epsilon, strictly: strictly)
    case .averaged(let capital): capital.reaches(epsilon, strictly: strictly)
    case .anytime(let capital): capital.reaches(epsilon, strictly: strictly)
    case nil: false
    }
  }

  private func logCapital(_ epsilon: Double) -> Double {
    switch betting {
    case .order(let capital): capital.maximumLogCapital(epsilon)
    case .averaged(let capital): capital.logCapital(epsilon)
    case .anytime(let capital): capital.maximumLogCapital(epsilon)
    case nil: 0
    }
  }

  package func pValue(_ epsilon: Double) -> Double {
    let n = Double(sampleCount)
    let (mean, target) = (sum / n / range, epsilon / range)
    switch bound {
    case .wsr, .anytime: return min(1, Double.exp(-logCapital(epsilon)))
    case .binomial: return Binomial.cumulative(Int(sum), n: sampleCount, p: min(max(target, 0), 1))
    case .hoeffding:
      let gap = max(target - mean, 0)
      return min(1, Double.exp(-2 * n * gap * gap))
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
      return min(1, 2 * Double.exp(-root * root))
    }
  }

  /// The smallest ε in [0, B] at which the row passes, to the last representable digit; B where none does.
  package func upperBound() -> Double {
    if passes(0, strictly: false) { return 0 }
    guard passes(range, strictly: false) else { return range }
    // Fifty orders make a verdict dear; nine digits of their bound are enough, and the number above is kept.
    let isDear = if case .averaged = betting { true } else { false }
    return Self.smallestPassing(from: 0, to: range, within: isDear ? 1e-9 * range : 0) {
      passes($0, strictly: false)
    }
  }

  /// Bisects a monotone verdict between a failing and a passing number.
  ///
  /// Between numbers of one sign the bit patterns of floats are ordered as the numbers are; halving the pattern finds
  /// the exact switch in at most 64 steps, for values of any magnitude.
  ///
  /// - Returns: The smallest number that passes, or one that passes and lies at most `tolerance` above it.
  package static func smallestPassing(
    from failing: Double, to passing: Double, within tolerance: Double = 0, passes: (Double) -> Bool
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
    while highPattern - lowPattern > 1,
      tolerance == 0 || Double(bitPattern: highPattern) - Double(bitPattern: lowPattern) > tolerance
    {
      let middle = lowPattern + (highPattern - lowPattern) / 2
      if passes(Double(bitPattern: middle)) { highPattern = middle } else { lowPattern = middle }
    }
    return Double(bitPattern: highPattern)
  }
}
