import RiskControl
import Testing

@Suite struct RuleTests {
  /// Rows of n losses, `ones[k]` of them 1, spread evenly.
  private func table(_ ones: [Int], n: Int, full: LossTable.FirstRow = .fullModelWhereZero) throws
    -> LossTable
  {
    let losses = ones.flatMap { count in (0..<n).map { ($0 * count) % n < count ? 1.0 : 0.0 } }
    return try LossTable(
      thresholds: ones.indices.map { 1 - Double($0) / 20 }, losses: losses,
      costs: .byThreshold(ones.indices.map { 30 - Double($0) }), firstRow: full)
  }

  private func result(
    _ table: LossTable, _ rule: ThresholdRule, _ bound: RiskBound = .wsr, epsilon: Double = 0.1,
    scan: ThresholdScan = .full, measure: RiskMeasure = .mean
  ) throws -> CalibrationResult {
    try Calibration(
      CalibrationSettings(epsilon: epsilon, rule: rule, bound: bound, measure: measure, scan: scan)
    ).calibrate(table)
  }

  @Test(arguments: [ThresholdRule.ucb, .ltt], [RiskBound.wsr, .hoeffdingBentkus])
  func `the last threshold that passed is returned, not the first that failed`(
    rule: ThresholdRule, bound: RiskBound
  ) throws {
    let result = try result(table([0, 2, 5, 60, 100], n: 500), rule, bound)
    #expect(result.outcome.choice?.index == 2)
    #expect(result.outcome.choice?.threshold == 0.9)
    #expect(result.outcome.name == "certified")
  }

  @Test(arguments: [ThresholdRule.ucb, .ltt])
  func `a pass beyond a violation does not count`(rule: ThresholdRule) throws {
    #expect(try result(table([0, 2, 80, 5, 90], n: 500), rule).outcome.choice?.index == 1)
  }

  @Test(arguments: [ThresholdRule.empirical, .crc])
  func `mean rules scan everything, or cautiously to the first violation`(rule: ThresholdRule) throws {
    let table = try table([0, 2, 80, 5, 90], n: 500)
    #expect(try result(table, rule).outcome.choice?.index == 3)
    #expect(try result(table, rule, scan: .cautious).outcome.choice?.index == 1)
  }

  @Test func `everything, only the safest and nothing are three results`() throws {
    let everything = try result(table([0, 1, 2], n: 500), .ucb)
    #expect(everything.outcome.name == "certified" && everything.outcome.choice?.index == 2)
    let safest = try result(table([0, 100, 200], n: 500), .ucb)
    #expect(safest.outcome.name == "only_safest" && safest.outcome.choice?.index == 0)
    #expect(safest.outcome.choice?.upperBound == 0)
    let nothing = try result(table([90, 100, 200], n: 500), .ucb)
    #expect(nothing.outcome.name == "nothing_certified" && nothing.outcome.choice == nil)
    guard case .firstThresholdFailed(0, 1, let bound) = nothing.outcome.shortfall else {
      Issue.record("expected the first threshold to have failed")
      return
    }
    #expect(bound > 0.18)
  }

