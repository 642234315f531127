extension BlockFormat {
  /// Where the first block lies that does not decode to finite numbers, as the number of its first weight; nil when all
  /// do.
  ///
  /// It reads scales and floats only, not every weight of a quantised block.
  ///
  /// - Parameter bytes: whole blocks; they may be unaligned.
  /// - Complexity: O(bytes) for floats, O(blocks) for other formats.
  public func firstNonFinite(in bytes: UnsafeRawBufferPointer) -> Int? {
    switch self {
    case .f32: return Self.first(in: bytes, of: UInt32.self, exponent: 0x7F80_0000)
    case .f16: return Self.first(in: bytes, of: UInt16.self, exponent: 0x7C00)
    case .bf16: return Self.first(in: bytes, of: UInt16.self, exponent: 0x7F80)
    case .mxfp4:
      // The largest number is 12 · 2^(e − 128); 255 stands for no number at all.
      return blockIndices(bytes).first { bytes[$0] > 252 }.map { $0 / bytesPerBlock * blockLength }
    case .q4_0, .q5_0, .q8_0, .iq4_NL, .iq4_XS: return firstBlock(in: bytes, halves: [0])
    case .q4_1, .q5_1, .q4_K, .q5_K: return firstBlock(in: bytes, halves: [0, 2])
    case .q2_K: return firstBlock(in: bytes, halves: [80, 82])
    case .q3_K: return firstBlock(in: bytes, halves: [108])
    case .q6_K: return firstBlock(in: bytes, halves: [208])
    }
  }

  private func blockIndices(_ bytes: UnsafeRawBufferPointer) -> StrideTo<Int> {
    stride(from: 0, to: bytes.count / bytesPerBlock * bytesPerBlock, by: bytesPerBlock)
  }

  /// The first block in which one of the half-precision numbers at these offsets has all exponent bits set.
  private func firstBlock(in bytes: UnsafeRawBufferPointer, halves: [Int]) -> Int? {
    let (first, last) = (halves.min() ?? 0, halves.max() ?? 0)
    for start in blockIndices(bytes) {
      let one = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: start + first, as: UInt16.self))
      let other = UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: start + last, as: UInt16.self))
      if one & 0x7C00 == 0x7C00 || other & 0x7C00 == 0x7C00 { return start / bytesPerBlock * blockLength }
    }
    return nil
  }

  private static func first<Bits: FixedWidthInteger & UnsignedInteger>(
    in bytes: UnsafeRawBufferPointer, of type: Bits.Type, exponent: Bits
  ) -> Int? {
    let size = MemoryLayout<Bits>.size
    let count = bytes.count / size
    // Runs without a branch inside, which the compiler makes wide.
    let run = 1024
    for start in stride(from: 0, to: count, by: run) {
      let end = min(start + run, count)
      var found: Bits = 0
      for index in start..<end {
        let bits = Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: index * size, as: Bits.self))
        found |= bits & exponent == exponent ? 1 : 0
      }
      if found == 0 { continue }
      for index in start..<end {
        let bits = Bits(littleEndian: bytes.loadUnaligned(fromByteOffset: index * size, as: Bits.self))
        if bits & exponent == exponent { return index }
      }
    }
    return nil
  }
}
