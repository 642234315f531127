import CTensorKernels

extension Float {
  /// The number that an IEEE 754 half-precision pattern stands for, exactly; payloads of NaNs are kept.
  ///
  /// Done in integers because Swift's `Float16` does not exist on x86 macOS and, without the F16C
  /// instructions, is a library call on x86 Linux.
  @inlinable
  package init(halfBits: UInt16) {
    let magnitude = UInt32(halfBits & 0x7FFF) << 13
    let sign = UInt32(halfBits & 0x8000) << 16
    if magnitude >= 0x7C00 << 13 {
      self = Float(bitPattern: sign | magnitude | 0x7F80_0000)
    } else if magnitude >= 0x0400 << 13 {
      // The exponent's bias grows from 15 to 127.
      self = Float(bitPattern: sign | (magnitude + (112 << 23)))
    } else {
      // Subnormal: m × 2^-24. As a mantissa under the exponent of 2^-14 it is 2^-14 too large.
      let shifted = Float(bitPattern: magnitude | (113 << 23)) - Float(bitPattern: 113 << 23)
      self = Float(bitPattern: sign | shifted.bitPattern)
    }
  }

  /// The number that a bfloat16 pattern stands for, exactly.
  @inlinable
  package init(bfloat16Bits: UInt16) {
    self = Float(bitPattern: UInt32(bfloat16Bits) << 16)
  }
}

extension Float {
  /// The nearest half-precision number, as its bits; what is too large becomes infinity.
  package var halfBits: UInt16 { ek_float_to_half(self) }
}
