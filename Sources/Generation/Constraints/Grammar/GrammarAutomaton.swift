/// Reads a grammar's texts byte by byte.
///
/// A state is the set of what the grammar may be in the middle of, each a stack of rules; states and what follows them
/// are made when they are first needed and kept. The number of stacks is bounded: of more than ``stackLimit``, those
/// that end soonest stay. What is accepted is always a text of the grammar.
struct GrammarAutomaton: Sendable {
  /// From the outermost rule to the innermost. Each has its node in the upper half, and how far it is in the lower.
  typealias Stack = [UInt64]
  typealias State = Int

  static let start: State = 0
  private static let stackLimit = 512
  /// Rules within each other after which the shortest way out is taken. Readers of JSON take 512 levels.
  private static let heightLimit = 300
  private static let unknown: Int32 = -1
  private static let dead: Int32 = -2

  private let rules: [ByteGrammar.Rule]
  private let minima: [Int]
  /// By node of a sequence: the fewest bytes from each of its parts on.
  private let suffixes: [[Int]]
  private let classes: [UInt8]
  private let classCount: Int

  private var sets: [[Stack]] = []
  private var index: [[Stack]: State] = [:]
  /// By state and class of bytes.
  private var moves: [Int32] = []
  /// By state, the fewest bytes to an end.
  private var distances: [Int] = []

  init(_ grammar: ByteGrammar) {
    rules = grammar.rules
    minima = grammar.minima()
    (classes, classCount) = grammar.byteClasses()
    let minima = minima
    suffixes = rules.map { rule in
      guard case .sequence(let nodes) = rule else { return [] }
      var sums = [0]
      for node in nodes.reversed() {
        sums.append(min(ByteGrammar.infinity, (sums.last ?? 0) + minima[node]))
      }
      return sums.reversed()
    }
    _ = state(closure([[Self.entry(grammar.root, 0)]]))
  }

  var stateCount: Int { sets.count }
  /// Stacks that a state stands for, what a step from it costs.
  func width(_ state: State) -> Int { sets[state].count }
  /// What a state stands for, by which another automaton of the grammar finds it.
  func stacks(_ state: State) -> [Stack] { sets[state] }
  /// The fewest bytes to an end.
  func distance(_ state: State) -> Int { distances[state] }
  func accepts(_ state: State) -> Bool { sets[state].contains([]) }

  /// Forgets all states but the first and one other.
  ///
  /// - Returns: The other's new number.
  mutating func reset(keeping kept: State) -> State {
    let stacks = [sets[Self.start], sets[kept]]
    (sets, index, moves, distances) = ([], [:], [], [])
    _ = state(stacks[0])
    return state(stacks[1])
  }

  /// The state of such stacks.
  mutating func state(_ stacks: [Stack]) -> State {
    if let state = index[stacks] { return state }
    index[stacks] = sets.count
    sets.append(stacks)
    distances.append(stacks.map(distance).min() ?? ByteGrammar.infinity)
    moves += [Int32](repeating: Self.unknown, count: classCount)
    return sets.count - 1
  }

  /// Where a byte leads; `nil` where it may not come next.
  mutating func step(_ state: State, _ byte: UInt8) -> State? {
    let place = state * classCount + Int(classes[Int(byte)])
    let known = moves[place]
    if known != Self.unknown { return known == Self.dead ? nil : Int(known) }
    let next = closure(sets[state].compactMap { advanced($0, byte) })
    guard !next.isEmpty else {
      moves[place] = Self.dead
      return nil
    }
    let target = self.state(next)
    moves[place] = Int32(target)
    return target
  }

  private static func entry(_ node: Int, _ count: Int) -> UInt64 { UInt64(node) << 32 | UInt64(count) }

  /// A stack after a byte that its innermost rule reads.
  private func advanced(_ stack: Stack, _ byte: UInt8) -> Stack? {
    guard let top = stack.last else { return nil }
    let (node, count) = (Int(top >> 32), Int(top & 0xFFFF_FFFF))
    var next = stack
    switch rules[node] {
    case .bytes(let bytes):
      guard bytes[count] == byte else { return nil }
      next.removeLast()
      if count + 1 < bytes.count { next.append(top + 1) }
    case .set(let set):
      guard set.contains(byte) else { return nil }
      next.removeLast()
    case .branch(let branches):
      guard let target = branches[byte] else { return nil }
      next.removeLast()
      next.append(Self.entry(target, 0))
    case .sequence, .choice, .repetition: return nil
    }
    return next
  }

  /// The stacks whose innermost rule reads a byte, or that are empty.
  private func closure(_ stacks: [Stack]) -> [Stack] {
    var work = stacks
    var seen: Set<Stack> = Set(stacks)
    var result: Set<Stack> = []
    func push(_ stack: Stack) { if seen.insert(stack).inserted { work.append(stack) } }
    while var stack = work.popLast() {
      guard let top = stack.popLast() else {
        result.insert([])
        continue
      }
      let (node, count) = (Int(top >> 32), Int(top & 0xFFFF_FFFF))
      let isHigh = stack.count > Self.heightLimit
      switch rules[node] {
      case .bytes(let bytes) where bytes.isEmpty: push(stack)
      case .bytes, .set, .branch: result.insert(stack + [top])
      case .sequence(let nodes):
        guard count < nodes.count else {
          push(stack)
          continue
        }
        if count + 1 < nodes.count { stack.append(top + 1) }
        push(stack + [Self.entry(nodes[count], 0)])
      case .choice(let nodes):
        let open = isHigh ? nodes.min { minima[$0] < minima[$1] }.map { [$0] } ?? [] : nodes
        for node in open { push(stack + [Self.entry(node, 0)]) }
      case .repetition(let body, let least, let most):
        if count >= least {
          push(stack)
          if isHigh { continue }
        }
        if let most {
          guard count < most else { continue }
          if count + 1 < most { stack.append(top + 1) }
        } else {
          stack.append(count < least ? top + 1 : top)
        }
        push(stack + [Self.entry(body, 0)])
      }
    }
    var sorted = result.sorted { $0.lexicographicallyPrecedes($1) }
    if sorted.count > Self.stackLimit {
      let soonest = sorted.map { (distance($0), $0) }.sorted { $0.0 < $1.0 }.prefix(Self.stackLimit)
      sorted = soonest.map(\.1).sorted { $0.lexicographicallyPrecedes($1) }
    }
    return sorted
  }

  /// The fewest bytes that a stack still takes.
  private func distance(_ stack: Stack) -> Int {
    var sum = 0
    for entry in stack {
      let (node, count) = (Int(entry >> 32), Int(entry & 0xFFFF_FFFF))
      switch rules[node] {
      case .bytes(let bytes): sum += bytes.count - count
      case .sequence: sum += suffixes[node][count]
      case .repetition(let body, let least, _): sum += max(0, least - count) * min(minima[body], 1 << 20)
      case .set, .branch, .choice: sum += minima[node]
      }
    }
    return min(sum, ByteGrammar.infinity)
  }
}
