/// A small seeded generator, the same on every platform and in every release.
///
/// xoshiro256** of Blackman and Vigna (2018), its state filled by SplitMix64 from one 64-bit seed. The order in which a
/// betting bound sees the samples depends on it. If it ever changed, certificates would stop verifying, so tests pin
/// its first outputs.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  /// Starts the sequence of `seed`; every seed is valid, zero too.
  public init(seed: UInt64) {
    var mixer = seed
    func next() -> UInt64 {
      mixer &+= 0x9E37_79B9_7F4A_7C15
      var z = mixer
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
    state = (next(), next(), next(), next())
  }

  /// The next 64 random bits.
  public mutating func next() -> UInt64 {
    func rotate(_ value: UInt64, _ count: UInt64) -> UInt64 { (value << count) | (value >> (64 &- count)) }
    let result = rotate(state.1 &* 5, 7) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = rotate(state.3, 45)
    return result
  }

  /// A uniform index in 0..<bound, without bias (Lemire 2019: multiply, and redraw the few unfair values).
  ///
  /// Written out because the standard library does not promise which values its own method draws.
  package mutating func index(below bound: Int) -> Int {
    let limit = UInt64(bound)
    var product = next().multipliedFullWidth(by: limit)
    if product.low < limit {
      let unfair = (0 &- limit) % limit
      while product.low < unfair { product = next().multipliedFullWidth(by: limit) }
    }
    return Int(product.high)
  }

  /// A uniform number in [0, 1) with 53 random bits.
  public mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
}

/// In which order a betting bound looks at the calibration samples.
///
/// The bound of Waudby-Smith and Ramdas is valid for any order fixed before the losses are seen. But its value depends
/// on the order, and whoever may choose the seed may choose a lucky one. So by default the bound is averaged over
/// orders. Samples that go on arriving are seen in the order given.
public enum SampleOrder: Sendable, Equatable {
  /// The order of the table.
  case given
  /// The Fisher–Yates shuffle drawn from ``SeededGenerator`` with this seed.
  case shuffled(seed: UInt64)
  /// The mean capital over fifty fixed shuffles (fewer above 20,000 samples): no order, and no seed, to choose.
  case averaged

  /// The order of `count` samples, as indices into the table; count ≤ Int32.max. O(count).
  package func indices(count: Int) -> [Int32] {
    switch self {
    case .given, .averaged: return (0..<count).map(Int32.init)
    case .shuffled(let seed):
      var generator = SeededGenerator(seed: seed)
      return Self.shuffled(count: count, with: &generator)
    }
  }

  package static func shuffled(count: Int, with generator: inout SeededGenerator) -> [Int32] {
    var order = (0..<count).map(Int32.init)
    var last = count - 1
    while last > 0 {
      order.swapAt(last, generator.index(below: last + 1))
      last -= 1
    }
    return order
  }
}
