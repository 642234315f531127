import Transformers

/// Keys and values of sequences that are through or under way, for prompts that begin with the same tokens: a document
/// that is asked about again is not read again.
///
/// What a prompt gets out of it are the very numbers that reading its tokens would give. It has one owner, as a
/// ``BatchDecoder`` has.
public final class PrefixCache {
  private struct Entry {
    var beginning: Beginning
    var lastUse: Int
  }

  /// Bytes of keys and values to keep at most; the sequences that were used longest ago go first.
  public let byteLimit: Int
  /// Tokens that were not read because they were here.
  public private(set) var reusedTokens = 0
  private var entries: [Entry] = []
  private var uses = 0

  /// Beginnings shorter than this are read: to look them up would hardly pay.
  static let shortest = 16

  /// - Parameter byteLimit: Bytes of keys and values to keep at most.
  public init(byteLimit: Int) {
    self.byteLimit = byteLimit
  }

  /// Bytes of keys and values that are kept, and of what guards and drafters have read beside them.
  public var byteCount: Int { entries.reduce(0) { $0 + $1.beginning.byteCount } }

  /// How many of the tokens that a prompt shares with a beginning it can make use of.
  typealias Use = (Beginning, Int) -> Int

  /// The sequence that spares the beginning of a prompt most tokens, and how many.
  ///
  /// - Parameters:
  ///   - others: Sequences under way, to look at beside those that are kept.
  ///   - use: All tokens, unless told otherwise.
  /// - Complexity: O(sequences · tokens shared)
  func longestBeginning(of prompt: [TokenID], orOf others: [Beginning] = [], use: Use = { $1 }) -> (
    read: Beginning, count: Int
  )? {
    guard let (best, place) = longest(prompt, others, use) else { return nil }
    if let place {
      uses += 1
      entries[place].lastUse = uses
    }
    reusedTokens += best.count
    return best
  }

  /// How many tokens that would be.
  func longestCount(of prompt: [TokenID], orOf others: [Beginning], use: Use = { $1 }) -> Int {
    longest(prompt, others, use)?.best.count ?? 0
  }

  private func longest(_ prompt: [TokenID], _ others: [Beginning], _ use: Use) -> (
    best: (read: Beginning, count: Int), place: Int?
  )? {
    var found: (best: (read: Beginning, count: Int), place: Int?)?
    func look(_ other: Beginning, _ place: Int?) {
      let count = use(other, other.shared(with: prompt))
      if count >= Self.shortest, count > found?.best.count ?? 0 { found = ((other, count), place) }
    }
    for (place, entry) in entries.enumerated() { look(entry.beginning, place) }
    for other in others { look(other, nil) }
    return found
  }

  /// Keeps what a sequence has read.
  func insert(_ beginning: Beginning) {
    guard beginning.byteCount <= byteLimit else { return }
    uses += 1
    // One that another goes on from is of no more use.
    entries.removeAll { beginning.replaces($0.beginning) }
    entries.append(Entry(beginning: beginning, lastUse: uses))
    while byteCount > byteLimit,
      let oldest = entries.indices.min(by: { entries[$0].lastUse < entries[$1].lastUse })
    {
      entries.remove(at: oldest)
    }
  }
}
