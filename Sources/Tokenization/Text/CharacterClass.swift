/// What pre-tokenizers ask of a scalar: the classes of their regular expressions.
enum CharacterClass {
  /// Neither letter, number nor white space: `[^\s\p{L}\p{N}]`. Bytes that are not UTF-8 count as such.
  static let other: UInt8 = 0
  /// `\p{L}`.
  static let letter: UInt8 = 1
  /// `\p{N}`.
  static let number: UInt8 = 2
  /// `\s` other than a line end.
  static let space: UInt8 = 3
  /// `[\r\n]`.
  static let lineEnd: UInt8 = 4

  /// The class of each scalar up to the last letter; scalars past the end are `other`. (203,696 bytes)
  ///
  /// Expanded once from ``UnicodeRanges``, in some 20 µs; looking up general categories one by one in the standard
  /// library takes longer than reading a whole document.
  static let table: [UInt8] = {
    var table = [UInt8](repeating: other, count: 1 + Int(UnicodeRanges.letters.last ?? 0))
    func fill(_ ranges: [UInt32], _ value: UInt8) {
      for index in stride(from: 0, to: ranges.count - 1, by: 2) {
        for scalar in ranges[index]...ranges[index + 1] where Int(scalar) < table.count {
          table[Int(scalar)] = value
        }
      }
    }
    fill(UnicodeRanges.letters, letter)
    fill(UnicodeRanges.numbers, number)
    // The property White_Space, in pairs of first and last.
    fill(
      [
        0x09, 0x0D, 0x20, 0x20, 0x85, 0x85, 0xA0, 0xA0, 0x1680, 0x1680, 0x2000, 0x200A, 0x2028, 0x2029,
        0x202F, 0x202F, 0x205F, 0x205F, 0x3000, 0x3000,
      ], space)
    fill([0x0A, 0x0A, 0x0D, 0x0D], lineEnd)
    return table
  }()
}
