import TensorKernels

extension BlockFormat {
  /// Random sound blocks of `count` weights, about uniform in ±`scale`. Bits that code numbers are random; scales
  /// and minima are such that the weights come out centred.
  ///
  /// - Parameter count: a multiple of ``blockLength``.
  public func randomBlocks(
    count: Int, scale: Float, using random: inout some RandomNumberGenerator
  ) -> [UInt8] {
    var output: [UInt8] = []
    output.reserveCapacity(count / blockLength * bytesPerBlock)
    func append(_ bits: some FixedWidthInteger) {
      withUnsafeBytes(of: bits.littleEndian) { output += $0 }
    }
    func appendHalf(_ value: Float) { append(BlockFormat.halfBits(value)) }
    func appendNoise(_ count: Int) {
      for _ in 0..<count { output.append(UInt8.random(in: 0...255, using: &random)) }
    }
    func jitter() -> Float { Float.random(in: 0.5...1, using: &random) }
    for _ in 0..<count / blockLength {
      let scale = scale * jitter()
      switch self {
      case .f32: append(Float.random(in: -scale...scale, using: &random).bitPattern)
      case .f16: appendHalf(Float.random(in: -scale...scale, using: &random))
      case .bf16: append(UInt16(Float.random(in: -scale...scale, using: &random).bitPattern >> 16))
      case .q4_0, .q5_0, .q8_0:
        appendHalf(scale / (self == .q4_0 ? 8 : self == .q5_0 ? 16 : 128))
        appendNoise(bytesPerBlock - 2)
      case .q4_1, .q5_1:
        appendHalf(scale * 2 / (self == .q4_1 ? 15 : 31))
        appendHalf(-scale)
        appendNoise(bytesPerBlock - 4)
      case .q4_K, .q5_K:
        // Six-bit scales and minima are random too: the mean scale 32 times the mean number is the mean minimum.
        appendHalf(scale / 32 / (self == .q4_K ? 7.5 : 15.5))
        appendHalf(scale / 32)
        appendNoise(bytesPerBlock - 4)
      case .q2_K:
        // As Q4_K: 4-bit scales of mean 7.5, numbers of mean 1.5.
        appendNoise(bytesPerBlock - 4)
        appendHalf(scale / 7.5 / 1.5)
        appendHalf(scale / 7.5)
      case .q3_K:
        appendNoise(bytesPerBlock - 2)
        appendHalf(scale / 32 / 4)
      case .iq4_NL:
        appendHalf(scale / 120)
        appendNoise(bytesPerBlock - 2)
      case .iq4_XS:
        appendHalf(scale / 120 / 32)
        appendNoise(bytesPerBlock - 2)
      case .mxfp4:
        // The power of two below the scale: the largest number is 12, half a number its unit.
        output.append(UInt8(clamping: (scale / 12).exponent + 128))
        appendNoise(bytesPerBlock - 1)
      case .q6_K:
        appendNoise(bytesPerBlock - 2)
        appendHalf(scale / 74 / 32)
      }
    }
    return output
  }

  /// The half-precision pattern of a number, rounded toward zero.
  public static func halfBits(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let sign = UInt16(bits >> 16) & 0x8000
    let exponent = Int32((bits >> 23) & 0xFF) - 112
    // Subnormal patterns count in steps of 2^-24.
    guard exponent > 0 else { return sign | UInt16(value.magnitude * 0x1p24) }
    guard exponent < 31 else { return sign | 0x7C00 }
    return sign | UInt16(exponent) << 10 | UInt16((bits >> 13) & 0x3FF)
  }
}
