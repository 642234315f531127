/// What a confidence must do for a model to exit.
public enum ExitComparison: String, Sendable, Equatable, CaseIterable {
  /// Exit where confidence ≥ λ (Schuster et al. 2022).
  case atLeast = "at-least"
  /// Exit where confidence > λ (Jazbec et al. 2024 for diffusion, and much released code).
  case above
}

extension LossTable {
  /// A table from the confidence and the loss of every sample at every exit, swept over every distinct confidence.
  ///
  /// A sample leaves at the first exit whose confidence passes λ, and at the last exit otherwise. The last exit's
  /// confidence is not read. At λ = 1 no sample leaves early, even one with a confidence of 1: such a confidence passes
  /// from the largest number below 1 on.
  ///
  /// - Parameters:
  ///   - confidences: row-major (N, L), each in [0, 1].
  ///   - losses: row-major (N, L), each in [−lossBound, lossBound], relative to the last exit.
  ///   - exitCount: L ≥ 1.
  ///   - exitCosts: (L) or row-major (N, L): what it costs to leave at each exit.
  ///   - lossBound: B.
  ///   - comparison: whether a confidence equal to λ passes.
  ///   - firstRow: whether a first row of zeros is the full model.
  /// - Throws: ``RiskControlError`` naming sample and exit. O(N L log(N L)).
  public init(
    confidences: [Double], losses: [Double], exitCount: Int, exitCosts: [Double]? = nil,
    lossBound: Double = 1,
    comparison: ExitComparison = .atLeast, firstRow: FirstRow = .fullModelWhereZero
  ) throws(RiskControlError) {
    guard exitCount > 0, !confidences.isEmpty, confidences.count % exitCount == 0 else {
      throw .table(
        "\(confidences.count) confidences with \(exitCount) exits; expected samples × exits, at least one of each"
      )
    }
    let count = confidences.count / exitCount
    guard losses.count == confidences.count else {
      throw .table("\(losses.count) losses for \(confidences.count) confidences; expected as many of each")
    }
    if let exitCosts, exitCosts.count != exitCount, exitCosts.count != losses.count {
      throw .table(
        "\(exitCosts.count) costs; expected one an exit (\(exitCount)) or one a sample and exit (\(losses.count))"
      )
    }
    try Self.check(lossBound: lossBound)
    for index in confidences.indices {
      let place = "sample \(index / exitCount + 1), exit \(index % exitCount + 1)"
      guard confidences[index] >= 0, confidences[index] <= 1 else {
        throw .table("\(place): confidence is \(confidences[index]), expected a number in [0, 1]")
      }
      guard losses[index].magnitude <= lossBound else {
        throw .table("\(place): " + Self.complaint(about: losses[index], bound: lossBound))
      }
    }
    var samples: [LossSteps] = []
    samples.reserveCapacity(count)
    let below = comparison == .above ? Self.nextLower(confidences) : [:]
    for sample in 0..<count {
      let start = sample * exitCount
      // Going down from λ = 1, the sample leaves at the exits that set a new record of confidence, last record first.
      var records: [Int] = []
      var best = -Double.infinity
      for exit in 0..<(exitCount - 1) where confidences[start + exit] > best {
        best = confidences[start + exit]
        records.append(exit)
      }
      var steps = LossSteps(thresholds: [1], losses: [losses[start + exitCount - 1]])
      var exits = [exitCount - 1]
      for exit in records.reversed() {
        let confidence = confidences[start + exit]
        let threshold: Double? =
          comparison == .above ? below[confidence] : min(confidence, 1.0.nextDown)
        guard let threshold else { continue }
        steps.thresholds.append(threshold)
        steps.losses.append(losses[start + exit])
        exits.append(exit)
      }
      if let exitCosts {
        steps.costs = exits.map { exitCosts.count == exitCount ? exitCosts[$0] : exitCosts[start + $0] }
      }
      samples.append(steps)
    }
    try self.init(steps: Self.withoutTies(samples), lossBound: lossBound, firstRow: firstRow)
  }

  /// For each confidence, the largest threshold of the sweep strictly below it: where "confidence > λ" first holds.
  private static func nextLower(_ confidences: [Double]) -> [Double: Double] {
    let distinct = Set(confidences).union([0]).sorted()
    return Dictionary(uniqueKeysWithValues: zip(distinct.dropFirst(), distinct))
  }

  /// Two records can begin at one threshold only where rounding below 1 joined them; the earlier exit then wins.
  private static func withoutTies(_ samples: [LossSteps]) -> [LossSteps] {
    samples.map { sample in
      guard zip(sample.thresholds, sample.thresholds.dropFirst()).contains(where: { $0 == $1 }) else {
        return sample
      }
      let kept = sample.thresholds.indices.filter {
        $0 + 1 == sample.thresholds.count || sample.thresholds[$0 + 1] != sample.thresholds[$0]
      }
      return LossSteps(
        thresholds: kept.map { sample.thresholds[$0] }, losses: kept.map { sample.losses[$0] },
        costs: sample.costs.map { costs in kept.map { costs[$0] } })
    }
  }
}
