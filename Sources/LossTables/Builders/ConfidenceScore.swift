import RealModule
import RiskControl

/// The confidence of one probability distribution over C ≥ 1 classes, in [0, 1].
public enum ConfidenceScore: String, Sendable, Equatable, CaseIterable {
  /// The largest probability.
  case top1 = "top-1"
  /// The largest probability minus the second largest.
  case margin
  /// 1 − H/ln C, the normalised entropy turned round; 1 where there is one class.
  case entropy

  /// The score of `probabilities`, (C), that sum to 1. O(C).
  public func score(_ probabilities: some RandomAccessCollection<Double>) -> Double {
    var (first, second) = (0.0, 0.0)
    var entropy = 0.0
    for p in probabilities {
      if p > first { (first, second) = (p, first) } else if p > second { second = p }
      if p > 0 { entropy -= p * Double.log(p) }
    }
    let score =
      switch self {
      case .top1: first
      case .margin: first - second
      case .entropy: probabilities.count > 1 ? 1 - entropy / Double.log(Double(probabilities.count)) : 1
      }
    // The sum of rounded terms can leave [0, 1] by a few units in the last place.
    return min(max(score, 0), 1)
  }
}

/// The softmax of finite numbers. O(C).
func softmax(_ logits: ArraySlice<Double>) -> [Double] {
  let largest = logits.max() ?? 0
  var values = logits.map { Double.exp($0 - largest) }
  let scale = 1 / values.reduce(0, +)
  for index in values.indices { values[index] *= scale }
  return values
}

/// Σ_k (p_k − 1[k = label])², in [0, 2] (Brier 1950).
func brierScore(_ probabilities: some Sequence<Double>, label: Int) -> Double {
  var sum = 0.0
  for (k, p) in probabilities.enumerated() {
    let difference = p - (k == label ? 1 : 0)
    sum += difference * difference
  }
  return min(sum, 2)
}

/// Index of the largest value, the first of equals; 0 for none.
func argmax(_ values: some Sequence<Double>) -> Int {
  var (best, index) = (-Double.infinity, 0)
  for (position, value) in values.enumerated() where value > best { (best, index) = (value, position) }
  return index
}
