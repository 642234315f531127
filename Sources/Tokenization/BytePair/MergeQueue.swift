/// A priority queue of merges: the lowest rank first, then the leftmost position.
///
/// A heap with four children a node, which halves the depth of a binary one: a word of a megabyte has a million pairs.
struct MergeQueue {
  /// Rank in the upper 24 bits, position in the lower 40.
  private var keys: [UInt64] = []

  private static func key(_ rank: Int32, _ position: Int) -> UInt64 {
    UInt64(truncatingIfNeeded: rank) << 40 | UInt64(truncatingIfNeeded: position)
  }

  /// Adds a merge without keeping the order; ``order()`` must follow before anything is taken out.
  mutating func appendUnordered(_ rank: Int32, _ position: Int) {
    keys.append(Self.key(rank, position))
  }

  mutating func order() {
    guard keys.count > 1 else { return }
    keys.withUnsafeMutableBufferPointer { keys in
      for node in stride(from: (keys.count - 2) / 4, through: 0, by: -1) {
        Self.siftDown(keys, node, keys[node])
      }
    }
  }

  mutating func insert(_ rank: Int32, _ position: Int) {
    let key = Self.key(rank, position)
    keys.append(key)
    keys.withUnsafeMutableBufferPointer { keys in
      var node = keys.count - 1
      while node > 0 {
        let parent = (node - 1) / 4
        guard keys[parent] > key else { break }
        keys[node] = keys[parent]
        node = parent
      }
      keys[node] = key
    }
  }

  mutating func popFirst() -> (rank: Int32, position: Int)? {
    guard let first = keys.first, let last = keys.popLast() else { return nil }
    if !keys.isEmpty {
      keys.withUnsafeMutableBufferPointer { Self.siftDown($0, 0, last) }
    }
    return (Int32(truncatingIfNeeded: first >> 40), Int(first & 0xFF_FFFF_FFFF))
  }

  private static func siftDown(_ keys: UnsafeMutableBufferPointer<UInt64>, _ start: Int, _ key: UInt64) {
    var node = start
    while true {
      let firstChild = 4 * node + 1
      guard firstChild < keys.count else { break }
      var least = firstChild
      for child in (firstChild + 1)..<max(firstChild + 1, min(firstChild + 4, keys.count))
      where keys[child] < keys[least] {
        least = child
      }
      guard keys[least] < key else { break }
      keys[node] = keys[least]
      node = least
    }
    keys[node] = key
  }
}
