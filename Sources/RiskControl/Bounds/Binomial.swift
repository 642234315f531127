import RealModule

/// Tails of the binomial distribution, to about 13 significant digits for counts up to 10⁷.
package enum Binomial {
  /// P(Bin(n, p) ≤ k). Exactly 0 for k < 0, 1 for k ≥ n. O(√n) at worst.
  ///
  /// The smaller tail is summed by its continued fraction from the probability at k, which Loader's saddle-point form
  /// gives without the cancellation of ln Γ; the other tail is its complement.
  package static func cumulative(_ k: Int, n: Int, p: Double) -> Double {
    if k < 0 { return 0 }
    if k >= n || p <= 0 { return 1 }
    if p >= 1 { return 0 }
    // P(X ≤ k) = I_q(n − k, k + 1), q = 1 − p.
    if Double(k) < Double(n) * p {
      return min(1, lowerTail(k, n: n, p: p))
    }
    return max(0, 1 - lowerTail(n - k - 1, n: n, p: 1 - p))
  }

  /// P(X ≤ k) for k below the mean: P(X = k) (1 + r_k + r_k r_{k−1} + …), r_j = j q / ((n − j + 1) p) < 1.
  private static func lowerTail(_ k: Int, n: Int, p: Double) -> Double {
    let odds = (1 - p) / p
    var term = 1.0
    var total = 1.0
    var j = Double(k)
    let count = Double(n)
    while j > 0 {
      term *= j / (count - j + 1) * odds
      total += term
      if term < total * 1e-17 { break }
      j -= 1
    }
    return probability(k, n: n, p: p) * total
  }

  /// P(Bin(n, p) = k), 0 < p < 1 (Loader 2000, "Fast and accurate computation of binomial probabilities").
  package static func probability(_ k: Int, n: Int, p: Double) -> Double {
    let count = Double(n)
    if k == 0 { return Double.exp(count * Double.log(onePlus: -p)) }
    if k == n { return Double.exp(count * Double.log(p)) }
    let (x, y) = (Double(k), Double(n - k))
    let logarithm =
      stirlingError(n) - stirlingError(k) - stirlingError(n - k)
      - deviance(x, mean: count * p) - deviance(y, mean: count * (1 - p))
    return Double.exp(logarithm) * (count / (2 * .pi * x * y)).squareRoot()
  }

  /// ln n! − ln(√(2πn) (n/e)ⁿ), n ≥ 1.
  private static func stirlingError(_ n: Int) -> Double {
    let x = Double(n)
    if n < 16 {
      var factorial = 1.0
      for i in stride(from: 2.0, through: x, by: 1) { factorial *= i }
      return Double.log(factorial) - (0.5 * Double.log(2 * .pi * x) + x * Double.log(x) - x)
    }
    let square = 1 / (x * x)
    // The series of ln Γ: Bernoulli numbers over 2k (2k − 1).
    let tail = 1.0 / 1260 - square * (1.0 / 1680 - square * (1.0 / 1188 - square * (691.0 / 360_360)))
    return (1.0 / 12 - square * (1.0 / 360 - square * tail)) / x
  }

  /// x ln(x/m) + m − x, by a series where x is close to m.
  private static func deviance(_ x: Double, mean m: Double) -> Double {
    guard abs(x - m) < 0.1 * (x + m) else { return x * Double.log(x / m) + m - x }
    let v = (x - m) / (x + m)
    var sum = (x - m) * v
    var power = 2 * x * v
    var odd = 3.0
    while true {
      power *= v * v
      let next = sum + power / odd
      if next == sum { return next }
      sum = next
      odd += 2
    }
  }
}
