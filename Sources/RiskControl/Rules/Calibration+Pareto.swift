extension Calibration {
  /// The policy and threshold that Pareto testing chose.
  public struct ParetoResult: Sendable, Equatable {
    /// The policy whose threshold ``result`` names; nil where nothing is certified.
    public let chosen: Int?
    /// The outcome on the samples that tested. Cost, bound and observed risk are of those samples.
    public let result: CalibrationResult
    /// How many samples chose the candidates.
    public let designCount: Int
    /// How many samples tested the candidates.
    public let testCount: Int
    /// How many candidates the sequence had.
    public let candidateCount: Int
  }

  /// Chooses among policies and their thresholds at full δ, for the price of a third of the samples.
  ///
  /// Every third sample is a design sample. Among the thresholds of all policies, the design samples pick those that no
  /// other beats in both risk and cost, and order them by risk. The other samples test them in that order until the
  /// first fails (Laufer-Goldshtein et al. 2023). The tests do not change the sequence, so all thresholds that passed
  /// hold together with probability 1 − δ. The last of them is the cheapest.
  ///
  /// It pays for very many policies only. In simulations of 8 to 20 policies of 20 thresholds each and 100 to 1,000
  /// samples, dividing δ (``choose(among:)``) came out 6 to 25 % cheaper. A third of the samples is a high price, and
  /// the first candidates look better on the design samples than they are.
  ///
  /// - Throws: ``RiskControlError`` for rules that give no probability, for ``RiskBound/anytime`` (the design would
  ///   change as samples arrive), for tables without costs or of different samples, and for too few samples.
  public func paretoTest(_ policies: [Policy]) throws(RiskControlError) -> ParetoResult {
    let tables = try checked(policies)
    let count = tables[0].sampleCount
    let design = (0..<Int32(count)).filter { $0 % 3 == 0 }
    let test = (0..<Int32(count)).filter { $0 % 3 != 0 }
    guard !design.isEmpty, !test.isEmpty else {
      throw .table("\(count) samples; Pareto testing needs at least 2, of which a third chooses what to test")
    }
    let bound = tables.map(\.lossBound).max() ?? 1
    let smallest = settings.smallestCertifiableEpsilon(sampleCount: test.count, lossBound: bound)
    let candidates = Self.front(tables, design: design)
    let walk = ThresholdWalk(
      settings: settings, order: settings.order.indices(count: test.count).map { test[Int($0)] }, weights: nil
    )
    var passed: ParetoCandidate?
    var failed: ParetoCandidate?
    for candidate in candidates {
      guard walk.passes(tables[candidate.policy], row: candidate.row, epsilon: settings.epsilon) else {
        failed = candidate
        break
      }
      passed = candidate
    }
    func choice(_ candidate: ParetoCandidate) -> ThresholdChoice {
      let table = tables[candidate.policy]
      let isFullModel = candidate.row == 0 && table.startsAtFullModel
      let statement = walk.statement(table, row: candidate.row)
      return ThresholdChoice(
        index: candidate.row, threshold: table.thresholds[candidate.row],
        upperBound: isFullModel ? 0 : statement.upperBound,
        empiricalRisk: isFullModel ? 0 : statement.empiricalRisk,
        cost: table.meanCost(row: candidate.row, columns: test),
        safestCost: table.meanCost(row: 0, columns: test))
    }
    func isFullModel(_ candidate: ParetoCandidate) -> Bool {
      candidate.row == 0 && tables[candidate.policy].startsAtFullModel
    }
    let outcome: CalibrationOutcome
    let heldBack = failed.flatMap { walk.heldBack(tables[$0.policy], row: $0.row, epsilon: settings.epsilon) }
    var chosen = passed?.policy
    if let passed, !isFullModel(passed) {
      outcome = .certified(choice(passed))
    } else {
      let why: CalibrationShortfall =
        if smallest >= settings.epsilon {
          .tooFewSamples(smallestEpsilon: smallest)
        } else if let failed {
          .firstThresholdFailed(
            index: failed.row, threshold: tables[failed.policy].thresholds[failed.row],
            upperBound: walk.statement(tables[failed.policy], row: failed.row).upperBound ?? bound)
        } else {
          .noOtherThreshold
        }
      // The full model is certified by construction, wherever it stands in the sequence.
      let full = tables.indices.filter { tables[$0].startsAtFullModel }.min { a, b in
        tables[a].meanCost(row: 0, columns: test) ?? 0 < tables[b].meanCost(row: 0, columns: test) ?? 0
      }
      chosen = full
      outcome =
        full.map { .onlySafest(choice(ParetoCandidate(policy: $0, row: 0, risk: 0, cost: 0)), why: why) }
        ?? .nothingCertified(why: why)
    }
    return ParetoResult(
      chosen: chosen,
      result: CalibrationResult(
        epsilon: settings.epsilon, outcome: outcome, smallestCertifiableEpsilon: smallest, heldBack: heldBack),
      designCount: design.count, testCount: test.count, candidateCount: candidates.count)
  }

  private func checked(_ policies: [Policy]) throws(RiskControlError) -> [LossTable] {
    guard let first = policies.first else { throw .setting("no policies; expected at least one") }
    guard settings.rule.controlsWithHighProbability else {
      throw .setting("Pareto testing needs the rule ucb or ltt, found \(settings.rule.rawValue)")
    }
    guard settings.bound != .anytime else {
      throw .setting(
        "Pareto testing is for a sample of fixed size; the anytime bound shares delta among policies")
    }
    for policy in policies {
      guard policy.table.costs != nil else {
        throw .table("policy has no costs to choose by; expected costs for every policy", in: policy.name)
      }
      guard policy.table.sampleCount == first.table.sampleCount else {
        throw .table(
          "\(policy.table.sampleCount) samples, expected \(first.table.sampleCount) as in \(first.name)",
          in: policy.name)
      }
      if settings.bound == .binomial, settings.measure == .mean { try policy.table.checkBinary() }
    }
    return policies.map(\.table)
  }

  /// The most candidates of a sequence; of more, an even choice.
  private static let longestSequence = 200

  /// What no other threshold beats in both risk and cost on the design samples, by rising risk and falling cost.
  private static func front(_ tables: [LossTable], design: [Int32]) -> [ParetoCandidate] {
    var all: [ParetoCandidate] = []
    for (policy, table) in tables.enumerated() {
      let costs = table.meanCosts(columns: design)
      var cursor = RowCursor(table.losses, columns: design)
      while cursor.advance() {
        all.append(
          ParetoCandidate(
            policy: policy, row: cursor.index, risk: CompensatedSum.of(cursor.row) / Double(design.count),
            cost: costs[cursor.index]))
      }
    }
    all.sort { ($0.risk, $0.cost, $0.policy, $0.row) < ($1.risk, $1.cost, $1.policy, $1.row) }
    var front: [ParetoCandidate] = []
    for candidate in all where candidate.cost < front.last?.cost ?? .infinity { front.append(candidate) }
    guard front.count > longestSequence else { return front }
    let step = Double(front.count - 1) / Double(longestSequence - 1)
    return (0..<longestSequence).map { front[Int((Double($0) * step).rounded())] }
  }
}

/// A threshold of a policy, with what the design samples say of it.
private struct ParetoCandidate {
  var policy: Int
  var row: Int
  var risk: Double
  var cost: Double
}

extension LossTable {
  /// The mean cost of some samples at each threshold, (K); costs known by threshold alone are what they are.
  func meanCosts(columns: [Int32]) -> [Double] {
    switch costs {
    case nil: return thresholds.map { _ in 0 }
    case .means(let means): return means
    case .samples(let matrix):
      var means: [Double] = []
      means.reserveCapacity(thresholds.count)
      var cursor = RowCursor(matrix, columns: columns)
      while cursor.advance() { means.append(CompensatedSum.of(cursor.row) / Double(columns.count)) }
      return means
    }
  }

  /// One of ``meanCosts(columns:)``; nil without costs.
  func meanCost(row: Int, columns: [Int32]) -> Double? {
    switch costs {
    case nil: return nil
    case .means(let means): return means[row]
    case .samples(let matrix):
      var cursor = RowCursor(matrix, columns: columns)
      cursor.skip(to: row)
      return CompensatedSum.of(cursor.row) / Double(columns.count)
    }
  }
}
