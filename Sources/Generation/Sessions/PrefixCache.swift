import Transformers

/// Keys and values of sequences that are through, for prompts that begin with the same tokens: a document that is asked
/// about again is not read again.
///
/// What a prompt gets out of it are the very numbers that reading its tokens would give. It has one owner, as a
/// ``BatchDecoder`` has.
public final class PrefixCache {
  private struct Entry {
    var tokens: [TokenID]
    var cache: KeyValueCache
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

  /// Bytes of keys and values that are kept.
  public var byteCount: Int { entries.reduce(0) { $0 + $1.cache.byteCount } }

  /// The sequence that shares most tokens with the beginning of a prompt, and how many.
  ///
  /// - Complexity: O(sequences kept · tokens shared)
  func longestBeginning(of prompt: [TokenID]) -> (cache: KeyValueCache, count: Int)? {
    var best: (place: Int, count: Int)?
    for (place, entry) in entries.enumerated() {
      let shared = zip(entry.tokens, prompt).prefix { $0.0 == $0.1 }.count
      let count = min(shared, entry.cache.filled.min() ?? 0, prompt.count - 1)
      if count >= Self.shortest, count > best?.count ?? 0 { best = (place, count) }
    }
    guard let best else { return nil }
    uses += 1
    entries[best.place].lastUse = uses
    reusedTokens += best.count
    return (entries[best.place].cache, best.count)
  }

  /// Keeps the cache of a sequence.
  ///
  /// - Parameter tokens: Those of the sequence; the last may be missing from the cache.
  func insert(_ tokens: [TokenID], cache: KeyValueCache) {
    guard cache.byteCount <= byteLimit else { return }
    uses += 1
    // One that another goes on from is of no more use.
    entries.removeAll { tokens.starts(with: $0.tokens.prefix($0.cache.filled.min() ?? 0)) }
    entries.append(Entry(tokens: tokens, cache: cache, lastUse: uses))
    while byteCount > byteLimit,
      let oldest = entries.indices.min(by: { entries[$0].lastUse < entries[$1].lastUse })
    {
      entries.remove(at: oldest)
    }
  }
}
