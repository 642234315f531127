/// Damage at random to files that tests of hostile input start from.
public enum Mutation {
  /// One to four edits: bits, bytes, interesting 32- and 64-bit numbers, cut ends, removed and repeated ranges.
  package static func edit(_ bytes: [UInt8], upTo end: Int, using random: inout SplitMix64) -> [UInt8] {
    let numbers: [UInt64] = [
      0, 1, 2, 3, 8, 9, 10, 31, 32, 33, 255, 256, 65_535, 65_536, 1 << 31, (1 << 31) - 1, (1 << 32) - 1,
      1 << 32,
      1 << 60, 1 << 62, (1 << 63) - 1, 1 << 63, .max - 31, .max - 7, .max,
    ]
    var result = bytes
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let limit = min(end, result.count)
      guard limit > 0 else { break }
      let position = Int.random(in: 0..<limit, using: &random)
      switch Int.random(in: 0..<8, using: &random) {
      case 0, 1: result[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: result[position] = UInt8.random(in: 0...255, using: &random)
      case 3, 4:
        let width = Bool.random(using: &random) ? 4 : 8
        let number = numbers[Int.random(in: 0..<numbers.count, using: &random)]
        withUnsafeBytes(of: number.littleEndian) { source in
          for (offset, byte) in source.prefix(width).enumerated() where position + offset < result.count {
            result[position + offset] = byte
          }
        }
      case 5: result.removeLast(result.count - position)
      case 6: result.removeSubrange(position..<min(position + Int.random(in: 1...16, using: &random), limit))
      default:
        let range = position..<min(position + Int.random(in: 1...64, using: &random), limit)
        result.insert(contentsOf: result[range], at: position)
      }
    }
    return result
  }

  /// Edits that keep JSON close to JSON: digits become others, and fragments take the place of characters.
  package static func editText(_ bytes: [UInt8], upTo end: Int, using random: inout SplitMix64) -> [UInt8] {
    let fragments = [
      "{", "}", "[", "]", ",", ":", "\"", "\\", "0", "9", "-", "null", "true", "1e999",
      "99999999999999999999",
      "[[[[", "{\"a\":1}", "\\u0000", "\u{FF}", "1.5", "F16", "I64", " ",
    ]
    var result = bytes
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      let limit = min(end, result.count)
      guard limit > 8 else { break }
      let position = Int.random(in: 8..<limit, using: &random)
      if (0x30...0x39).contains(result[position]) || Bool.random(using: &random) {
        result[position] = UInt8.random(in: 0x30...0x39, using: &random)
      } else {
        let fragment = fragments[Int.random(in: 0..<fragments.count, using: &random)]
        result.replaceSubrange(position..<position + 1, with: Array(fragment.utf8))
      }
    }
    return result
  }
}
