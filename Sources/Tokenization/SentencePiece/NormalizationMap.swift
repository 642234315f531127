/// The compiled normalisation rules of a SentencePiece model (`precompiled_charsmap`).
///
/// Layout, as libsentencepiece writes it: the size in bytes of a double-array trie (UInt32), the trie (UInt32 units,
/// Yata's Darts-clone), then the replacement texts, each ended by NUL. The library follows the trie without looking
/// at bounds, so that every unit it can reach is checked here before it sees a file.
enum NormalizationMap {
  /// The library keeps at most this many rules that begin one another.
  private static let maximumNesting = 32
  /// The longest replacement of Unicode's NFKC has 33 bytes; more than this would only blow up memory.
  private static let maximumReplacement = 1_024

  /// Checks the bytes of `precompiled_charsmap`, which must not be empty.
  static func check(_ blob: ArraySlice<UInt8>, field: String) throws(TokenizerError) {
    func malformed(_ expected: String, _ found: String) -> TokenizerError {
      .malformed(field: field, expected: expected, found: found)
    }
    func unit(_ index: Int) -> UInt32 {
      var value: UInt32 = 0
      for byte in 0..<4 {
        value |= UInt32(blob[blob.startIndex + 4 * index + byte]) << UInt32(8 * byte)
      }
      return value
    }
    guard blob.count > 4 else { throw malformed("a trie and its replacements", "\(blob.count) bytes") }
    let trieSize = Int(unit(0))
    guard trieSize > 0, trieSize % 1_024 == 0, trieSize < blob.count - 4 else {
      throw malformed("a trie size in steps of 1024 below \(blob.count - 4)", "\(trieSize)")
    }
    let units = (1...(trieSize / 4)).map(unit)
    let replacements = blob[(blob.startIndex + 4 + trieSize)...]
    guard replacements.last == 0 else {
      throw malformed("replacements ended by NUL", "\(replacements.last ?? 0)")
    }
    // lengths[i]: the length of the replacement that starts at byte i.
    var lengths = [Int32](repeating: 0, count: replacements.count)
    for index in stride(from: replacements.count - 2, through: 0, by: -1)
    where replacements[replacements.startIndex + index] != 0 {
      lengths[index] = lengths[index + 1] + 1
    }
    try check(units, lengths, malformed)
  }

  /// Walks all nodes from the root. Ends of words are shared, so a node may be reached in several ways; a node that
  /// can be reached from itself would let a rule never end.
  private static func check(
    _ units: [UInt32], _ lengths: [Int32], _ malformed: (String, String) -> TokenizerError
  ) throws(TokenizerError) {
    struct Visit {
      var unit: Int
      /// The children of a node stand at base ^ byte.
      var base: Int
      var nextByte = 0
      /// 1 if a rule ends here.
      var rules: Int
      /// The greatest number of rules that begin one another among the children.
      var nestingBelow = 0
    }
    let unseen = -1
    let open = -2
    /// `unseen`, `open` while its children are looked at, else the greatest number of nested rules from there on.
    var nesting = [Int](repeating: unseen, count: units.count)
    func visit(_ unit: Int) throws(TokenizerError) -> Visit {
      let base = unit ^ offset(units[unit])
      guard base | 0xFF < units.count else {
        throw malformed("trie units below \(units.count)", "\(base | 0xFF)")
      }
      guard units[unit] >> 8 & 1 == 1 else { return Visit(unit: unit, base: base, rules: 0) }
      let value = Int(units[base] & 0x7FFF_FFFF)
      guard value < lengths.count, lengths[value] <= maximumReplacement else {
        throw malformed(
          "replacements below \(lengths.count), of at most \(maximumReplacement) bytes", "\(value)")
      }
      return Visit(unit: unit, base: base, rules: 1)
    }
    var path = [try visit(0)]
    nesting[0] = open
    while var top = path.popLast() {
      guard top.nextByte < 256 else {
        let below = top.rules + top.nestingBelow
        guard below <= maximumNesting else {
          throw malformed("at most \(maximumNesting) rules that begin one another", "\(below)")
        }
        nesting[top.unit] = below
        if var parent = path.popLast() {
          parent.nestingBelow = max(parent.nestingBelow, below)
          path.append(parent)
        }
        continue
      }
      let child = top.base ^ top.nextByte
      let isChild = units[child] & 0x8000_00FF == UInt32(top.nextByte)
      top.nextByte += 1
      if isChild, nesting[child] == open {
        throw malformed("a trie without loops", "a loop at unit \(child)")
      }
      if isChild, nesting[child] >= 0 {
        top.nestingBelow = max(top.nestingBelow, nesting[child])
      }
      path.append(top)
      if isChild, nesting[child] == unseen {
        nesting[child] = open
        path.append(try visit(child))
      }
    }
  }

  private static func offset(_ unit: UInt32) -> Int {
    Int((unit >> 10) << ((unit & 0x200) >> 6))
  }
}
