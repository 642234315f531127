import RealModule

/// The betting capital averaged over many orders of one fixed sample.
///
/// ``BettingCapital`` depends on the order of the samples. Whoever may choose the seed of the order may choose a lucky
/// one: at the border, the best of ten seeds certifies falsely in about half of all trials. In every order the capital
/// at a stopping time has a mean of at most 1 under "the mean is m or more", so the mean over orders fixed in advance
/// has too, and it is at least 1/δ with probability at most δ (Markov). In each order the gambler stops at 5/δ, so that
/// a fifth of the orders can carry the verdict: at ε = 0.05 and n = 300, samples of risk 0.02 are certified as often as
/// by one order (in 72 % of trials), of risk 0.03 in 28 % (41 %); stopping at 1/δ, as Ville's inequality has it, leaves
/// 19 % and 2 %.
///
/// What is above 5/δ at the stop is given away, which makes the verdict monotone in m.
package final class AveragedCapital {
  /// The stop, in 1/δ.
  private static let stop = 5.0
  private static let mostOrders = 50
  private static let fewestOrders = 5
  /// Samples gathered for all orders together, at most: a million samples are seen in five orders.
  private static let budget = 1_000_000

  private let target: Double
  private let orders: [[Int32]]
  private let capital: BettingCapital
  private let gathered: UnsafeMutableBufferPointer<Double>
  private var row: [Double] = []

  /// - Parameter seed: Of the first order; the others follow it. Not a setting: it is there for tests that try to shop.
  package init(sampleCount: Int, delta: Double, lossBound: Double, seed: UInt64 = 0) {
    target = 1 / delta
    let count = min(Self.mostOrders, max(Self.fewestOrders, Self.budget / max(sampleCount, 1)))
    orders = (0..<count).map { SampleOrder.shuffled(seed: seed &+ UInt64($0)).indices(count: sampleCount) }
    capital = BettingCapital(sampleCount: sampleCount, delta: delta, lossBound: lossBound)
    gathered = .allocate(capacity: sampleCount)
    gathered.initialize(repeating: 0)
  }

  deinit { gathered.deallocate() }

  package func load(_ row: UnsafeBufferPointer<Double>) { self.row = Array(row) }

  /// Whether the mean capital against the mean m reaches 1/δ (exceeds it, where `strictly`). O(orders · n), less
  /// where a few orders decide.
  package func reaches(_ m: Double, strictly: Bool) -> Bool {
    let goal = target * Double(orders.count)
    var (sum, remaining) = (0.0, Double(orders.count))
    for order in orders {
      sum += stopped(m, in: order)
      remaining -= 1
      if strictly ? sum > goal : sum >= goal { return true }
      if sum + remaining * Self.stop * target < goal { return false }
    }
    return false
  }

  /// The logarithm of the mean capital, at least 0. O(orders · n).
  package func logCapital(_ m: Double) -> Double {
    let sum = orders.reduce(0.0) { $0 + stopped(m, in: $1) }
    return max(0, Double.log(sum / Double(orders.count)))
  }

  private func stopped(_ m: Double, in order: [Int32]) -> Double {
    row.withUnsafeBufferPointer { row in
      for (position, column) in order.enumerated() { gathered[position] = row[Int(column)] }
    }
    capital.load(UnsafeBufferPointer(gathered))
    return capital.stopped(m, at: Self.stop * target)
  }
}
