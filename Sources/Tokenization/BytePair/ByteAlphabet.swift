/// The printable spelling of bytes in the files of byte-level BPE vocabularies (Radford et al. 2019).
///
/// The 188 printable bytes of Latin-1 stand for themselves; the other 68 are, in ascending order, U+0100 to U+0143.
enum ByteAlphabet {
  /// The scalars, by byte. (256)
  static let scalars: [UInt16] = {
    var scalars = [UInt16](repeating: 0, count: 256)
    var next: UInt16 = 0x100
    for byte in 0..<256 {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF:
        scalars[byte] = UInt16(byte)
      default:
        scalars[byte] = next
        next += 1
      }
    }
    return scalars
  }()

  /// The bytes, by scalar; -1 where a scalar is not in the alphabet. (0x144)
  static let bytes: [Int16] = {
    var bytes = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() {
      bytes[Int(scalar)] = Int16(byte)
    }
    return bytes
  }()

  /// Writes the bytes that a printable spelling stands for.
  ///
  /// - Parameters:
  ///   - output: Room for as many bytes as the spelling has.
  /// - Returns: The number of bytes, or nil if there is a scalar outside the alphabet.
  @inline(__always)
  static func decode(
    _ spelling: UnsafeBufferPointer<UInt8>, _ bytes: UnsafeBufferPointer<Int16>,
    into output: UnsafeMutablePointer<UInt8>
  ) -> Int? {
    var position = 0
    var count = 0
    while position < spelling.count {
      let lead = spelling[position]
      var scalar = Int(lead)
      position += 1
      if lead >= 0x80 {
        guard lead >= 0xC2, lead <= 0xC5, position < spelling.count, spelling[position] & 0xC0 == 0x80 else {
          return nil
        }
        scalar = Int(lead & 0x1F) << 6 | Int(spelling[position] & 0x3F)
        position += 1
      }
      guard scalar < bytes.count, bytes[scalar] >= 0 else { return nil }
      output[count] = UInt8(truncatingIfNeeded: bytes[scalar])
      count += 1
    }
    return count
  }
}
