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

  /// Bytes of keys and values that are kept.
  public var byteCount: Int { entries.reduce(0) { $0 + $1.beginning.cache.byteCount } }

  /// A sequence whose keys and values are those of full depth, as far as `tokens` go and the cache is filled.
  struct Beginning {
    var tokens: [TokenID]
    var cache: KeyValueCache

    /// Tokens of a prompt that need not be read again; its last one is in any case.
    func shared(with prompt: [TokenID]) -> Int {
      min(
        zip(tokens, prompt).prefix { $0.0 == $0.1 }.count, cache.filled.min() ?? 0, prompt.count - 1)
    }
  }

  /// The sequence that shares most tokens with the beginning of a prompt, and how many.
  ///
  /// - Parameter others: Sequences under way, to look at beside those that are kept.
  /// - Complexity: O(sequences · tokens shared)
  func longestBeginning(of prompt: [TokenID], orOf others: [Beginning] = []) -> (
    cache: KeyValueCache, count: Int
  )? {
    guard let (best, place) = longest(prompt, others) else { return nil }
    if let place {
      uses += 1
      entries[place].lastUse = uses
    }
    reusedTokens += best.count
    return best
  }

  /// How many tokens that would be.
  func longestCount(of prompt: [TokenID], orOf others: [Beginning]) -> Int {
    longest(prompt, others)?.best.count ?? 0
  }

  private func longest(_ prompt: [TokenID], _ others: [Beginning]) -> (
    best: (cache: KeyValueCache, count: Int), place: Int?
  )? {
    var found: (best: (cache: KeyValueCache, count: Int), place: Int?)?
    func look(_ other: Beginning, _ place: Int?) {
      let count = other.shared(with: prompt)
      if count >= Self.shortest, count > found?.best.count ?? 0 { found = ((other.cache, count), place) }
    }
    for (place, entry) in entries.enumerated() { look(entry.beginning, place) }
    for other in others { look(other, nil) }
    return found
  }

  /// Keeps the cache of a sequence.
  ///
  /// - Parameter tokens: Those of the sequence; the last may be missing from the cache.
  func insert(_ tokens: [TokenID], cache: KeyValueCache) {
    guard cache.byteCount <= byteLimit else { return }
    uses += 1
    // One that another goes on from is of no more use.
    entries.removeAll { entry in
      tokens.starts(with: entry.beginning.tokens.prefix(entry.beginning.cache.filled.min() ?? 0))
    }
    entries.append(Entry(beginning: Beginning(tokens: tokens, cache: cache), lastUse: uses))
    while byteCount > byteLimit,
      let oldest = entries.indices.min(by: { entries[$0].lastUse < entries[$1].lastUse })
    {
      entries.remove(at: oldest)
    }
  }
}
