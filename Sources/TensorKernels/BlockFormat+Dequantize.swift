extension BlockFormat {
  /// Decodes consecutive blocks of this format into floats: the reference that faster kernels are tested against.
  ///
  /// As many whole blocks are decoded as are both complete in `bytes` and have room in `output`; a caller that
  /// compares the result with the count it wants has checked both sizes. `bytes` may be unaligned.
  ///
  /// The arithmetic is that of the `gguf` Python package, in the same order, so that results agree to the bit.
  ///
  /// - Returns: how many floats were written to the start of `output`, which need not be initialised before.
  public func dequantize(
    _ bytes: UnsafeRawBufferPointer, into output: UnsafeMutableBufferPointer<Float>
  ) -> Int {
    let blocks = min(bytes.count / bytesPerBlock, output.count / blockLength)
    guard blocks > 0, let input = bytes.baseAddress, let output = output.baseAddress else { return 0 }
    switch self {
    case .f32:
      for i in 0..<blocks {
        let bits = UInt32(littleEndian: input.loadUnaligned(fromByteOffset: i * 4, as: UInt32.self))
        output[i] = Float(bitPattern: bits)
      }
    case .f16: for i in 0..<blocks { output[i] = half(input, i * 2) }
    case .bf16: for i in 0..<blocks { output[i] = Float(bfloat16Bits: word(input, i * 2)) }
    case .q4_0: for i in 0..<blocks { dequantizeQ4_0(input + i * 18, output + i * 32) }
    case .q4_1: for i in 0..<blocks { dequantizeQ4_1(input + i * 20, output + i * 32) }
    case .q5_0: for i in 0..<blocks { dequantizeQ5_0(input + i * 22, output + i * 32) }
    case .q5_1: for i in 0..<blocks { dequantizeQ5_1(input + i * 24, output + i * 32) }
    case .q8_0: for i in 0..<blocks { dequantizeQ8_0(input + i * 34, output + i * 32) }
    case .q2_K: for i in 0..<blocks { dequantizeQ2_K(input + i * 84, output + i * 256) }
    case .q3_K: for i in 0..<blocks { dequantizeQ3_K(input + i * 110, output + i * 256) }
    case .q4_K: for i in 0..<blocks { dequantizeQ4_K(input + i * 144, output + i * 256) }
    case .q5_K: for i in 0..<blocks { dequantizeQ5_K(input + i * 176, output + i * 256) }
    case .q6_K: for i in 0..<blocks { dequantizeQ6_K(input + i * 210, output + i * 256) }
    case .iq4_NL: for i in 0..<blocks { dequantizeIQ4_NL(input + i * 18, output + i * 32) }
    case .iq4_XS: for i in 0..<blocks { dequantizeIQ4_XS(input + i * 136, output + i * 256) }
    case .mxfp4: for i in 0..<blocks { dequantizeMXFP4(input + i * 17, output + i * 32) }
    }
    return blocks * blockLength
  }
}

