/// An upper confidence bound on a mean from n independent losses.
///
/// Each bound has two faces, computed by the same code: the p-value of "the mean exceeds ε", and the upper bound, which
/// is the smallest ε whose p-value is at most δ.
public enum RiskBound: String, Sendable, Equatable, CaseIterable, Codable {
  /// Betting (Waudby-Smith and Ramdas 2023, one-sided, predictable plug-in stakes), for a number of samples fixed in
  /// advance. Takes signed losses.
  case wsr
  /// Betting with stakes that do not depend on the number of samples. It is valid at every look, for samples in the
  /// order of their arrival. Takes signed losses.
  case anytime
  /// The exact binomial bound (Clopper and Pearson 1934), for losses that are 0 or B.
  case binomial
  /// Hoeffding–Bentkus (Bates et al. 2021).
  case hoeffdingBentkus = "hb"
  /// Hoeffding (1963).
  case hoeffding
  /// Empirical Bernstein (Maurer and Pontil 2009, theorem 4).
  case empiricalBernstein = "bernstein"

  /// Whether negative losses count as they are. The other bounds need losses in [0, B]: they count a negative one as 0,
  /// which can only raise the mean.
  public var takesSignedLosses: Bool { self == .wsr || self == .anytime }

  /// Whether the bound may fall below the mean that was observed, by luck or where the order of the samples is no
  /// chance.
  package var bets: Bool { self == .wsr || self == .anytime }

  /// The p-value of the hypothesis that the mean loss is above `epsilon`.
  ///
  /// - Parameters:
  ///   - losses: (n), in order; each in [−lossBound, lossBound].
  ///   - epsilon: the tolerated mean.
  ///   - delta: the failure probability for which the stakes of the betting bound are tuned; its p-value is valid for
  ///     any fixed δ. The other bounds do not read it.
  ///   - lossBound: B.
  /// - Returns: a number in [0, 1]. O(n).
  /// - Throws: ``RiskControlError`` for a loss out of range, or settings outside (0, 1).
  public func pValue(
    of losses: [Double], epsilon: Double, delta: Double, lossBound: Double = 1
  ) throws(RiskControlError) -> Double {
    try CalibrationSettings.check(epsilon: epsilon)
    let test = try loadedTest(losses, delta: delta, lossBound: lossBound)
    return test.pValue(epsilon)
  }

  /// The upper bound: with probability at least 1 − `delta` the mean lies at or below it.
  ///
  /// - Returns: a number in [0, lossBound]. 0 means that the mean is at most 0; lossBound means that nothing is known.
  ///   O(n log(1/precision)).
  /// - Throws: ``RiskControlError`` as ``pValue(of:epsilon:delta:lossBound:)``.
  public func upperBound(
    of losses: [Double], delta: Double, lossBound: Double = 1
  ) throws(RiskControlError) -> Double {
    try loadedTest(losses, delta: delta, lossBound: lossBound).upperBound()
  }

  private func loadedTest(
    _ losses: [Double], delta: Double, lossBound: Double
  ) throws(RiskControlError) -> MeanTest {
    try CalibrationSettings.check(delta: delta)
    try LossTable.check(lossBound: lossBound)
    guard !losses.isEmpty else { throw .table("no losses; a bound needs at least one") }
    if let bad = losses.firstIndex(where: { !($0.magnitude <= lossBound) }) {
      throw .table("loss \(bad + 1): " + LossTable.complaint(about: losses[bad], bound: lossBound))
    }
    if self == .binomial, let bad = losses.first(where: { $0 > 0 && $0 < lossBound }) {
      throw Self.notBinary(bad, bound: lossBound)
    }
    let test = MeanTest(bound: self, sampleCount: losses.count, delta: delta, range: lossBound)
    losses.withUnsafeBufferPointer { test.load($0) }
    return test
  }

  static func notBinary(_ loss: Double, bound: Double) -> RiskControlError {
    .table(
      "the binomial bound takes losses of 0 and \(plain(bound)), found \(plain(loss)); use wsr or another bound"
    )
  }
}
