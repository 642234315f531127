/// What the tokens of one sequence cost by where they leave: their layers, every look at an exit, the head that chooses
/// the token, and the work on the cache of skipped layers.
struct DepthCost {
  private let costs: ExitCosts
  private let layerCount: Int
  private let cache: ExitCachePolicy
  private let groupLimit: Int
  /// One look at an exit.
  private let look: Double
  /// The exit's head, where no look has run it.
  private let leaving: Double
  /// Layers that tokens which left have passed, latest last: never ascending.
  private var waiting: [Int] = []

  /// - Parameters:
  ///   - reads: What the confidence measure reads.
  ///   - groupLimit: Tokens whose completion is pending, at most.
  init(
    _ costs: ExitCosts, layerCount: Int, reads: ConfidenceInput, cache: ExitCachePolicy, groupLimit: Int
  ) {
    self.costs = costs
    self.layerCount = layerCount
    self.cache = cache
    self.groupLimit = groupLimit
    let runsHead = reads.contains(.logits)
    look = (reads.contains(.hiddenState) ? costs.gate : 0) + (runsHead ? costs.exitHead : 0)
    leaving = runsHead ? 0 : costs.exitHead
  }

  /// A token that passes all layers and looks at no exit.
  static func fullDepth(_ costs: ExitCosts, layerCount: Int) -> Double {
    Double(layerCount) * costs.layer(rows: 1) + costs.head
  }

  /// The next token of the sequence.
  ///
  /// - Parameters:
  ///   - looks: Exits that were looked at.
  ///   - depth: Layers passed.
  ///   - leavesEarly: Whether an exit chose the token; the last layer can be one.
  mutating func token(looks: Int, depth: Int, leavesEarly: Bool) -> Double {
    var cost = Double(looks) * look + (leavesEarly ? leaving : costs.head)
    switch cache {
    case .propagate:
      cost += Double(depth) * costs.layer(rows: 1) + Double(layerCount - depth) * costs.propagatedLayer
    case .defer:
      waiting.append(0)
      cost += advance(to: depth)
      if waiting.count >= groupLimit { cost += advance(to: layerCount) }
      waiting.removeAll { $0 == layerCount }
    }
    return cost
  }

  /// Takes all tokens to a layer, each layer as one batch of those that need it.
  private mutating func advance(to depth: Int) -> Double {
    var cost = 0.0
    for layer in waiting.min().map({ $0..<max(depth, $0) }) ?? 0..<0 {
      cost += costs.layer(rows: waiting.count { $0 <= layer })
    }
    waiting = waiting.map { max($0, depth) }
    return cost
  }
}
