import RiskControl
import Testing

/// Answers given above a certified confidence, and policies chosen by Pareto testing.
@Suite struct SelectiveTests {
  private static let (epsilon, delta) = (0.1, 0.1)

  /// Confidences are uniform; an answer of confidence s is wrong with probability `error(s)`.
  private struct World: Sendable {
    var error: @Sendable (Double) -> Double

    func sample(_ count: Int, _ generator: inout SeededGenerator) -> (confidences: [Double], losses: [Double])
    {
      let confidences = (0..<count).map { _ in generator.uniform() }
      return (confidences, confidences.map { generator.uniform() < error($0) ? 1 : 0 })
    }

    /// E[L | s ≥ τ], by the midpoints of a fine grid.
    func risk(_ threshold: Double) -> Double {
      let points = (0..<2000).map { threshold + (1 - threshold) * (Double($0) + 0.5) / 2000 }
      return points.reduce(0) { $0 + error($1) } / 2000
    }
  }

  private static let falling = World { 0.45 * (1 - $0) }
  /// Nowhere below ε: nothing may be certified.
  private static let border = World { _ in 0.105 }
  /// Errors among the surest answers too.
  private static let bumpy = World { $0 > 0.85 ? 0.09 : $0 > 0.6 ? 0.16 : 0.02 }

  private func selective(_ bound: RiskBound, _ rule: ThresholdRule = .ltt) throws -> SelectiveCalibration {
    try SelectiveCalibration(
      CalibrationSettings(epsilon: Self.epsilon, delta: Self.delta, rule: rule, bound: bound))
  }

  @Test(arguments: [RiskBound.binomial, .wsr])
  func `answers given are wrong more often than epsilon in at most a share delta of trials`(bound: RiskBound)
    throws
  {
    let calibration = try selective(bound)
    let trials = bound == .binomial ? 1000 : 200
    for (number, world) in [Self.falling, Self.border, Self.bumpy].enumerated() {
      var generator = SeededGenerator(seed: 300 + UInt64(number))
      var wrong = 0
      for _ in 0..<trials {
        let (confidences, losses) = world.sample(300, &generator)
        if let threshold = try calibration.calibrate(confidences: confidences, losses: losses).threshold,
          world.risk(threshold) > Self.epsilon
        {
          wrong += 1
        }
      }
      #expect(Double(wrong) / Double(trials) <= GrowingSampleTests.limit(trials), "world \(number)")
    }
  }

  @Test
  func `the most lenient threshold whose bound passes anywhere is convicted, and so is the empirical one`()
    throws
  {
    var generator = SeededGenerator(seed: 310)
    var (anywhere, empirical) = (0, 0)
    for _ in 0..<200 {
      let (confidences, losses) = Self.border.sample(300, &generator)
      let sorted = zip(confidences, losses).sorted { $0.0 > $1.0 }
      var (found, seen) = (false, false)
      var errors = 0.0
      for (number, sample) in sorted.enumerated() {
        errors += sample.1
        let p = Binomial.cumulative(Int(errors), n: number + 1, p: Self.epsilon)
        if p <= Self.delta { found = true }
        if number >= 29, errors / Double(number + 1) <= Self.epsilon { seen = true }
      }
      if found { anywhere += 1 }
      if seen { empirical += 1 }
    }
    #expect(anywhere > 38, "\(anywhere) of 200")
    #expect(empirical > 100, "\(empirical) of 200")
  }

  /// Three ways of decoding that answer the same questions: the fastest is wrong twice as often, the second has the
  /// confidences of full depth, a little blurred.
  private func ways(_ count: Int, _ generator: inout SeededGenerator) -> [[SelectiveStudy.Sample]] {
    let base = (0..<count).map { _ in (generator.uniform(), generator.uniform(), generator.uniform()) }
    return [
      base.map { SelectiveStudy.Sample(confidence: $0.0, loss: $0.1 < 0.9 * (1 - $0.0 * 0.2) ? 1 : 0) },
      base.map {
        SelectiveStudy.Sample(confidence: $0.0 * 0.95 + $0.2 * 0.05, loss: $0.1 < 0.45 * (1 - $0.0) ? 1 : 0)
      },
      base.map { SelectiveStudy.Sample(confidence: $0.0, loss: $0.1 < 0.45 * (1 - $0.0) ? 1 : 0) },
    ]
  }

  @Test func `the fastest way that answers about as many is chosen, and its answers hold epsilon`() throws {
    var generator = SeededGenerator(seed: 330)
    let rule = try selective(.binomial)
    var (chosen, wrong) = ([0, 0, 0], 0)
    for _ in 0..<400 {
      let found = try rule.calibrate(policies: ways(300, &generator))
      chosen[found.chosen] += 1
      guard let threshold = found.result.threshold else { continue }
      // The risk of both is that of ``falling``; blurred confidences only mix neighbours.
      if found.chosen == 0 || Self.falling.risk(threshold) > Self.epsilon + 0.005 { wrong += 1 }
    }
    #expect(chosen[0] < 20 && chosen[1] > 250, "\(chosen)")
    #expect(Double(wrong) / 400 <= GrowingSampleTests.limit(400), "\(wrong)")
    var uneven = ways(300, &generator)
    uneven[1].removeLast()
    #expect(throws: RiskControlError.self) { try rule.calibrate(policies: uneven) }
    #expect(throws: RiskControlError.self) { try rule.calibrate(policies: []) }
  }