  @Test func `too few samples are named with the smallest epsilon they could certify`() throws {
    let result = try result(table([0, 0, 1], n: 100), .ucb, epsilon: 0.02)
    #expect(
      result.outcome
        == .onlySafest(
          try #require(result.outcome.choice),
          why: .tooFewSamples(
            smallestEpsilon: result.smallestCertifiableEpsilon)))
    #expect(abs(result.smallestCertifiableEpsilon - 0.024) < 0.001)
    #expect(throws: RiskControlError.self) { try self.result(table([0, 0], n: 2), .ucb) }
  }

  @Test func `a first row of zeros is tested where it is not the full model`() throws {
    let ordinary = try table([0, 0, 100], n: 100, full: .ordinary)
    #expect(try result(ordinary, .ucb, epsilon: 0.02).outcome.name == "nothing_certified")
    #expect(try result(ordinary, .ucb, epsilon: 0.03).outcome.choice?.upperBound ?? 0 > 0.02)
  }

  @Test func `crc compares with ((n + 1) epsilon - B) / n`() throws {
    // n = 99, ε = 0.1: the limit is (10 − 1)/99, nine ones of 99 exactly.
    #expect(try result(table([0, 9, 99], n: 99), .crc).outcome.choice?.index == 1)
    #expect(try result(table([0, 10, 99], n: 99), .crc).outcome.name == "only_safest")
    #expect(try result(table([0, 9, 99], n: 99), .crc).outcome.choice?.upperBound == 0.1)
    #expect(try result(table([0, 9], n: 99), .crc).smallestCertifiableEpsilon == 0.01)
  }

  @Test func `a grid of epsilon gives what each epsilon gives alone`() throws {
    let table = try table([0, 1, 4, 3, 12, 30, 29, 80], n: 400)
    let grid = [0.2, 0.02, 0.05, 0.1]
    for rule in ThresholdRule.allCases {
      for bound in RiskBound.allCases {
        let settings = CalibrationSettings(epsilon: 0.5, rule: rule, bound: bound)
        let together = try Calibration(settings).calibrate(table, epsilons: grid)
        for (position, epsilon) in grid.enumerated() {
          #expect(together[position] == (try result(table, rule, bound, epsilon: epsilon)))
        }
      }
    }
  }

  @Test func `several risks hold at the safest of their thresholds`() throws {
    let (first, second) = (try table([0, 1, 2, 4, 90], n: 400), try table([0, 0, 70, 80, 90], n: 400))
    let calibration = try Calibration(CalibrationSettings(epsilon: 0.1))
    let results = try calibration.calibrate(together: [(first, 0.05), (second, 0.05)])
    #expect(results.map { $0.outcome.choice?.index } == [1, 1])
    #expect(
      try calibration.calibrate(together: [(first, 0.05), (second, 0.5)]).map { $0.outcome.choice?.index }
        == [3, 3])
    #expect(throws: RiskControlError.self) {
      try calibration.calibrate(together: [(first, 0.05), (try self.table([0, 1], n: 400), 0.05)])
    }
  }

  @Test func `the cheapest of several policies is taken, each at its share of delta`() throws {
    let (weak, strong) = (try table([0, 1, 90], n: 400), try table([0, 1, 2, 3, 90], n: 400))
    let calibration = try Calibration(CalibrationSettings(epsilon: 0.1))
    let choice = try calibration.choose(among: [
      .init(name: "weak", table: weak), .init(name: "strong", table: strong),
    ])
    #expect(choice.chosen == 1)
    let alone = try calibration.calibrate(strong)
    let (shared, whole) = (
      choice.results[1].outcome.choice?.upperBound ?? 0, alone.outcome.choice?.upperBound ?? 0
    )
    #expect(shared > whole)
    let crc = try Calibration(CalibrationSettings(epsilon: 0.1, rule: .crc))
    #expect(throws: RiskControlError.self) {
      try crc.choose(among: [.init(name: "a", table: weak), .init(name: "b", table: strong)])
    }
  }

  @Test func `a quantile is certified by the exact binomial test`() throws {
    // 100 samples, level 0.9, δ = 0.1: P(Bin(100, 0.1) ≤ 5) = 0.058, P(≤ 6) = 0.117; so five may exceed ε, six may not.
    let table = try table([0, 5, 6], n: 100)
    let result = try result(table, .ltt, epsilon: 0.5, measure: .quantile(level: 0.9))
    #expect(result.outcome.choice?.index == 1)
    #expect(result.outcome.choice?.upperBound == 0)
    #expect(throws: RiskControlError.self) { try self.result(table, .crc, measure: .quantile(level: 0.9)) }
  }

  @Test func `cvar bounds the mean of the worst losses`() throws {
    let table = try table([0, 1, 40], n: 1000)
    let result = try result(table, .ucb, epsilon: 0.2, measure: .conditionalValueAtRisk(level: 0.9))
    #expect(result.outcome.choice?.index == 1)
    // The mean of the worst hundred of a thousand losses with a single 1 among them.
    #expect(abs((result.outcome.choice?.empiricalRisk ?? 0) - 0.01) < 1e-12)
    #expect(result.outcome.choice?.upperBound ?? 0 > 0.01)
  }

  @Test func `weights shift the risk, and equal weights change nothing`() throws {
    let table = try table([0, 40, 80], n: 400)
    let calibration = try Calibration(CalibrationSettings(epsilon: 0.2, order: .given))
    let plain = try calibration.calibrate(table)
    let equal = try calibration.calibrate(
      table, weights: SampleWeights([Double](repeating: 1, count: 400), bound: 1))
    #expect(plain == equal)
    // Twice the weight on the samples that lose, none on others: the weighted risk of row 1 is 0.2 and fails.
    let losing = (table.losses(atRow: 1) ?? []).map { $0 == 1 ? 2.0 : 8.0 / 9 }
    let shifted = try calibration.calibrate(table, weights: SampleWeights(losing, bound: 2))
    #expect(plain.outcome.name == "certified" && shifted.outcome.name == "only_safest")
    #expect(throws: RiskControlError.self) { try SampleWeights([1, -1], bound: 2) }
    #expect(throws: RiskControlError.self) { try SampleWeights([3], bound: 2) }
  }

  @Test func `crc with weights is crc where they are equal`() throws {
    let table = try table([0, 20, 39, 41, 80], n: 399)
    let calibration = try Calibration(CalibrationSettings(epsilon: 0.1, rule: .crc))
    let weights = try SampleWeights([Double](repeating: 3, count: 399), bound: 3)
    #expect(
      try calibration.calibrate(table, weights: weights).outcome.choice?.index
        == calibration.calibrate(table).outcome.choice?.index)
  }

  @Test func `settings outside their range are refused`() {
    for (epsilon, delta) in [(0, 0.1), (1, 0.1), (-0.1, 0.1), (.nan, 0.1), (0.1, 0), (0.1, 1), (0.1, .nan)] {
      #expect(throws: RiskControlError.self) {
        try Calibration(CalibrationSettings(epsilon: epsilon, delta: delta))
      }
    }
    #expect(throws: RiskControlError.self) {
      try Calibration(CalibrationSettings(epsilon: 0.1, measure: .quantile(level: 1)))
    }
  }

  @Test func `the seed of the order changes the betting bound and nothing else`() throws {
    let table = try table([0, 20, 300], n: 400)
    func bound(_ seed: UInt64, _ bound: RiskBound) throws -> Double? {
      try Calibration(CalibrationSettings(epsilon: 0.2, bound: bound, order: .shuffled(seed: seed)))
        .calibrate(table)
        .outcome.choice?.upperBound
    }
    #expect(try bound(1, .wsr) == bound(1, .wsr))
    #expect(try bound(1, .wsr) != bound(2, .wsr))
    #expect(try bound(1, .hoeffdingBentkus) == bound(2, .hoeffdingBentkus))
  }
}
