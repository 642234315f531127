import RiskControl

/// The uncertainty scores of an early-exit diffusion model (DeeDiff) at every exit, and a perceptual loss computed
/// elsewhere.
///
/// A sample leaves at the first exit with 1 − u > λ, u being the mean uncertainty of the exit's prediction.
public struct DiffusionOutputs: Sendable {
  private let scores: [Double]
  private let losses: [Double]
  private let stepCount: Int

  /// - Parameters:
  ///   - scores: row-major (samples, exits), mean uncertainties in [0, 1].
  ///   - losses: row-major (samples, exits), the loss of leaving at each exit relative to the full model.
  ///   - stepCount: the number of exits.
  /// - Throws: `RiskControlError` naming sample and exit.
  public init(scores: [Double], losses: [Double], stepCount: Int) throws(RiskControlError) {
    guard stepCount > 0, scores.count == losses.count, !scores.isEmpty, scores.count % stepCount == 0 else {
      throw .table(
        "\(scores.count) scores and \(losses.count) losses with \(stepCount) steps; expected samples × steps of each"
      )
    }
    if let bad = scores.firstIndex(where: { !($0 >= 0 && $0 <= 1) }) {
      throw .table(
        "sample \(bad / stepCount + 1), exit \(bad % stepCount + 1): uncertainty is \(scores[bad]), expected a "
          + "number in [0, 1]"
      )
    }
    self.scores = scores
    self.losses = losses
    self.stepCount = stepCount
  }

  /// The table, swept over every distinct 1 − u. O(N L log(N L)).
  public func table(
    exitCosts: [Double]? = nil, lossBound: Double = 1, firstRow: LossTable.FirstRow = .fullModelWhereZero
  ) throws(RiskControlError) -> LossTable {
    try LossTable(
      confidences: scores.map { 1 - $0 }, losses: losses, exitCount: stepCount, exitCosts: exitCosts,
      lossBound: lossBound, comparison: .above, firstRow: firstRow)
  }
}