func word(_ input: UnsafeRawPointer, _ offset: Int) -> UInt16 {
  UInt16(littleEndian: input.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
}

func half(_ input: UnsafeRawPointer, _ offset: Int) -> Float {
  Float(halfBits: word(input, offset))
}

func byte(_ input: UnsafeRawPointer, _ offset: Int) -> UInt8 {
  input.load(fromByteOffset: offset, as: UInt8.self)
}

/// scale (2 bytes) · 16 bytes of nibbles: low ones are weights 0…15, high ones 16…31. w = d (q − 8)
private func dequantizeQ4_0(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  for j in 0..<16 {
    let pair = byte(block, 2 + j)
    output[j] = Float(Int32(pair & 15) - 8) * scale
    output[j + 16] = Float(Int32(pair >> 4) - 8) * scale
  }
}

/// scale · minimum · 16 bytes of nibbles. w = d q + m
private func dequantizeQ4_1(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let minimum = half(block, 2)
  for j in 0..<16 {
    let pair = byte(block, 4 + j)
    output[j] = Float(pair & 15) * scale + minimum
    output[j + 16] = Float(pair >> 4) * scale + minimum
  }
}

/// The fifth bits of the 32 weights are the bits of a 32-bit number.
private func highBits(_ block: UnsafeRawPointer, _ offset: Int) -> UInt32 {
  UInt32(littleEndian: block.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
}

/// scale · 32 fifth bits · 16 bytes of nibbles. w = d (q − 16)
private func dequantizeQ5_0(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let high = highBits(block, 2)
  for j in 0..<16 {
    let pair = UInt32(byte(block, 6 + j))
    let first = (pair & 15) | ((high >> UInt32(j)) & 1) << 4
    let second = (pair >> 4) | ((high >> UInt32(j + 16)) & 1) << 4
    output[j] = Float(Int32(first) - 16) * scale
    output[j + 16] = Float(Int32(second) - 16) * scale
  }
}

/// scale · minimum · 32 fifth bits · 16 bytes of nibbles. w = d q + m
private func dequantizeQ5_1(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let minimum = half(block, 2)
  let high = highBits(block, 4)
  for j in 0..<16 {
    let pair = UInt32(byte(block, 8 + j))
    let first = (pair & 15) | ((high >> UInt32(j)) & 1) << 4
    let second = (pair >> 4) | ((high >> UInt32(j + 16)) & 1) << 4
    output[j] = Float(first) * scale + minimum
    output[j + 16] = Float(second) * scale + minimum
  }
}

/// scale · 32 signed bytes. w = d q
private func dequantizeQ8_0(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  for j in 0..<32 {
    output[j] = Float(Int8(bitPattern: byte(block, 2 + j))) * scale
  }
}

/// Scale and minimum number `index` of the eight of a K block: 6 bits each, packed into 12 bytes.
///
/// The first four of each lie in the low 6 bits of bytes 0…3 and 4…7; the other four have their low 4 bits in
/// bytes 8…11 and their high 2 bits on top of the former.
private func scaleAndMinimum(_ packed: UnsafeRawPointer, _ index: Int) -> (scale: Float, minimum: Float) {
  if index < 4 {
    return (Float(byte(packed, index) & 63), Float(byte(packed, index + 4) & 63))
  }
  let low = byte(packed, index + 4)
  let scale = (low & 15) | (byte(packed, index - 4) >> 6) << 4
  let minimum = (low >> 4) | (byte(packed, index) >> 6) << 4
  return (Float(scale), Float(minimum))
}

/// d · dmin · 8 scales and minima (12 bytes) · 128 bytes of nibbles, in four groups of 64 weights.
/// w = (d s) q − dmin m
private func dequantizeQ4_K(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let minimum = half(block, 2)
  for group in 0..<4 {
    let low = scaleAndMinimum(block + 4, 2 * group)
    let high = scaleAndMinimum(block + 4, 2 * group + 1)
    let (lowScale, lowMinimum) = (scale * low.scale, minimum * low.minimum)
    let (highScale, highMinimum) = (scale * high.scale, minimum * high.minimum)
    for j in 0..<32 {
      let pair = byte(block, 16 + group * 32 + j)
      output[group * 64 + j] = lowScale * Float(pair & 15) - lowMinimum
      output[group * 64 + 32 + j] = highScale * Float(pair >> 4) - highMinimum
    }
  }
}

/// As Q4_K with 32 bytes of fifth bits before the nibbles: bit k of byte j is that of weight 32 k + j.
private func dequantizeQ5_K(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 0)
  let minimum = half(block, 2)
  for group in 0..<4 {
    let low = scaleAndMinimum(block + 4, 2 * group)
    let high = scaleAndMinimum(block + 4, 2 * group + 1)
    let (lowScale, lowMinimum) = (scale * low.scale, minimum * low.minimum)
    let (highScale, highMinimum) = (scale * high.scale, minimum * high.minimum)
    for j in 0..<32 {
      let fifth = byte(block, 16 + j) >> UInt8(2 * group)
      let pair = byte(block, 48 + group * 32 + j)
      output[group * 64 + j] = lowScale * Float((pair & 15) | (fifth & 1) << 4) - lowMinimum
      output[group * 64 + 32 + j] = highScale * Float((pair >> 4) | (fifth & 2) << 3) - highMinimum
    }
  }
}

/// 128 bytes of low nibbles · 64 bytes of high bit pairs · 16 signed scales · d, in two groups of 128 weights.
/// w = (d s) (q − 32), one scale for 16 weights
private func dequantizeQ6_K(_ block: UnsafeRawPointer, _ output: UnsafeMutablePointer<Float>) {
  let scale = half(block, 208)
  for group in 0..<2 {
    for quarter in 0..<4 {
      for j in 0..<32 {
        let nibbles = byte(block, group * 64 + (quarter & 1) * 32 + j)
        let low = quarter < 2 ? nibbles & 15 : nibbles >> 4
        let high = (byte(block, 128 + group * 32 + j) >> UInt8(2 * quarter)) & 3
        let factor = Int8(bitPattern: byte(block, 192 + group * 8 + quarter * 2 + j / 16))
        output[group * 128 + quarter * 32 + j] =
          scale * Float(factor) * Float(Int32(low | high << 4) - 32)
      }
    }
  }
}
