/// Finds the longest special token that starts at a place in a text.
///
/// A tree of bytes with first children and siblings in flat arrays. A look-up takes at most the length of the longest
/// name, which ``maximumNameLength`` bounds, so that reading a text stays linear whatever the names are.
struct SpecialTokenTrie: Sendable {
  static let maximumNameLength = 512

  /// The node of each first byte, or -1. (256)
  private var roots = [Int32](repeating: -1, count: 256)
  private var bytes: [UInt8] = []
  private var firstChildren: [Int32] = []
  private var siblings: [Int32] = []
  /// The token whose name ends at the node, or -1.
  private var tokens: [Int32] = []

  var isEmpty: Bool { bytes.isEmpty }

  /// Adds a name, which must not be empty.
  ///
  /// - Returns: The token that already has this name, in which case nothing is added.
  mutating func insert(_ name: some Collection<UInt8>, token: Int) -> Int? {
    var node: Int32 = -1
    for byte in name {
      var child = node < 0 ? roots[Int(byte)] : firstChildren[Int(node)]
      while child >= 0, bytes[Int(child)] != byte { child = siblings[Int(child)] }
      if child < 0 {
        child = Int32(bytes.count)
        bytes.append(byte)
        firstChildren.append(-1)
        tokens.append(-1)
        if node < 0 {
          siblings.append(-1)
          roots[Int(byte)] = child
        } else {
          siblings.append(firstChildren[Int(node)])
          firstChildren[Int(node)] = child
        }
      }
      node = child
    }
    guard node >= 0 else { return nil }
    if tokens[Int(node)] >= 0 { return Int(tokens[Int(node)]) }
    tokens[Int(node)] = Int32(token)
    return nil
  }

  /// The greatest number of names of which each begins the next. A child has a higher number than its parent.
  var maximumNesting: Int {
    var nesting = [Int](repeating: 0, count: bytes.count)
    var greatest = 0
    for node in 0..<bytes.count {
      if tokens[node] >= 0 { nesting[node] += 1 }
      greatest = max(greatest, nesting[node])
      var child = firstChildren[node]
      while child >= 0 {
        nesting[Int(child)] = nesting[node]
        child = siblings[Int(child)]
      }
    }
    return greatest
  }

  /// The longest name that stands at `position`.
  func longestMatch(
    _ text: UnsafeBufferPointer<UInt8>, at position: Int
  ) -> (token: Int, length: Int)? {
    var node = roots[Int(text[position])]
    var end = position
    var best: (token: Int, length: Int)?
    while node >= 0 {
      end += 1
      if tokens[Int(node)] >= 0 { best = (Int(tokens[Int(node)]), end - position) }
      guard end < text.count else { break }
      node = firstChildren[Int(node)]
      while node >= 0, bytes[Int(node)] != text[end] { node = siblings[Int(node)] }
    }
    return best
  }

  /// The token of exactly this name.
  func token(named name: [UInt8]) -> Int? {
    guard !name.isEmpty else { return nil }
    return name.withUnsafeBufferPointer { text in
      longestMatch(text, at: 0).flatMap { $0.length == name.count ? $0.token : nil }
    }
  }
}
