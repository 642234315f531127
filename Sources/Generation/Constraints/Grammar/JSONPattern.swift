/// A regular expression as JSON Schema has it, as a grammar of the strings that it matches as a whole.
///
/// Offered are classes, groups, alternatives and repetitions. An expression that is not anchored matches strings with
/// anything around it, too; those are left out.
struct JSONPattern {
  /// What is wrong with it.
  struct Fault: Error { var problem: String }

  /// Characters that it may match in all, repetitions multiplied: of repetitions within repetitions, each position is
  /// one that a text may stand at.
  private static let sizeLimit = 1000
  private static let depthLimit = 32

  private let scalars: [Unicode.Scalar]
  private var place = 0
  private var depth = 0
  private var grammar: ByteGrammar

  private struct Part {
    var node: ByteGrammar.Node
    /// Characters that it may match, at most.
    var size: Int
  }

  static func compile(_ pattern: String, into grammar: inout ByteGrammar) throws(Fault) -> ByteGrammar.Node {
    let scalars = Array(pattern.unicodeScalars)
    var reader = JSONPattern(scalars: scalars, grammar: grammar)
    let part = try reader.alternatives(isOutermost: true)
    guard reader.next == nil else { throw Fault(problem: "a bracket closes that was not opened") }
    grammar = reader.grammar
    return part.node
  }

  private init(scalars: [Unicode.Scalar], grammar: ByteGrammar) {
    self.scalars = scalars
    self.grammar = grammar
  }

  private var next: Unicode.Scalar? { place < scalars.count ? scalars[place] : nil }

  private mutating func take(_ scalar: Unicode.Scalar) -> Bool {
    guard next == scalar else { return false }
    place += 1
    return true
  }

  private mutating func add(_ rule: ByteGrammar.Rule) throws(Fault) -> ByteGrammar.Node {
    do {
      return try grammar.add(rule)
    } catch {
      throw Fault(problem: "the schema is too large")
    }
  }

  private mutating func alternatives(isOutermost: Bool) throws(Fault) -> Part {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.depthLimit else {
      throw Fault(problem: "groups stand more than 32 deep in each other")
    }
    var parts: [Part] = []
    repeat { parts.append(try sequence(isOutermost: isOutermost)) } while take("|")
    let size = parts.reduce(0) { $0 + $1.size }
    return Part(node: parts.count == 1 ? parts[0].node : try add(.choice(parts.map(\.node))), size: size)
  }

  private mutating func sequence(isOutermost: Bool) throws(Fault) -> Part {
    var nodes: [ByteGrammar.Node] = []
    var size = 0
    if isOutermost { _ = take("^") }
    while let scalar = next, scalar != "|", scalar != ")" {
      if scalar == "$", isOutermost, place + 1 == scalars.count || scalars[place + 1] == "|" {
        place += 1
        break
      }
      let part = try repeated(try atom())
      nodes.append(part.node)
      size += part.size
      guard size <= Self.sizeLimit else {
        throw Fault(
          problem:
            "its repetitions match more than \(Self.sizeLimit) characters; use maxLength for longer texts")
      }
    }
    return Part(node: try add(.sequence(nodes)), size: size)
  }

  private mutating func repeated(_ part: Part) throws(Fault) -> Part {
    var (least, most): (Int, Int?) = (1, 1)
    if take("*") {
      (least, most) = (0, nil)
    } else if take("+") {
      (least, most) = (1, nil)
    } else if take("?") {
      (least, most) = (0, 1)
    } else if take("{") {
      let first = try count()
      (least, most) = (first, first)
      if take(",") { most = next == "}" ? nil : try count() }
      guard take("}"), most.map({ least <= $0 }) ?? true else {
        throw Fault(problem: "a repetition is not one")
      }
    } else {
      return part
    }
    // Taking few first matches the same texts.
    _ = take("?")
    if let next, "*+?{".unicodeScalars.contains(next) {
      throw Fault(problem: "a repetition is repeated")
    }
    return Part(
      node: try add(.repetition(part.node, least: least, most: most)),
      size: max(1, part.size) * max(1, most ?? least + 1))
  }

  private mutating func count() throws(Fault) -> Int {
    var digits = ""
    while let scalar = next, ("0"..."9").contains(scalar), digits.count < 6 {
      digits.unicodeScalars.append(scalar)
      place += 1
    }
    guard let count = Int(digits), count <= Self.sizeLimit else {
      throw Fault(problem: "expected a number of repetitions in 0...\(Self.sizeLimit)")
    }
    return count
  }

  private mutating func atom() throws(Fault) -> Part {
    guard let scalar = next else { throw Fault(problem: "it ends too soon") }
    place += 1
    switch scalar {
    case "(":
      if take("?"), !take(":") {
        throw Fault(problem: "groups that look ahead, look back or have names are not supported")
      }
      let part = try alternatives(isOutermost: false)
      guard take(")") else { throw Fault(problem: "a group does not end") }
      return part
    case "[": return Part(node: try characterClass(), size: 1)
    case ".":
      return Part(node: try add(.choice([node(Self.others(Characters([]))), beyondASCII()])), size: 1)
    case "\\":
      let set = try escape(inClass: false)
      return Part(node: try node(set), size: 1)
    case "*", "+", "?", "{": throw Fault(problem: "nothing stands before a repetition")
    case "^", "$": throw Fault(problem: "^ and $ are supported at the beginning and at the end only")
    default: return Part(node: try node(Characters([scalar])), size: 1)
    }
  }

