/// The smallest automaton that reads a text's substrings and nothing else (Blumer et al., 1985).
///
/// - Complexity: It is built in O(n) steps and has at most 2 n states and 3 n edges; a step takes O(1), for a state has
///   at most 256 edges.
package struct SuffixAutomaton: Sendable {
  package typealias State = Int32
  package static let root: State = 0

  /// By state: the length of the longest substring that leads to it, where its shorter suffixes lead, its first edge.
  private var lengths: [Int32] = []
  private var links: [State] = []
  private var firstEdges: [Int32] = []
  /// By edge: its symbol, where it leads, the state's next edge or -1.
  private var symbols: [UInt8] = []
  private var targets: [State] = []
  private var nextEdges: [Int32] = []

  package init(_ text: some Sequence<UInt8>) {
    var last = addState(length: 0, link: -1)
    for symbol in text { last = extend(last, symbol) }
  }

  package var stateCount: Int { lengths.count }

  /// Where a symbol leads; `nil` where the text has no such substring.
  package func step(_ state: State, _ symbol: UInt8) -> State? {
    edge(state, symbol).map { targets[$0] }
  }

  private func edge(_ state: State, _ symbol: UInt8) -> Int? {
    var edge = firstEdges[Int(state)]
    while edge >= 0 {
      if symbols[Int(edge)] == symbol { return Int(edge) }
      edge = nextEdges[Int(edge)]
    }
    return nil
  }

  private mutating func addState(length: Int32, link: State) -> State {
    lengths.append(length)
    links.append(link)
    firstEdges.append(-1)
    return State(lengths.count - 1)
  }

  private mutating func addEdge(_ state: State, _ symbol: UInt8, to target: State) {
    symbols.append(symbol)
    targets.append(target)
    nextEdges.append(firstEdges[Int(state)])
    firstEdges[Int(state)] = Int32(symbols.count - 1)
  }

  private mutating func extend(_ last: State, _ symbol: UInt8) -> State {
    let added = addState(length: lengths[Int(last)] + 1, link: Self.root)
    var state = last
    while state >= 0 {
      guard let found = edge(state, symbol) else {
        addEdge(state, symbol, to: added)
        state = links[Int(state)]
        continue
      }
      let target = targets[found]
      if lengths[Int(target)] == lengths[Int(state)] + 1 {
        links[Int(added)] = target
        return added
      }
      // The target stands for longer substrings too, which are followed by less: they part here.
      let copy = addState(length: lengths[Int(state)] + 1, link: links[Int(target)])
      var edge = firstEdges[Int(target)]
      while edge >= 0 {
        addEdge(copy, symbols[Int(edge)], to: targets[Int(edge)])
        edge = nextEdges[Int(edge)]
      }
      links[Int(target)] = copy
      links[Int(added)] = copy
      while state >= 0, let found = self.edge(state, symbol), targets[found] == target {
        targets[found] = copy
        state = links[Int(state)]
      }
      return added
    }
    return added
  }
}
