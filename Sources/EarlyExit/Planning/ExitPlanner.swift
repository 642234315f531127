/// Chooses exit layers, confidence measure and cache policy from traces, by what they cost.
///
/// It counts the cost of every look at an exit, of every head, and of the skipped layers' cache. Where no set of exits
/// is cheaper than full depth, it answers full depth.
public struct ExitPlanner {
  /// Confidence measures that a plan may choose.
  public enum Measure: String, Sendable, CaseIterable, Codable { case softmax, saturation, classifier }

  /// One way to leave, and what it gives on the traces.
  public struct Option: Sendable, Equatable {
    /// Exit layers, ascending.
    public var layers: [Int]
    /// The confidence measure.
    public var measure: Measure
    /// What happens to the keys and values of skipped layers.
    public var cache: ExitCachePolicy
    /// The threshold, in 0...1.
    public var threshold: Double
    /// Share of tokens that are the full model's.
    public var agreement: Double
    /// Layers that a token passes, on average.
    public var averageLayer: Double
    /// Of a token, on average, in the unit of the costs.
    public var cost: Double
  }

  /// What the parts of decoding cost.
  public let costs: ExitCosts
  private let traces: ExitTraces
  /// Whether a confidence of the classifier needs the exit's head.
  private let classifierReadsHead: Bool
  private let groupLimit = 16

  /// - Throws: ``EarlyExitError/option(field:expected:found:)`` for traces without a token.
  public init(traces: ExitTraces, costs: ExitCosts, heads: ExitHeads) throws(EarlyExitError) {
    guard traces.tokenCount > 0 else {
      throw .option(field: "traces", expected: "outputs of at least two tokens", found: "none")
    }
    self.traces = traces
    self.costs = costs
    classifierReadsHead = heads.classifiers.values.contains { $0.marginWeight != 0 }
  }

  /// No exits at all.
  public var fullDepth: Option {
    Option(
      layers: [], measure: .softmax, cache: .defer, threshold: 1, agreement: 1,
      averageLayer: Double(traces.layerCount),
      cost: Double(traces.layerCount) * costs.layer(rows: 1) + costs.head)
  }

  /// Sets of at most two exits before the last layer, each with and without the last layer's own exit, if there is one.
  private var layerSets: [[Int]] {
    let inner = traces.layers.filter { $0 < traces.layerCount }
    var sets = inner.map { [$0] }
    for (index, first) in inner.enumerated() { sets += inner[(index + 1)...].map { [first, $0] } }
    guard traces.layers.contains(traces.layerCount) else { return sets }
    return [[traces.layerCount]] + sets + sets.map { $0 + [traces.layerCount] }
  }

  /// The cheapest option whose agreement with the full model is at least this.
  ///
  /// - Parameters:
  ///   - agreement: In 0...1.
  ///   - caches: What may happen to the keys and values of skipped layers.
  public func best(agreement: Double, caches: [ExitCachePolicy] = ExitCachePolicy.allCases) -> Option {
    var best = fullDepth
    for measure in Measure.allCases {
      let thresholds = thresholds(measure)
      for layers in layerSets {
        for cache in caches {
          // Agreement falls and cost falls with the threshold, but for noise: the first that fails ends the walk.
          for threshold in thresholds {
            let option = evaluate(layers, measure, cache, threshold)
            guard option.agreement >= agreement else { break }
            if option.cost < best.cost { best = option }
          }
        }
      }
    }
    return best
  }

  /// Quantiles of the confidences, from the safest down.
  private func thresholds(_ measure: Measure) -> [Double] {
    let all = traces.looks.joined().map { confidence($0, measure) }.sorted(by: >)
    let quantiles = [0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    let values = quantiles.map { all[min(Int($0 * Double(all.count)), all.count - 1)] }
    return Set(values).sorted(by: >)
  }

  private func confidence(_ look: ExitTraces.Look, _ measure: Measure) -> Double {
    switch measure {
    case .softmax: Double(look.softmax)
    case .saturation: Double(look.saturation)
    case .classifier: Double(look.classifier)
    }
  }

  /// What one way to leave gives on the traces.
  public func evaluate(
    _ layers: [Int], _ measure: Measure, _ cache: ExitCachePolicy, _ threshold: Double
  ) -> Option {
    let exits = layers.compactMap { layer in
      traces.layers.firstIndex(of: layer).map { (layer: layer, looks: traces.looks[$0]) }
    }
    var cost = 0.0
    var agreeing = 0
    var layerSum = 0
    for (start, end) in zip(traces.starts, traces.starts.dropFirst()) {
      var text = DepthWork(
        layerCount: traces.layerCount, reads: reads(measure), cache: cache, groupLimit: groupLimit)
      for token in start..<end {
        let left = exits.firstIndex { confidence($0.looks[token], measure) >= threshold }
        let depth = left.map { exits[$0].layer } ?? traces.layerCount
        text.add(looks: left.map { $0 + 1 } ?? exits.count, depth: depth, leavesEarly: left != nil)
        if left.map({ exits[$0].looks[token].agrees }) ?? true { agreeing += 1 }
        layerSum += depth
      }
      cost += costs.cost(of: text.work)
    }
    let count = Double(traces.tokenCount)
    return Option(
      layers: layers, measure: measure, cache: cache, threshold: threshold,
      agreement: Double(agreeing) / count, averageLayer: Double(layerSum) / count, cost: cost / count)
  }

  private func reads(_ measure: Measure) -> ConfidenceInput {
    switch measure {
    case .softmax: .logits
    case .saturation: SaturationConfidence().reads
    case .classifier: classifierReadsHead ? [.hiddenState, .logits] : .hiddenState
    }
  }
}
