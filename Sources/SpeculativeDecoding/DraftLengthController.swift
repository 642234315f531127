/// Chooses how many drafted tokens to verify: as many as make the expected tokens per second largest, none where every
/// draft would lose.
///
/// A pass over 1 + k tokens gives 1 + a₁(1 + a₂ + a₂² + …) tokens, k terms, when the first draft is right with probability
/// a₁ and each further one with a₂. Both are estimated for each kind of guess, and the time of a pass is measured by its
/// size on this machine while decoding. It may be handed from one session to the next, which then starts informed.
public struct DraftLengthController: Sendable {
  private struct Rate: Sendable {
    var accepted: Double
    var drafted: Double
    var mean: Double { accepted / drafted }

    /// Older outcomes fade, so that a text that begins to copy is noticed.
    mutating func note(_ isAccepted: Bool) {
      accepted = 0.97 * accepted + (isAccepted ? 1 : 0)
      drafted = 0.97 * drafted + 1
    }
  }

  /// The first token of a draft, and those after it, by kind of guess.
  private var first: [Rate]
  private var later: [Rate]
  /// Consecutive drafts of each kind that were not thought worth a try.
  private var declined: [Int]
  /// Mean seconds of a pass, by its rows, and passes seen.
  private var seconds: [Int: (mean: Double, count: Int)] = [:]
  /// What one more row costs, in passes of one row. Begins at a cautious guess.
  private var slope = 0.25
  /// A kind that is declined is tried again once in so many times.
  private static let retryInterval = 32

  public init(evidenceCount: Int) {
    // Longer matches are right more often: guesses worth a few observations.
    first = (0..<evidenceCount).map { Rate(accepted: 1 + min(Double($0), 2), drafted: 4) }
    later = first.map { Rate(accepted: $0.accepted + 0.5, drafted: $0.drafted) }
    declined = Array(repeating: 0, count: evidenceCount)
  }

  /// The time of a pass over `rows` tokens, in passes over one.
  func cost(rows: Int) -> Double {
    if rows > 1, let one = seconds[1]?.mean, one > 0, let known = seconds[rows], known.count >= 4 {
      return max(1, known.mean / one)
    }
    return 1 + slope * Double(rows - 1)
  }

  /// How many of `available` drafted tokens to verify.
  mutating func length(evidence: Int, available: Int) -> Int {
    // Without the time of a single token nothing can be compared.
    guard available > 0, first.indices.contains(evidence), seconds[1] != nil else { return 0 }
    var best = 0
    var bestRate = 1.0
    var tokens = 1.0
    var chance = first[evidence].mean
    for length in 1...available {
      tokens += chance
      chance *= later[evidence].mean
      let rate = tokens / cost(rows: length + 1)
      if rate > bestRate { (best, bestRate) = (length, rate) }
    }
    declined[evidence] = best == 0 ? declined[evidence] + 1 : 0
    if declined[evidence] == Self.retryInterval {
      declined[evidence] = 0
      return 1
    }
    return best
  }

  /// Notes how a draft of `drafted` tokens went.
  mutating func note(evidence: Int, drafted: Int, accepted: Int) {
    guard first.indices.contains(evidence) else { return }
    for position in 0..<min(drafted, accepted + 1) {
      if position == 0 {
        first[evidence].note(accepted > 0)
      } else {
        later[evidence].note(position < accepted)
      }
    }
  }

  /// Notes the time of a pass.
  mutating func note(rows: Int, seconds taken: Double) {
    var entry = seconds[rows] ?? (taken, 0)
    // Another program's burst must not weigh for long; nor must the first, cold pass.
    let weight = max(0.1, 1 / Double(entry.count + 1))
    entry.mean += weight * (min(taken, entry.count == 0 ? taken : 3 * entry.mean) - entry.mean)
    entry.count += 1
    seconds[rows] = entry
    if rows > 1, let one = seconds[1]?.mean, one > 0 {
      let found = (taken / one - 1) / Double(rows - 1)
      slope += 0.1 * (min(max(found, 0), 1) - slope)
    }
  }
}
