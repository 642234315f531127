/// A set of bytes.
struct ByteSet: Hashable, Sendable {
  private var words: [UInt64] = [0, 0, 0, 0]

  init(_ bytes: some Sequence<UInt8> = []) { for byte in bytes { insert(byte) } }

  mutating func insert(_ byte: UInt8) { words[Int(byte >> 6)] |= 1 << UInt64(byte & 63) }
  func contains(_ byte: UInt8) -> Bool { words[Int(byte >> 6)] >> UInt64(byte & 63) & 1 == 1 }
}

/// A context-free grammar over bytes, without left recursion: what an output may be.
struct ByteGrammar: Sendable {
  typealias Node = Int

  enum Rule: Sendable {
    /// These bytes, one after the other.
    case bytes([UInt8])
    /// One byte of a set.
    case set(ByteSet)
    /// A byte, and what follows it.
    case branch([UInt8: Node])
    case sequence([Node])
    case choice([Node])
    case repetition(Node, least: Int, most: Int?)
  }

  /// Rules that a grammar may have; a schema of a thousand properties takes a tenth of it.
  static let ruleLimit = 1 << 16
  /// Longer than any output.
  static let infinity = 1 << 40

  private(set) var rules: [Rule] = []
  var root: Node = 0

  mutating func add(_ rule: Rule) throws(GenerationError) -> Node {
    guard rules.count < Self.ruleLimit else { throw .schema(place: "", problem: "it is too large") }
    rules.append(rule)
    return rules.count - 1
  }

  mutating func bytes(_ text: String) throws(GenerationError) -> Node { try add(.bytes(Array(text.utf8))) }

  mutating func optional(_ node: Node) throws(GenerationError) -> Node {
    try add(.repetition(node, least: 0, most: 1))
  }

  /// Gives a node that was added as a place for it its rule.
  mutating func define(_ node: Node, _ rule: Rule) { rules[node] = rule }

  /// One of several texts; those that begin alike part where they differ.
  mutating func oneOf(_ texts: [[UInt8]]) throws(GenerationError) -> Node {
    try oneOf(texts[...].map { $0[...] })
  }

  private mutating func oneOf(_ texts: [ArraySlice<UInt8>]) throws(GenerationError) -> Node {
    if texts.count == 1 { return try add(.bytes(Array(texts[0]))) }
    var groups: [UInt8: [ArraySlice<UInt8>]] = [:]
    var isOver = false
    for text in texts {
      if let first = text.first { groups[first, default: []].append(text.dropFirst()) } else { isOver = true }
    }
    var common: [UInt8] = []
    // What all have in common needs no branches.
    if !isOver, groups.count == 1, let first = texts.first {
      common = Array(first)
      for text in texts {
        common = Array(zip(common, text).prefix { $0 == $1 }.map(\.0))
      }
      let rest = try oneOf(texts.map { $0.dropFirst(common.count) })
      return try add(.sequence([add(.bytes(common)), rest]))
    }
    var branches: [UInt8: Node] = [:]
    for (byte, group) in groups.sorted(by: { $0.key < $1.key }) { branches[byte] = try oneOf(group) }
    let branch = try add(.branch(branches))
    return isOver ? try add(.choice([add(.sequence([])), branch])) : branch
  }

  /// For each rule, the fewest bytes that it takes; ``infinity`` where it never ends.
  func minima() -> [Int] {
    var minima = [Int](repeating: Self.infinity, count: rules.count)
    var changes = true
    while changes {
      changes = false
      // Parts mostly stand before what they are parts of.
      for node in rules.indices {
        let value = min(Self.infinity, minimum(rules[node], minima))
        if value < minima[node] {
          minima[node] = value
          changes = true
        }
      }
    }
    return minima
  }

  private func minimum(_ rule: Rule, _ minima: [Int]) -> Int {
    switch rule {
    case .bytes(let bytes): bytes.count
    case .set: 1
    case .branch(let branches): 1 + (branches.values.map { minima[$0] }.min() ?? Self.infinity)
    case .sequence(let nodes): nodes.reduce(0) { min(Self.infinity, $0 + minima[$1]) }
    case .choice(let nodes): nodes.map { minima[$0] }.min() ?? Self.infinity
    case .repetition(let node, let least, _):
      least == 0 ? 0 : minima[node] >= Self.infinity ? Self.infinity : least * minima[node]
    }
  }

  /// For each byte a class of bytes that the grammar treats alike.
  func byteClasses() -> (classes: [UInt8], count: Int) {
    var classes = [Int](repeating: 0, count: 256)
    var count = 1
    func part(_ contains: (UInt8) -> Bool) {
      var renamed: [Int: Int] = [:]
      for byte in 0..<256 where contains(UInt8(byte)) {
        let old = classes[byte]
        if let new = renamed[old] {
          classes[byte] = new
        } else if (0..<256).contains(where: { classes[$0] == old && !contains(UInt8($0)) }) {
          renamed[old] = count
          classes[byte] = count
          count += 1
        } else {
          renamed[old] = old
        }
      }
    }
    var singles = ByteSet()
    var sets: Set<ByteSet> = []
    for rule in rules {
      switch rule {
      case .bytes(let bytes): for byte in bytes { singles.insert(byte) }
      case .branch(let branches): for byte in branches.keys { singles.insert(byte) }
      case .set(let set): sets.insert(set)
      case .sequence, .choice, .repetition: break
      }
    }
    for set in sets { part(set.contains) }
    for byte in UInt8.min...UInt8.max where singles.contains(byte) { part { $0 == byte } }
    return (classes.map { UInt8($0) }, count)
  }
}