  @Test func `a study shows the share answered and the risk among those given`() throws {
    var generator = SeededGenerator(seed: 340)
    let (confidences, losses) = Self.falling.sample(900, &generator)
    // Every tenth question is declined.
    let samples = zip(confidences, losses).enumerated().map { index, pair in
      SelectiveStudy.Sample(confidence: index % 10 == 0 ? nil : pair.0, loss: pair.1)
    }
    let study = SelectiveStudy(
      trials: 40, calibrationSizes: [100, 500], epsilons: [0.05, 0.1, 0.2], bound: .binomial, seed: 7)
    let cells = try study.run(on: samples)
    #expect(cells.map(\.calibrationSize) == [100, 100, 100, 500, 500, 500])
    let shares = cells.compactMap { $0.cost?.mean }
    #expect(shares.count == 6 && shares[3] < shares[4] && shares[4] < shares[5] && shares[1] < shares[4])
    // With all answers given the risk is 0.225, with a share s of them 0.225 s.
    for cell in cells { #expect(cell.risk.mean <= cell.epsilon && cell.violationRate <= 0.3, "\(cell)") }
    #expect(shares[5] > 0.5 && shares[5] <= 0.9, "\(shares)")
    #expect(try study.run(on: samples) == cells)
    #expect(throws: RiskControlError.self) {
      try SelectiveStudy(calibrationSizes: [900], epsilons: [0.1]).run(on: samples)
    }
    #expect(throws: RiskControlError.self) {
      try SelectiveStudy(calibrationSizes: [10], epsilons: [0.1]).run(
        on: samples.map { _ in .init(confidence: nil, loss: 0) })
    }
  }

  @Test func `a good share is answered, and more with a larger epsilon`() throws {
    // The risk among those given is 0.15 (1 − τ)²: ε = 0.1 could at best answer 82 %, 0.2 everything.
    let world = World { 0.45 * (1 - $0) * (1 - $0) }
    var generator = SeededGenerator(seed: 320)
    var shares = [0.0, 0.0]
    for _ in 0..<100 {
      let (confidences, losses) = world.sample(600, &generator)
      for (position, epsilon) in [0.1, 0.2].enumerated() {
        let settings = CalibrationSettings(epsilon: epsilon, rule: .ltt, bound: .binomial)
        let result = try SelectiveCalibration(settings).calibrate(confidences: confidences, losses: losses)
        shares[position] += result.answeredShare / 100
      }
    }
    #expect(shares[0] > 0.4 && shares[0] < 0.83, "\(shares)")
    #expect(shares[1] > 0.9, "\(shares)")
  }

  @Test func `what a result says is of the samples that tested`() throws {
    // 80 samples: those at 0, 4, 8 … design. Sure answers are right, unsure ones wrong.
    let confidences = (0..<80).map { $0 % 5 == 0 ? 0.2 : 0.8 }
    let losses = confidences.map { $0 < 0.5 ? 1.0 : 0 }
    let result = try selective(.binomial).calibrate(confidences: confidences, losses: losses)
    #expect(result.designCount == 20 && result.testCount == 60)
    #expect(result.threshold == 0.8 && result.observedRisk == 0)
    #expect(abs(result.answeredShare - 0.8) < 1e-12 && abs(result.riskOfAll - 0.2) < 1e-12)
    // 48 answers without an error: 1 − 0.1^(1/48).
    #expect(abs((result.upperBound ?? 0) - 0.046_838) < 1e-6)
    let none = try selective(.binomial).calibrate(
      confidences: confidences, losses: confidences.map { _ in 1.0 })
    #expect(none.threshold == nil && none.answeredShare == 0 && none.firstUpperBound == 1)
    #expect(none.upperBound == nil && none.sequenceLength >= 1)
  }

  @Test func `settings and samples that make no sense are refused`() throws {
    func refuses(_ settings: CalibrationSettings) {
      #expect(throws: RiskControlError.self) { try SelectiveCalibration(settings) }
    }
    refuses(CalibrationSettings(epsilon: 0.1, rule: .crc))
    refuses(CalibrationSettings(epsilon: 0.1, bound: .anytime))
    refuses(CalibrationSettings(epsilon: 0.1, measure: .quantile(level: 0.9)))
    let calibration = try selective(.binomial)
    let ones = [Double](repeating: 1, count: 20)
    for (confidences, losses) in [
      (ones, Array(ones.dropLast())), (ones.dropLast() + [.nan], ones), (ones, ones.dropLast() + [-0.5]),
      (ones, ones.dropLast() + [0.5]), ([1, 1, 1], [0, 0, 0]),
    ] {
      #expect(throws: RiskControlError.self) {
        try calibration.calibrate(confidences: Array(confidences), losses: Array(losses))
      }
    }
  }

  // MARK: - Pareto testing

  /// Policies of five thresholds; the risk of a threshold rises by 0.03 from one to the next, and its cost falls,
  /// both by the policy.
  private static func policies(
    _ count: Int, risk: (Int, Int) -> Double, samples: Int, _ generator: inout SeededGenerator
  ) throws -> [Calibration.Policy] {
    let draws = (0..<samples).map { _ in generator.uniform() }
    return try (0..<count).map { policy in
      // Policies agree on the hard samples in part.
      let own = draws.map { generator.uniform() < 0.5 ? $0 : generator.uniform() }
      let rows = (0..<5).flatMap { row in own.map { $0 < risk(policy, row) ? 1.0 : 0 } }
      return Calibration.Policy(
        name: "p\(policy)",
        table: try LossTable(
          thresholds: (0..<5).map { 1 - Double($0) / 10 }, losses: rows,
          costs: .byThreshold((0..<5).map { 30 - Double($0) * (2 + 0.5 * Double(policy)) }),
          firstRow: .ordinary))
    }
  }

  private static func rising(_ policy: Int, _ row: Int) -> Double {
    0.01 + Double(row) * (0.02 + 0.004 * Double(policy))
  }

  @Test func `pareto testing keeps delta among many policies, and taking the cheapest uncorrected does not`()
    throws
  {
    let trials = 400
    var generator = SeededGenerator(seed: 330)
    let border: (Int, Int) -> Double = { _, row in row == 0 ? 0.02 : 0.105 + 0.001 * Double(row) }
    let calibration = try Calibration(CalibrationSettings(epsilon: Self.epsilon, rule: .ltt, order: .given))
    var (wrong, uncorrected) = (0, 0)
    for _ in 0..<trials {
      let policies = try Self.policies(8, risk: border, samples: 300, &generator)
      let result = try calibration.paretoTest(policies)
      if let chosen = result.chosen, let index = result.result.outcome.choice?.index,
        border(chosen, index) > Self.epsilon
      {
        wrong += 1
      }
      if try policies.contains(where: { try calibration.calibrate($0.table).outcome.choice?.index ?? 0 > 0 })
      {
        uncorrected += 1
      }
    }
    #expect(Double(wrong) / Double(trials) <= GrowingSampleTests.limit(trials))
    #expect(Double(uncorrected) / Double(trials) > 0.25)
  }

  @Test func `pareto testing certifies what is well below epsilon`() throws {
    var generator = SeededGenerator(seed: 331)
    let calibration = try Calibration(CalibrationSettings(epsilon: Self.epsilon, rule: .ltt, order: .given))
    var cost = 0.0
    for _ in 0..<100 {
      let policies = try Self.policies(8, risk: Self.rising, samples: 600, &generator)
      cost += try calibration.paretoTest(policies).result.outcome.choice?.cost ?? 30
    }
    // The safest thresholds cost 30 and the cheapest of risk below ε 11.5.
    #expect(cost / 100 < 24.5, "\(cost / 100)")
  }

  @Test func `the front goes by rising risk and falling cost, and the full model is certified untested`()
    throws
  {
    let zeros = [Double](repeating: 0, count: 90)
    let some = (0..<90).map { $0 % 30 == 1 ? 1.0 : 0 }
    let many = (0..<90).map { $0 % 2 == 0 ? 1.0 : 0 }
    func policy(_ name: String, _ rows: [[Double]], _ costs: [Double]) throws -> Calibration.Policy {
      Calibration.Policy(
        name: name,
        table: try LossTable(
          thresholds: rows.indices.map { 1 - Double($0) / 10 }, losses: rows.flatMap { $0 },
          costs: .byThreshold(costs)))
    }
    let calibration = try Calibration(CalibrationSettings(epsilon: 0.15))
    let (a, b) = (
      try policy("a", [zeros, some, many], [30, 20, 10]), try policy("b", [zeros, many], [29, 5])
    )
    let result = try calibration.paretoTest([a, b])
    #expect(result.chosen == 0 && result.result.outcome.choice?.index == 1 && result.designCount == 30)
    #expect(result.result.outcome.choice?.cost == 20 && result.result.outcome.choice?.safestCost == 30)
    let nothing = try calibration.paretoTest([try policy("a", [zeros, many], [30, 10]), b])
    #expect(nothing.chosen == 1 && nothing.result.outcome.name == "only_safest")
    #expect(throws: RiskControlError.self) {
      try Calibration(CalibrationSettings(epsilon: 0.1, bound: .anytime)).paretoTest([a, b])
    }
    #expect(throws: RiskControlError.self) {
      try Calibration(CalibrationSettings(epsilon: 0.1, rule: .crc)).paretoTest([a, b])
    }
    #expect(throws: RiskControlError.self) { try calibration.paretoTest([]) }
  }
}
