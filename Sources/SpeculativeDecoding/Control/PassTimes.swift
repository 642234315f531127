/// Seconds of a pass of the large model by its rows, as measured on this machine.
struct PassTimes: Sendable {
  private struct Mean {
    var seconds: Double
    var count: Int
  }

  private var means: [Int: Mean] = [:]
  /// What one more row costs, in passes of one row. Begins at a cautious guess.
  private var slope: Double
  /// For sizes beyond those measured: the first few rows wait for memory together, further ones for the arithmetic.
  private static let leastSlope = 0.1
  /// Passes of a size after which its mean is trusted by itself.
  private static let trusted = 3

  init(slope: Double = 0.2) { self.slope = slope }

  /// The seconds of a pass of one row, or `nil` while none was measured.
  var one: Double? { means[1]?.seconds }

  /// The seconds of a pass of that many rows: measured, or between measured sizes, or by the usual slope; `nil` while
  /// no pass of one row was measured.
  func seconds(rows: Int) -> Double? {
    guard let one else { return nil }
    if rows == 1 { return one }
    if let mean = trusted(rows) { return max(mean, one) }
    var below = (rows: 1, seconds: one)
    for size in stride(from: rows - 1, to: 1, by: -1) {
      guard let mean = trusted(size) else { continue }
      below = (size, max(mean, one))
      break
    }
    let largest = means.keys.max() ?? 1
    for size in stride(from: rows + 1, through: largest, by: 1) {
      guard let mean = trusted(size) else { continue }
      let share = Double(rows - below.rows) / Double(size - below.rows)
      return below.seconds + share * max(mean - below.seconds, 0)
    }
    return below.seconds + max(slope, Self.leastSlope) * one * Double(rows - below.rows)
  }

  /// The measured mean of that size alone, once there are a few.
  func trusted(_ rows: Int) -> Double? {
    guard let mean = means[rows], mean.count >= Self.trusted else { return nil }
    return mean.seconds
  }

  mutating func note(rows: Int, seconds taken: Double) {
    var mean = means[rows] ?? Mean(seconds: taken, count: 0)
    // Another program's burst must not weigh for long; nor must the first, cold pass.
    let weight = max(0.1, 1 / Double(mean.count + 1))
    mean.seconds += weight * (min(taken, mean.count == 0 ? taken : 3 * mean.seconds) - mean.seconds)
    mean.count += 1
    means[rows] = mean
    if rows > 1, let one, one > 0 {
      let found = (taken / one - 1) / Double(rows - 1)
      slope += 0.2 * (min(max(found, 0), 1) - slope)
    }
  }
}
