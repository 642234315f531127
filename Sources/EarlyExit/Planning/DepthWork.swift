/// What the tokens of one sequence take by where they leave: their layers, every look at an exit, the head that chooses
/// the token, and the work on the cache of skipped layers.
struct DepthWork {
  /// Of all tokens so far.
  private(set) var work = ExitWork()
  private let layerCount: Int
  private let cache: ExitCachePolicy
  private let groupLimit: Int
  private let reads: ConfidenceInput
  /// Layers that tokens which left have passed, latest last: never ascending.
  private var waiting: [Int] = []

  /// - Parameters:
  ///   - reads: What the confidence measure reads.
  ///   - groupLimit: Tokens whose completion is pending, at most.
  init(layerCount: Int, reads: ConfidenceInput, cache: ExitCachePolicy, groupLimit: Int) {
    self.layerCount = layerCount
    self.reads = reads
    self.cache = cache
    self.groupLimit = groupLimit
  }

  /// The next token of the sequence, which passes all layers and looks at no exit.
  mutating func addFullDepth() {
    work.add(layers: layerCount, rows: 1)
    work.head += 1
  }

  /// The next token of the sequence.
  ///
  /// - Parameters:
  ///   - looks: Exits that were looked at.
  ///   - depth: Layers passed.
  ///   - leavesEarly: Whether an exit chose the token; the last layer can be one.
  mutating func add(looks: Int, depth: Int, leavesEarly: Bool) {
    let runsHead = reads.contains(.logits)
    if reads.contains(.hiddenState) { work.gate += looks }
    if runsHead { work.exitHead += looks }
    if !leavesEarly {
      work.head += 1
    } else if !runsHead {
      // No look has run the exit's head.
      work.exitHead += 1
    }
    switch cache {
    case .propagate:
      work.add(layers: depth, rows: 1)
      work.propagatedLayer += layerCount - depth
    case .defer:
      waiting.append(0)
      advance(to: depth)
      if waiting.count >= groupLimit { advance(to: layerCount) }
      waiting.removeAll { $0 == layerCount }
    }
  }

  /// Takes all tokens to a layer, each layer as one batch of those that need it.
  private mutating func advance(to depth: Int) {
    for layer in waiting.min().map({ $0..<max(depth, $0) }) ?? 0..<0 {
      work.add(layers: 1, rows: waiting.count { $0 <= layer })
    }
    waiting = waiting.map { max($0, depth) }
  }
}
