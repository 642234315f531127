import RealModule

/// The Hoeffding–Bentkus p-value (Bates et al. 2021, proposition 6) for losses in [0, 1].
package enum HoeffdingBentkus {
  /// min( exp(−n h₁(min(R̂, α), α)), e · P(Bin(n, α) ≤ ⌈n R̂⌉), 1 ).
  ///
  /// - Parameters:
  ///   - sum: n R̂, the sum of the losses.
  ///   - target: α, the tolerated mean.
  package static func pValue(sum: Double, count: Int, target: Double) -> Double {
    if target <= 0 { return 1 }
    if target >= 1 { return 0 }
    let n = Double(count)
    let mean = min(sum / n, target)
    let hoeffding = Double.exp(-n * relativeEntropy(mean, target))
    // A sum that rounding put just above a whole number is rounded up: a larger p, still valid.
    let bentkus = Double.exp(1) * Binomial.cumulative(Int(sum.rounded(.up)), n: count, p: target)
    return min(1, hoeffding, bentkus)
  }

  /// h₁(a, b) = a ln(a/b) + (1 − a) ln((1 − a)/(1 − b)), 0 ≤ a ≤ b < 1; at a = 0 it is −ln(1 − b), never NaN.
  package static func relativeEntropy(_ a: Double, _ b: Double) -> Double {
    if a <= 0 { return -Double.log(onePlus: -b) }
    if a >= 1 { return -Double.log(b) }
    return max(0, a * Double.log(a / b) + (1 - a) * (Double.log(onePlus: -a) - Double.log(onePlus: -b)))
  }
}