  // MARK: - Classes

  /// Characters, by their numbers.
  private struct Characters {
    var members: Set<Unicode.Scalar> = []
    /// Whether it holds white space that is not ASCII, which is not among the members.
    var hasOtherSpace = false

    init(_ members: some Sequence<Unicode.Scalar>) { self.members = Set(members) }
  }

  private static let ascii = (UInt8(0)..<0x80).map { Unicode.Scalar($0) }
  private static let digits = Characters(ascii.filter { ("0"..."9").contains($0) })
  private static let wordCharacters = Characters(
    ascii.filter { $0 == "_" || $0.properties.isAlphabetic || ("0"..."9").contains($0) })
  private static let spaces: Characters = {
    var spaces = Characters(" \t\n\r\u{0B}\u{0C}".unicodeScalars)
    spaces.hasOtherSpace = true
    return spaces
  }()

  /// ASCII that prints and is not in a set.
  private static func others(_ set: Characters) -> Characters {
    Characters(ascii.filter { (0x20..<0x7F).contains($0.value) && !set.members.contains($0) })
  }

  /// What stands after a backslash.
  private mutating func escape(inClass: Bool) throws(Fault) -> Characters {
    guard let scalar = next else { throw Fault(problem: "it ends with a backslash") }
    place += 1
    switch scalar {
    case "d": return Self.digits
    case "w": return Self.wordCharacters
    case "s": return Self.spaces
    case "D": return Self.others(Self.digits)
    case "W": return Self.others(Self.wordCharacters)
    case "S": return Self.others(Self.spaces)
    case "n": return Characters(["\n"])
    case "t": return Characters(["\t"])
    case "r": return Characters(["\r"])
    case "f": return Characters(["\u{0C}"])
    case "v": return Characters(["\u{0B}"])
    case "x": return Characters([try hexadecimal(2)])
    case "u": return Characters([try hexadecimal(4)])
    default:
      guard scalar.isASCII, !scalar.properties.isAlphabetic, !("0"..."9").contains(scalar) else {
        throw Fault(problem: "\\\(scalar) is not supported")
      }
      return Characters([scalar])
    }
  }

  private mutating func hexadecimal(_ count: Int) throws(Fault) -> Unicode.Scalar {
    let digits = scalars[place...].prefix(count).map { String(Character($0)) }.joined()
    guard digits.utf8.count == count, digits.allSatisfy(\.isHexDigit), let value = UInt32(digits, radix: 16),
      let scalar = Unicode.Scalar(value)
    else { throw Fault(problem: "an escape names no character") }
    place += count
    return scalar
  }

  private mutating func characterClass() throws(Fault) -> ByteGrammar.Node {
    let isNegated = take("^")
    var set = Characters([])
    while !take("]") {
      let low = try classMember()
      guard next == "-", place + 1 < scalars.count, scalars[place + 1] != "]" else {
        set.members.formUnion(low.members)
        set.hasOtherSpace = set.hasOtherSpace || low.hasOtherSpace
        continue
      }
      place += 1
      let high = try classMember()
      guard low.members.count == 1, high.members.count == 1, let first = low.members.first?.value,
        let last = high.members.first?.value, first <= last, last - first < 1024
      else { throw Fault(problem: "a range of characters is not one, or has more than 1024") }
      set.members.formUnion((first...last).compactMap { Unicode.Scalar($0) })
    }
    guard isNegated else { return try node(set) }
    let others = try node(Self.others(set))
    // Whatever is not ASCII is not in it, where nothing of it is.
    guard !set.hasOtherSpace, set.members.allSatisfy(\.isASCII) else { return others }
    return try add(.choice([others, beyondASCII()]))
  }

  private mutating func classMember() throws(Fault) -> Characters {
    guard let scalar = next else { throw Fault(problem: "a class of characters does not end") }
    place += 1
    return scalar == "\\" ? try escape(inClass: true) : Characters([scalar])
  }

  /// A character beyond ASCII. Of those of three bytes, the blocks with ends of lines or halves of pairs are left out.
  private mutating func beyondASCII() throws(Fault) -> ByteGrammar.Node {
    let tail = try add(.set(ByteSet(0x80...0xBF)))
    let two = try add(.sequence([add(.set(ByteSet(0xC2...0xDF))), tail]))
    let three = try add(.sequence([add(.set(ByteSet(0xE3...0xEC))), tail, tail]))
    let four = try add(
      .sequence([add(.set(ByteSet([0xF0]))), add(.set(ByteSet(0x90...0xBF))), tail, tail]))
    return try add(.choice([two, three, four]))
  }

  /// One of a set's characters, as it stands in a JSON string.
  private mutating func node(_ set: Characters) throws(Fault) -> ByteGrammar.Node {
    guard !set.members.isEmpty else { throw Fault(problem: "a class matches no character") }
    var single = ByteSet()
    var nodes: [ByteGrammar.Node] = []
    var hasSingle = false
    for scalar in set.members.sorted(by: { $0.value < $1.value }) {
      let bytes = OrderedJSON.escaped(scalar)
      if bytes.count == 1 {
        single.insert(bytes[0])
        hasSingle = true
      } else {
        nodes.append(try add(.bytes(bytes)))
      }
    }
    if hasSingle { nodes.insert(try add(.set(single)), at: 0) }
    return nodes.count == 1 ? nodes[0] : try add(.choice(nodes))
  }
}
