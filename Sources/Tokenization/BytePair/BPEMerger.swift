/// Merges the symbols of one word: the lowest rank first, then from left to right. The pointers must outlive it.
struct BPEMerger {
  let pairs: PairTable.Pointers
  /// The token that each merge makes, by rank.
  let mergedTokens: UnsafeBufferPointer<Int32>
  /// The tokens of the word at hand.
  var symbols: [Int32] = []
  /// ranks[i] is the rank of the merge of symbols i and i + 1.
  private var ranks: [Int32] = []

  /// Words up to this length are merged by scanning for the lowest rank: quadratic, but without a queue.
  private static let scanLimit = 32

  init(pairs: PairTable.Pointers, mergedTokens: UnsafeBufferPointer<Int32>) {
    self.pairs = pairs
    self.mergedTokens = mergedTokens
  }

  /// Merges `symbols` in place.
  ///
  /// - Returns: The number of symbols left, at the start of `symbols`.
  mutating func merge() -> Int {
    symbols.count > Self.scanLimit ? mergeWithQueue() : mergeByScanning()
  }

  private mutating func mergeByScanning() -> Int {
    var count = symbols.count
    guard count > 1 else { return count }
    ranks.removeAll(keepingCapacity: true)
    for position in 1..<count {
      ranks.append(pairs.rank(symbols[position - 1], symbols[position]))
    }
    return symbols.withUnsafeMutableBufferPointer { symbols in
      ranks.withUnsafeMutableBufferPointer { ranks in
        while count > 1 {
          var best = PairTable.noRank
          var left = 0
          for position in 0..<(count - 1) where ranks[position] < best {
            best = ranks[position]
            left = position
          }
          if best == PairTable.noRank { break }
          symbols[left] = mergedTokens[Int(best)]
          count -= 1
          for position in (left + 1)..<max(count, left + 1) {
            symbols[position] = symbols[position + 1]
            ranks[position - 1] = ranks[position]
          }
          if left > 0 {
            ranks[left - 1] = pairs.rank(symbols[left - 1], symbols[left])
          }
          if left < count - 1 {
            ranks[left] = pairs.rank(symbols[left], symbols[left + 1])
          }
        }
        return count
      }
    }
  }

  /// As ``mergeByScanning()``, with a queue of pairs by rank, then from left to right, over a linked list.
  private mutating func mergeWithQueue() -> Int {
    let count = symbols.count
    ranks.removeAll(keepingCapacity: true)
    for position in 1..<count { ranks.append(pairs.rank(symbols[position - 1], symbols[position])) }
    var queue = MergeQueue(
      ranks.enumerated().lazy.filter { $0.element != PairTable.noRank }.map {
        (rank: $0.element, position: $0.offset)
      })
    ranks.append(PairTable.noRank)
    var next = Array(1...count)
    var previous = Array(-1..<(count - 1))
    symbols.withUnsafeMutableBufferPointer { symbols in
      ranks.withUnsafeMutableBufferPointer { ranks in
        next.withUnsafeMutableBufferPointer { next in
          previous.withUnsafeMutableBufferPointer { previous in
            while let (rank, left) = queue.popFirst() {
              // The pair may have been merged into another one since it was put in the queue.
              guard ranks[left] == rank else { continue }
              let right = next[left]
              symbols[left] = mergedTokens[Int(rank)]
              symbols[right] = -1
              ranks[right] = PairTable.noRank
              next[left] = next[right]
              if next[left] < count {
                previous[next[left]] = left
                ranks[left] = pairs.rank(symbols[left], symbols[next[left]])
                if ranks[left] != PairTable.noRank { queue.insert(ranks[left], left) }
              } else {
                ranks[left] = PairTable.noRank
              }
              let before = previous[left]
              if before >= 0 {
                ranks[before] = pairs.rank(symbols[before], symbols[left])
                if ranks[before] != PairTable.noRank { queue.insert(ranks[before], before) }
              }
            }
          }
        }
      }
    }
    var kept = 0
    for position in 0..<count where symbols[position] >= 0 {
      symbols[kept] = symbols[position]
      kept += 1
    }
    return kept
  }
}
