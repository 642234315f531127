/// A small random number generator whose draws depend on its seed alone, on every platform.
///
/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014). The standard
/// library's own generators promise no fixed sequence. Sampled tokens, refined exit heads and the tests draw from this
/// one.
///
/// There is one other: `SeededGenerator` of RiskControl, a xoshiro256**, which shuffles calibration samples. They are
/// not made one. Outputs that were published with a seed depend on this sequence, and so do the digests of exit heads.
/// A certificate with a shuffled order verifies only with the other. RiskControl also imports nothing of ours.
package struct SamplingGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) {
    state = seed
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number in [0, 1), a multiple of 2^-53.
  package mutating func uniform() -> Double {
    Double(next() >> 11) * 0x1p-53
  }
}
