/// The numbers that the nibbles of IQ4_NL and IQ4_XS stand for.
private let nonLinearValues: [Int8] = [
  -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
]

/// The numbers that the nibbles of MXFP4 stand for, doubled: floats of a sign, two bits of exponent and one of
/// mantissa.
private let doubledFloat4Values: [Int8] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

/// Half of the power of two that an exponent byte stands for (OCP Microscaling Formats 1.0, E8M0).
private func halvedPowerOfTwo(_ exponent: UInt8) -> Float {
  exponent < 2
    ? Float(bitPattern: 0x0020_0000 << UInt32(exponent)) : Float(bitPattern: UInt32(exponent - 1) << 23)
}

/// 16 bytes of a scale and a minimum of 4 bits each · 64 bytes of bit pairs, in two groups of 128 weights · d · dmin.
/// w = (d s) q − dmin m, one scale and minimum for 16 weights
func dequantizeQ2_K(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 80)
  let minimum = half(block, 82)
  for part in 0..<16 {
    let factors = byte(block, part)
    let partScale = scale * Float(factors & 15)
    let partMinimum = minimum * Float(factors >> 4)
    let (group, within) = (part / 8, part % 8)
    for j in 0..<16 {
      let quant = (byte(block, 16 + group * 32 + within % 2 * 16 + j) >> UInt8(within / 2 * 2)) & 3
      output[part * 16 + j] = partScale * Float(quant) - partMinimum
    }
  }
}

/// 32 bytes of third bits, where a clear bit means −4 · 64 bytes of bit pairs as in Q2_K · 16 scales of 6 bits in 12
/// bytes · d. w = d (s − 32) q, one scale for 16 weights
func dequantizeQ3_K(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 108)
  for part in 0..<16 {
    // Low four bits: of parts 0…7 in the low nibbles of eight bytes, of 8…15 in the high ones. High two: four bytes.
    let low = (byte(block, 96 + part % 8) >> UInt8(part / 8 * 4)) & 15
    let high = (byte(block, 104 + part % 4) >> UInt8(part / 4 * 2)) & 3
    let partScale = scale * Float(Int32(low | high << 4) - 32)
    let (group, within) = (part / 8, part % 8)
    for j in 0..<16 {
      let at = within % 2 * 16 + j
      let pair = (byte(block, 32 + group * 32 + at) >> UInt8(within / 2 * 2)) & 3
      let isSet = (byte(block, at) >> UInt8(part / 2)) & 1 == 1
      output[part * 16 + j] = partScale * Float(Int32(pair) - (isSet ? 0 : 4))
    }
  }
}

/// d · 16 bytes of nibbles as in Q4_0. w = d v(q)
func dequantizeIQ4_NL(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  for j in 0..<16 {
    let pair = byte(block, 2 + j)
    output[j] = scale * Float(nonLinearValues[Int(pair & 15)])
    output[j + 16] = scale * Float(nonLinearValues[Int(pair >> 4)])
  }
}

/// d · high bits of eight scales (2 bytes) · their low nibbles (4) · eight times 16 bytes of nibbles.
/// w = d (s − 32) v(q), one scale for 32 weights
func dequantizeIQ4_XS(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let highBits = word(block, 2)
  for part in 0..<8 {
    let low = (byte(block, 4 + part / 2) >> UInt8(part % 2 * 4)) & 15
    let high = UInt8(truncatingIfNeeded: highBits >> UInt16(2 * part)) & 3
    let partScale = scale * Float(Int32(low | high << 4) - 32)
    for j in 0..<16 {
      let pair = byte(block, 8 + part * 16 + j)
      output[part * 32 + j] = partScale * Float(nonLinearValues[Int(pair & 15)])
      output[part * 32 + 16 + j] = partScale * Float(nonLinearValues[Int(pair >> 4)])
    }
  }
}

/// An exponent · 16 bytes of nibbles as in Q4_0. w = 2^(e − 128) v(q)
func dequantizeMXFP4(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = halvedPowerOfTwo(byte(block, 0))
  for j in 0..<16 {
    let pair = byte(block, 1 + j)
    output[j] = scale * Float(doubledFloat4Values[Int(pair & 15)])
    output[j + 16] = scale * Float(doubledFloat4Values[Int(pair >> 4)])
  }
}
