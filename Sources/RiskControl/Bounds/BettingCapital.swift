import RealModule

/// The capital of a gambler who bets that the mean lies below m.
///
/// The bets of Waudby-Smith and Ramdas (2023), one-sided as in Bates et al. (2021), section 3.1.3. A gambler bets that
/// the mean is below m. With μ̂_t = (B/2 + Σx)/(1 + t) and σ̂²_t = (B²/4 + Σ(x − μ̂)²)/(1 + t), the stakes are ν_t =
/// min(√(2 ln(1/δ) / (n σ̂²_{t−1})), 1/B), and the capital is K_t(m) = Π (1 − ν_i (x_i − m)). Where the mean is m or
/// more, K_t(m) is a non-negative supermartingale. So a capital that ever reaches 1/δ refutes such a mean, with failure
/// probability δ (Ville). Only x ≤ B and m ≥ 0 are needed: losses may be negative. The priors ½ and ¼ of losses in [0,
/// 1] are scaled with B, which makes the bound of B·x exactly B times that of x.
///
/// Stakes do not depend on m. They are computed in blocks, only as far as a verdict needs them, and kept for further
/// values of m on the same row.
package final class BettingCapital {
  private let sampleCount: Int
  private let lossBound: Double
  private let logTarget: Double
  private let target: Double
  /// (sampleCount): the losses, in betting order.
  private let losses: UnsafeMutablePointer<Double>
  /// (sampleCount): the stakes; valid below `prepared`.
  private let stakes: UnsafeMutablePointer<Double>
  /// (sampleCount): 1 / (t + 2), where t samples came before; saves a division a sample.
  private let inverseCounts: UnsafeMutablePointer<Double>
  private var prepared = 0
  private var sum = 0.0
  private var squares = 0.0

  /// Samples whose stakes are computed at once.
  private static let block = 256
  /// Samples between two looks at the capital's size; no factor is above 3 or, unless it is 0, below 10⁻¹⁷.
  private static let span = 16
  /// A capital below 2⁻⁵¹² is multiplied by 2⁵¹², and its exponent kept aside.
  private static let rescale = 0x1p512

  package init(sampleCount: Int, delta: Double, lossBound: Double) {
    self.sampleCount = sampleCount
    self.lossBound = lossBound
    logTarget = -Double.log(delta)
    target = 1 / delta
    losses = .allocate(capacity: sampleCount)
    losses.initialize(repeating: 0, count: sampleCount)
    stakes = .allocate(capacity: sampleCount)
    stakes.initialize(repeating: 0, count: sampleCount)
    inverseCounts = .allocate(capacity: sampleCount)
    for t in 0..<sampleCount { (inverseCounts + t).initialize(to: 1 / Double(t + 2)) }
  }

  deinit {
    losses.deallocate()
    stakes.deallocate()
    inverseCounts.deallocate()
  }

  package func load(_ row: UnsafeBufferPointer<Double>) {
    if let values = row.baseAddress { losses.update(from: values, count: min(row.count, sampleCount)) }
    prepared = 0
    sum = 0
    squares = 0
  }

  /// Computes the stakes of the next block.
  private func prepareBlock() {
    let (start, end) = (prepared, min(prepared + Self.block, sampleCount))
    let (losses, stakes, inverse) = (losses, stakes, inverseCounts)
    var (sum, squares) = (sum, squares)
    let half = lossBound / 2
    let quarter = lossBound * lossBound / 4
    // First the sums, which are two chains of additions …
    for t in start..<end {
      stakes[t] = quarter + squares
      sum += losses[t]
      let deviation = losses[t] - (half + sum) * inverse[t]
      squares += deviation * deviation
    }
    // … then the roots and divisions, which the compiler turns into vector instructions.
    let scale = 2 * logTarget / Double(sampleCount)
    let limit = 1 / lossBound
    for t in start..<end {
      let stake = (scale * Double(t + 1) / stakes[t]).squareRoot()
      stakes[t] = stake < limit ? stake : limit
    }
    self.sum = sum
    self.squares = squares
    prepared = end
  }

  /// Whether the capital against the mean m ever reaches 1/δ (exceeds it, where `strictly`). O(n), less where it does.
  package func reaches(_ m: Double, strictly: Bool) -> Bool {
    let (losses, stakes) = (losses, stakes)
    var capital = 1.0
    var best = 1.0
    // The capital is the product so far times 2^(−512 depth); the goal is scaled alike, and may be infinite.
    var depth = 0
    var goal = target
    if strictly ? best > goal : best >= goal { return true }
    var start = 0
    while start < sampleCount {
      if start == prepared { prepareBlock() }
      let end = min(start + Self.span, prepared)
      for t in start..<end {
        // Rounding may push a factor of 0 below it, and two such would make a capital out of nothing.
        let factor = max(1 - stakes[t] * (losses[t] - m), 0)
        capital *= factor
        best = max(best, capital)
      }
      if strictly ? best > goal : best >= goal { return true }
      if capital < 1 / Self.rescale {
        if capital == 0 { return false }
        capital *= Self.rescale
        depth += 1
        goal = Double(sign: .plus, exponent: 512 * depth, significand: target)
        best = 0
      } else if depth > 0, capital > Self.rescale {
        capital /= Self.rescale
        depth -= 1
        goal = Double(sign: .plus, exponent: 512 * depth, significand: target)
        best = 0
      }
      start = end
    }
    return false
  }

  /// The capital when it first reaches `stop`, then `stop` itself; after the last sample where it never does. O(n).
  package func stopped(_ m: Double, at stop: Double) -> Double {
    let (losses, stakes) = (losses, stakes)
    var capital = 1.0
    var start = 0
    while start < sampleCount {
      if start == prepared { prepareBlock() }
      let end = prepared
      for t in start..<end {
        // Below the smallest float the capital stays lost: less than there is, and 10⁻³⁰⁰ seldom comes back.
        capital *= max(1 - stakes[t] * (losses[t] - m), 0)
        if capital >= stop { return stop }
      }
      start = end
    }
    return capital
  }

  /// max_t ln K_t(m), at least 0 because K_0 = 1. O(n).
  package func maximumLogCapital(_ m: Double) -> Double {
    let (losses, stakes) = (losses, stakes)
    var capital = 1.0
    var logScale = 0.0
    var best = 0.0
    var start = 0
    while start < sampleCount {
      if start == prepared { prepareBlock() }
      let end = min(start + Self.span, prepared)
      var highest = 0.0
      for t in start..<end {
        capital *= max(1 - stakes[t] * (losses[t] - m), 0)
        highest = max(highest, capital)
      }
      if capital == 0, highest == 0 { return best }
      best = max(best, Double.log(highest) + logScale)
      if capital == 0 { return best }
      if capital < 1 / Self.rescale {
        capital *= Self.rescale
        logScale -= Double.log(Self.rescale)
      } else if capital > Self.rescale {
        capital /= Self.rescale
        logScale += Double.log(Self.rescale)
      }
      start = end
    }
    return best
  }
}
