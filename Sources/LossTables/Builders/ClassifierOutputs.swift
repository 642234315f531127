import Foundation
import RiskControl

/// The logits of an early-exit image classifier (MSDNet, dynamic vision transformers) at every exit.
public struct ClassifierOutputs: Sendable {
  /// The risks of Jazbec et al. (2024), table 1; ŷ_l and p_l are prediction and distribution at exit l, L the last.
  public enum Risk: String, Sendable, Equatable, CaseIterable {
    /// 1[ŷ_l ≠ y] − 1[ŷ_L ≠ y]; B = 1.
    case predictionGap = "prediction-gap"
    /// Brier(p_l, y) − Brier(p_L, y); B = 2.
    case brierGap = "brier-gap"
    /// 1[ŷ_l ≠ ŷ_L]; B = 1.
    case predictionConsistency = "prediction-consistency"
    /// Σ_k (p_l,k − p_L,k)², the expected Brier gap where y follows p_L; B = 2.
    case brierConsistency = "brier-consistency"
    /// Brier(p_l, ŷ_L) − Brier(p_L, ŷ_L), against the full model's own class; B = 2.
    case brierTopConsistency = "brier-top-consistency"
    /// ‖√p_l − √p_L‖/√2; B = 1.
    case hellingerConsistency = "hellinger-consistency"

    /// B.
    public var lossBound: Double {
      switch self {
      case .brierGap, .brierConsistency, .brierTopConsistency: 2
      case .predictionGap, .predictionConsistency, .hellingerConsistency: 1
      }
    }
  }

  /// N.
  public let sampleCount: Int
  /// L.
  public let exitCount: Int
  private let classCount: Int
  private let logits: [Double]
  private let labels: [Int]

  /// - Parameters:
  ///   - logits: row-major (exits, samples, classes), finite.
  ///   - exitCount: L.
  ///   - classCount: C.
  ///   - labels: (samples), whole numbers in 0..<classes.
  /// - Throws: `RiskControlError` naming exit, sample and class.
  public init(logits: [Double], exitCount: Int, classCount: Int, labels: [Double]) throws(RiskControlError) {
    guard exitCount > 0, classCount > 0, !labels.isEmpty,
      let size = NumericArray.count(of: [exitCount, labels.count, classCount]), size == logits.count
    else {
      throw .table(
        "\(logits.count) logits, expected exits × samples × classes = \(exitCount) × \(labels.count) × \(classCount)"
      )
    }
    if let bad = logits.firstIndex(where: { !$0.isFinite }) {
      let (row, k) = bad.quotientAndRemainder(dividingBy: classCount)
      throw .table(
        "exit \(row / labels.count + 1), sample \(row % labels.count + 1), class \(k + 1): logit is \(logits[bad]), "
          + "expected a finite number")
    }
    if let bad = labels.firstIndex(where: {
      $0 != $0.rounded() || $0 < 0 || $0 >= Double(classCount) || $0.isNaN
    }) {
      throw .table(
        "label of sample \(bad + 1) is \(plain(labels[bad])), expected a whole number from 0 to \(classCount - 1)"
      )
    }
    self.logits = logits
    self.labels = labels.map { Int($0) }
    self.exitCount = exitCount
    self.classCount = classCount
    sampleCount = labels.count
  }

  /// The table of one risk, swept over every distinct confidence.
  ///
  /// - Parameters:
  ///   - risk: which loss of a sample to take; it sets B.
  ///   - confidence: the score of a distribution that decides whether to exit.
  ///   - exitCosts: (L) or row-major (N, L): what it costs to leave at each exit.
  ///   - comparison: whether a confidence equal to λ passes.
  /// - Throws: `RiskControlError` for costs that do not fit. O(L N (C + log(L N))).
  public func table(
    risk: Risk, confidence: ConfidenceScore = .top1, exitCosts: [Double]? = nil,
    comparison: ExitComparison = .atLeast
  ) throws(RiskControlError) -> LossTable {
    var confidences: [Double] = []
    var losses: [Double] = []
    confidences.reserveCapacity(sampleCount * exitCount)
    losses.reserveCapacity(sampleCount * exitCount)
    for sample in 0..<sampleCount {
      let full = probabilities(exit: exitCount - 1, sample: sample)
      for exit in 0..<exitCount {
        let early = exit == exitCount - 1 ? full : probabilities(exit: exit, sample: sample)
        confidences.append(confidence.score(early))
        losses.append(Self.loss(risk, early: early, full: full, label: labels[sample]))
      }
    }
    return try LossTable(
      confidences: confidences, losses: losses, exitCount: exitCount, exitCosts: exitCosts,
      lossBound: risk.lossBound, comparison: comparison)
  }

  private func probabilities(exit: Int, sample: Int) -> [Double] {
    let start = (exit * sampleCount + sample) * classCount
    return softmax(logits[start..<start + classCount])
  }

  /// The loss of one distribution against the full model's and the label; both distributions have as many classes.
  public static func loss(_ risk: Risk, early: [Double], full: [Double], label: Int) -> Double {
    switch risk {
    case .predictionGap:
      return (argmax(early) != label ? 1 : 0) - (argmax(full) != label ? 1 : 0)
    case .brierGap: return brierScore(early, label: label) - brierScore(full, label: label)
    case .brierTopConsistency:
      let top = argmax(full)
      return brierScore(early, label: top) - brierScore(full, label: top)
    case .predictionConsistency: return argmax(early) != argmax(full) ? 1 : 0
    case .brierConsistency:
      return min(2, zip(early, full).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) })
    case .hellingerConsistency:
      let sum = zip(early, full).reduce(0.0) { sum, pair in
        let difference = pair.0.squareRoot() - pair.1.squareRoot()
        return sum + difference * difference
      }
      return min(1, (sum / 2).squareRoot())
    }
  }
}
