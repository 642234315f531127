/// From byte strings, kept elsewhere, to token IDs: open addressing, linear probing, at most half full.
///
/// The hash is seeded anew for each table, so that a vocabulary cannot be made to collide on purpose.
struct ByteStringIndex: Sendable {
  /// Upper half: the upper half of the hash; lower half: the ID plus one, or 0 for a free slot. (a power of two)
  private var slots: [UInt64]
  private let mask: Int
  private let multiplier: UInt64

  init(capacity: Int) {
    let size = tableSize(capacity)
    slots = [UInt64](repeating: 0, count: size)
    mask = size - 1
    multiplier = UInt64.random(in: .min ... .max) | 1
  }

  /// Adds the strings `texts[starts[i]..<starts[i + 1]]` under the IDs i, for all i that are `included`.
  ///
  /// - Returns: The first ID whose string is there already, and the ID it is there under; nil if all are distinct.
  mutating func insert(
    _ texts: [UInt8], _ starts: [Int32], where included: [Bool]
  ) -> (token: Int, duplicate: Int)? {
    var slots = slots
    self.slots = []
    defer { self.slots = slots }
    return texts.withUnsafeBufferPointer { texts in
      starts.withUnsafeBufferPointer { starts in
        slots.withUnsafeMutableBufferPointer { slots in
          for token in 0..<included.count where included[token] {
            let key = UnsafeBufferPointer(rebasing: texts[Int(starts[token])..<Int(starts[token + 1])])
            let hash = hash(key)
            var slot = Int(truncatingIfNeeded: hash) & mask
            while slots[slot] != 0 {
              if let found = match(slots[slot], hash, key, texts, starts) { return (token, found) }
              slot = (slot + 1) & mask
            }
            slots[slot] = hash & 0xFFFF_FFFF_0000_0000 | UInt64(token + 1)
          }
          return nil
        }
      }
    }
  }

  /// The ID of a string, or nil.
  @inline(__always)
  func find(
    _ key: UnsafeBufferPointer<UInt8>, _ texts: UnsafeBufferPointer<UInt8>,
    _ starts: UnsafeBufferPointer<Int32>
  ) -> Int? {
    let hash = hash(key)
    var slot = Int(truncatingIfNeeded: hash) & mask
    while slots[slot] != 0 {
      if let found = match(slots[slot], hash, key, texts, starts) { return found }
      slot = (slot + 1) & mask
    }
    return nil
  }

  @inline(__always)
  private func match(
    _ slot: UInt64, _ hash: UInt64, _ key: UnsafeBufferPointer<UInt8>, _ texts: UnsafeBufferPointer<UInt8>,
    _ starts: UnsafeBufferPointer<Int32>
  ) -> Int? {
    guard (slot ^ hash) >> 32 == 0 else { return nil }
    let token = Int(slot & 0xFFFF_FFFF) - 1
    let start = Int(starts[token])
    guard Int(starts[token + 1]) - start == key.count else { return nil }
    return equalBytes(key, texts, start) ? token : nil
  }

  @inline(__always)
  private func hash(_ key: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var hash = UInt64(truncatingIfNeeded: key.count) &* multiplier
    var position = 0
    let raw = UnsafeRawBufferPointer(key)
    while position + 8 <= key.count {
      hash = (hash ^ raw.loadUnaligned(fromByteOffset: position, as: UInt64.self)) &* multiplier
      hash ^= hash >> 32
      position += 8
    }
    // The last 1 to 7 bytes, by loads that may overlap: with the length hashed too, no two strings look the same.
    let left = key.count - position
    var rest: UInt64 = 0
    if left >= 4 {
      rest = UInt64(raw.loadUnaligned(fromByteOffset: position, as: UInt32.self))
      rest |= UInt64(raw.loadUnaligned(fromByteOffset: key.count - 4, as: UInt32.self)) << 32
    } else if left > 0 {
      rest = UInt64(key[position]) | UInt64(key[position + left / 2]) << 8 | UInt64(key[key.count - 1]) << 16
    }
    hash = (hash ^ rest) &* multiplier
    hash ^= hash >> 29
    hash = hash &* 0x9E37_79B9_7F4A_7C15
    return hash ^ hash >> 32
  }
}

/// From pairs of neighbouring tokens to the rank of their merge: open addressing, linear probing, at most half full.
struct PairTable: Sendable {
  static let noRank = Int32.max

  /// Key and rank of each slot, side by side in one cache line; a free slot has the key `UInt64.max`.
  private var slots: [UInt64]
  private let multiplier: UInt64
  private let shift: UInt64

  init(capacity: Int) {
    let size = tableSize(capacity)
    slots = [UInt64](repeating: .max, count: 2 * size)
    shift = UInt64(64 - size.trailingZeroBitCount)
    // Multiply-shift with a random odd factor (Dietzfelbinger et al. 1997): no pairs collide for every factor.
    multiplier = UInt64.random(in: .min ... .max) | 1
  }

  /// Adds a pair.
  ///
  /// - Returns: False, with nothing added, if the pair is already there.
  mutating func insert(_ left: Int32, _ right: Int32, rank: Int32) -> Bool {
    slots.withUnsafeMutableBufferPointer { slots in
      let key = Self.key(left, right)
      var slot = Self.slot(key, multiplier, shift)
      while slots[slot] != .max {
        if slots[slot] == key { return false }
        slot = slot + 2 == slots.count ? 0 : slot + 2
      }
      slots[slot] = key
      slots[slot + 1] = UInt64(truncatingIfNeeded: rank)
      return true
    }
  }

  /// A view for loops.
  struct Pointers {
    let slots: UnsafeBufferPointer<UInt64>
    let multiplier: UInt64
    let shift: UInt64

    /// The rank of the merge of two tokens; ``PairTable/noRank`` if they do not merge.
    @inline(__always)
    func rank(_ left: Int32, _ right: Int32) -> Int32 {
      let key = PairTable.key(left, right)
      var slot = PairTable.slot(key, multiplier, shift)
      while slots[slot] != key {
        if slots[slot] == .max { return PairTable.noRank }
        slot = slot + 2 == slots.count ? 0 : slot + 2
      }
      return Int32(truncatingIfNeeded: slots[slot + 1])
    }
  }

  func withPointers<Result>(_ body: (Pointers) -> Result) -> Result {
    slots.withUnsafeBufferPointer { body(Pointers(slots: $0, multiplier: multiplier, shift: shift)) }
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private static func slot(_ key: UInt64, _ multiplier: UInt64, _ shift: UInt64) -> Int {
    Int(truncatingIfNeeded: (key &* multiplier) >> shift) &* 2
  }
}

/// The smallest power of two, at least 4, that is twice the capacity.
private func tableSize(_ capacity: Int) -> Int {
  var size = 4
  while size < 2 * capacity { size *= 2 }
  return size
}

/// Whether `key` stands at `start` of `texts`, which must have as many bytes from there.
@inline(__always)
func equalBytes(
  _ key: UnsafeBufferPointer<UInt8>, _ texts: UnsafeBufferPointer<UInt8>, _ start: Int
) -> Bool {
  var offset = 0
  let left = UnsafeRawBufferPointer(key)
  let right = UnsafeRawBufferPointer(texts)
  while offset + 8 <= key.count {
    guard
      left.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        == right.loadUnaligned(fromByteOffset: start + offset, as: UInt64.self)
    else { return false }
    offset += 8
  }
  while offset < key.count {
    guard key[offset] == texts[start + offset] else { return false }
    offset += 1
  }
  return true
}
