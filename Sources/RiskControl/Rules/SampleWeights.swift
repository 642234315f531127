/// Known density ratios between the data a threshold will meet and the data it was calibrated on.
///
/// Where the calibration samples follow p and the deployed ones q, the weight of sample i is w_i = q(x_i)/p(x_i). Then
/// E_p[w ℓ] = E_q[ℓ]. UCB and LTT need the ratios themselves, and a known upper bound on every ratio there can be: w ℓ
/// then lies at or below that bound times B. CRC needs them only up to one common factor (Tibshirani et al. 2019;
/// Angelopoulos et al. 2022, section 4.1).
public struct SampleWeights: Sendable, Equatable {
  /// (N), each in [0, bound].
  public let values: [Double]
  /// An upper bound on the ratio of any sample, known in advance and not read off the data.
  public let bound: Double

  /// - Throws: ``RiskControlError`` naming the first weight that is negative, not finite or above the bound.
  public init(_ values: [Double], bound: Double) throws(RiskControlError) {
    guard bound.isFinite, bound > 0 else {
      throw .setting("the weight bound must be a finite number above 0, found \(bound)")
    }
    if let bad = values.firstIndex(where: { !($0 >= 0 && $0 <= bound) }) {
      throw .table("weight \(bad + 1) is \(plain(values[bad])), expected a number in [0, \(plain(bound))]")
    }
    guard values.contains(where: { $0 > 0 }) else { throw .table("all weights are 0") }
    self.values = values
    self.bound = bound
  }
}
