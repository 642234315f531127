import EarlyExit
import Generation

/// How speculation went in one output.
public struct SpeculationStatistics: Sendable, Equatable, Codable {
  /// Passes of the large model after the prompt's.
  public var steps = 0
  /// Those in which tokens were chosen from the draft head's shortlist and the prompt's tokens alone.
  public var shortlistSteps = 0
  /// Tokens that were drafted and verified, and those of them that stand in the output.
  public var drafted = 0
  /// Drafted tokens that stand in the output.
  public var accepted = 0
  /// Accepted tokens that the large model would not have written itself; 0 in exact decoding.
  public var substituted = 0
  /// Drafts that were cut off at a token.
  public var rollbacks = 0
  /// The same counts by a token's place in its draft.
  public var draftedByPosition: [Int] = []
  /// Accepted tokens by their place in the draft, from 0.
  public var acceptedByPosition: [Int] = []
  /// Tokens of the output by who wrote them.
  public var tokensBySource: [String: Int] = [:]
  /// Seconds spent in drafting.
  public var draftSeconds = 0.0
  /// Seconds spent in passes of the large model.
  public var verifySeconds = 0.0
  /// Seconds spent in keeping caches right: a draft model reads what is new, and wrong drafts are removed.
  public var cacheSeconds = 0.0
  /// Seconds spent in choosing tokens.
  public var samplingSeconds = 0.0
  /// Bytes of weights read after the prompt, by drafter and large model.
  public var bytesRead = 0
  /// The smallest distance −ln p_large that exceeded the rollback threshold, if any did: at any threshold from the
  /// largest accepted distance to just below it the output is the same.
  public var nearestRefusal: Double?

  /// Counts that are all zero.
  public init() {}

  mutating func note(drafted count: Int, accepted right: Int) {
    drafted += count
    accepted += right
    while draftedByPosition.count < count {
      draftedByPosition.append(0)
      acceptedByPosition.append(0)
    }
    for position in 0..<count { draftedByPosition[position] += 1 }
    for position in 0..<right { acceptedByPosition[position] += 1 }
  }

  /// Adds those of another output.
  public mutating func add(_ other: SpeculationStatistics) {
    steps += other.steps
    shortlistSteps += other.shortlistSteps
    drafted += other.drafted
    accepted += other.accepted
    substituted += other.substituted
    rollbacks += other.rollbacks
    let places = max(draftedByPosition.count, other.draftedByPosition.count)
    func sum(_ a: [Int], _ b: [Int]) -> [Int] {
      (0..<places).map { (a.indices.contains($0) ? a[$0] : 0) + (b.indices.contains($0) ? b[$0] : 0) }
    }
    draftedByPosition = sum(draftedByPosition, other.draftedByPosition)
    acceptedByPosition = sum(acceptedByPosition, other.acceptedByPosition)
    tokensBySource.merge(other.tokensBySource, uniquingKeysWith: +)
    draftSeconds += other.draftSeconds
    verifySeconds += other.verifySeconds
    cacheSeconds += other.cacheSeconds
    samplingSeconds += other.samplingSeconds
    bytesRead += other.bytesRead
    nearestRefusal = [nearestRefusal, other.nearestRefusal].compactMap { $0 }.min()
  }

  mutating func note(_ writer: TokenSource.Writer) {
    tokensBySource[writer.rawValue, default: 0] += 1
  }
}
