import Foundation
import RiskControl
import Testing

/// Samples that grow, and orders that could be shopped for: the rules hold their promise, and what they replace is
/// convicted.
@Suite struct GrowingSampleTests {
  static let delta = 0.1
  static let epsilon = 0.05

  /// δ and three standard deviations of a share of trials.
  static func limit(_ trials: Int) -> Double {
    delta + 3 * (delta * (1 - delta) / Double(trials)).squareRoot()
  }

  private func losses(_ count: Int, risk: Double, _ generator: inout SeededGenerator) -> [Double] {
    (0..<count).map { _ in generator.uniform() < risk ? 1 : 0 }
  }

  private func passes(_ losses: [Double], _ bound: RiskBound, _ order: SampleOrder) throws -> Bool {
    let table = try LossTable(thresholds: [1], losses: losses, firstRow: .ordinary)
    let settings = CalibrationSettings(epsilon: Self.epsilon, delta: Self.delta, bound: bound, order: order)
    return try Calibration(settings).calibrate(table).outcome.name == "certified"
  }

  @Test func `any of a thousand looks certifies falsely in at most a share delta of trials`() throws {
    let trials = 1000
    var generator = SeededGenerator(seed: 101)
    let capital = AnytimeCapital(delta: Self.delta, lossBound: 1)
    var (wrong, looks) = (0, 0)
    for trial in 0..<trials {
      let losses = losses(1000, risk: Self.epsilon, &generator)
      losses.withUnsafeBufferPointer { capital.load($0) }
      let arrival = capital.arrival(Self.epsilon)
      if arrival != nil { wrong += 1 }
      guard trial < 20 else { continue }
      // Looking at the first k is what a calibration of the first k documents sees.
      for count in stride(from: 50, through: 1000, by: 50) {
        let seen = Array(losses[..<count])
        let isCertified =
          try RiskBound.anytime.pValue(of: seen, epsilon: Self.epsilon, delta: Self.delta) <= 0.1
        #expect(isCertified == (arrival ?? .max <= count))
        looks += 1
      }
    }
    #expect(looks == 400)
    #expect(Double(wrong) / Double(trials) <= Self.limit(trials))
  }

  @Test func `stakes for a fixed number of samples, looked at while samples are added, are convicted`() throws
  {
    let trials = 150
    var generator = SeededGenerator(seed: 102)
    var wrong = 0
    for _ in 0..<trials {
      let losses = losses(1000, risk: Self.epsilon, &generator)
      let looks = stride(from: 50, through: 1000, by: 50)
      if try looks.contains(where: { try passes(Array(losses[..<$0]), .wsr, .shuffled(seed: 0)) }) {
        wrong += 1
      }
    }
    #expect(Double(wrong) / Double(trials) > 0.3)
  }

  @Test func `growing samples stop early where the risk is low`() {
    var generator = SeededGenerator(seed: 103)
    let capital = AnytimeCapital(delta: Self.delta, lossBound: 1)
    var arrivals: [Int] = []
    for _ in 0..<300 {
      let losses = losses(1500, risk: 0.02, &generator)
      losses.withUnsafeBufferPointer { capital.load($0) }
      arrivals.append(capital.arrival(Self.epsilon) ?? .max)
    }
    arrivals.sort()
    #expect(arrivals[150] < 220)
    #expect(arrivals[285] < 1000)
  }

  @Test func `anytime stakes take signed losses and scale with B`() throws {
    var generator = SeededGenerator(seed: 104)
    let losses = (0..<400).map { _ in generator.uniform() < 0.2 ? 2 * generator.uniform() - 1 : 0 }
    let upper = try RiskBound.anytime.upperBound(of: losses, delta: 0.1)
    let clipped = try RiskBound.anytime.upperBound(of: losses.map { max($0, 0) }, delta: 0.1)
    #expect(upper < clipped)
    let double = try RiskBound.anytime.upperBound(of: losses.map { 2 * $0 }, delta: 0.1, lossBound: 2)
    #expect(abs(double - 2 * upper) < 1e-9)
    #expect(try RiskBound.anytime.pValue(of: losses, epsilon: upper, delta: 0.1) <= 0.1 * (1 + 1e-9))
    #expect(try RiskBound.anytime.upperBound(of: [Double](repeating: -0.5, count: 300), delta: 0.1) == 0)
    #expect(throws: RiskControlError.self) {
      try Calibration(CalibrationSettings(epsilon: 0.1, bound: .anytime, order: .shuffled(seed: 0)))
    }
    #expect(CalibrationSettings(epsilon: 0.1, bound: .anytime).order == .given)
  }

  @Test func `the best of twenty seeds keeps delta where orders are averaged, and not where one is chosen`() {
    let (trials, count) = (200, 300)
    var generator = SeededGenerator(seed: 105)
    let averaged = (0..<20).map {
      AveragedCapital(sampleCount: count, delta: Self.delta, lossBound: 1, seed: UInt64(1000 * $0))
    }
    let single = BettingCapital(sampleCount: count, delta: Self.delta, lossBound: 1)
    let orders = (0..<20).map { SampleOrder.shuffled(seed: $0).indices(count: count) }
    var (fair, shopped) = (0, 0)
    for _ in 0..<trials {
      let losses = losses(count, risk: Self.epsilon, &generator)
      losses.withUnsafeBufferPointer { row in averaged.forEach { $0.load(row) } }
      if averaged.contains(where: { $0.reaches(Self.epsilon, strictly: false) }) { fair += 1 }
      let lucky = orders.contains { order in
        order.map { losses[Int($0)] }.withUnsafeBufferPointer { single.load($0) }
        return single.reaches(Self.epsilon, strictly: false)
      }
      if lucky { shopped += 1 }
    }
    #expect(Double(fair) / Double(trials) <= Self.limit(trials))
    #expect(Double(shopped) / Double(trials) > 0.4)
  }

  @Test func `averaging over orders costs little power and does not depend on the order`() throws {
    var generator = SeededGenerator(seed: 106)
    var (averaged, single) = (0, 0)
    for _ in 0..<150 {
      let losses = losses(300, risk: 0.02, &generator)
      if try passes(losses, .wsr, .averaged) { averaged += 1 }
      if try passes(losses, .wsr, .shuffled(seed: 0)) { single += 1 }
    }
    #expect(averaged > 85 && abs(averaged - single) <= 20, "\(averaged) and \(single) of 150")
    let sample = losses(300, risk: 0.03, &generator)
    func bound(_ losses: [Double]) throws -> Double {
      let test = MeanTest(bound: .wsr, sampleCount: 300, delta: 0.1, range: 1, isAveraged: true)
      losses.withUnsafeBufferPointer { test.load($0) }
      return test.upperBound()
    }
    let bounds = try (0..<6).map { seed in
      try bound(SampleOrder.shuffled(seed: seed).indices(count: 300).map { sample[Int($0)] })
    }
    let plain = try (0..<6).map { seed in
      try RiskBound.wsr.upperBound(
        of: SampleOrder.shuffled(seed: seed).indices(count: 300).map { sample[Int($0)] }, delta: 0.1)
    }
    func spread(_ values: [Double]) -> Double { (values.max() ?? 0) - (values.min() ?? 0) }
    #expect(spread(bounds) < 0.5 * spread(plain), "\(bounds) and \(plain)")
  }

  // MARK: - Exact binomial

  @Test func `the binomial bound allows nine errors of three hundred`() throws {
    func losses(_ errors: Int) -> [Double] { (0..<300).map { $0 < errors ? 1 : 0 } }
    // P(Bin(300, 0.05) ≤ 9) = 0.0650 and P(≤ 10) = 0.1123, by an independent sum in Python.
    let p = try RiskBound.binomial.pValue(of: losses(9), epsilon: 0.05, delta: 0.1)
    #expect(abs(p - 0.064_969_680_864) < 1e-11, "\(p)")
    #expect(try RiskBound.binomial.pValue(of: losses(10), epsilon: 0.05, delta: 0.1) > 0.1)
    #expect(try RiskBound.binomial.upperBound(of: losses(9), delta: 0.1) < 0.05)
    #expect(try !passes(losses(9), .wsr, .averaged) && passes(losses(9), .binomial, .averaged))
    let zeros = try RiskBound.binomial.upperBound(of: losses(0), delta: 0.1)
    #expect(abs(zeros - (1 - pow(0.1, 1.0 / 300))) < 1e-12)
    #expect(throws: RiskControlError.self) { try RiskBound.binomial.upperBound(of: [0.5], delta: 0.1) }
    let table = try LossTable(thresholds: [1, 0.5], losses: [0, 0, 1, 0.25])
    #expect(throws: RiskControlError.self) {
      try Calibration(CalibrationSettings(epsilon: 0.9, bound: .binomial)).calibrate(table)
    }
  }

  @Test func `the exact binomial bound covers, and the normal approximation does not`() throws {
    let (trials, count, risk) = (2000, 60, 0.05)
    var generator = SeededGenerator(seed: 107)
    var (exact, normal) = (0, 0)
    for _ in 0..<trials {
      let losses = losses(count, risk: risk, &generator)
      if try RiskBound.binomial.upperBound(of: losses, delta: Self.delta) < risk { exact += 1 }
      let mean = losses.reduce(0, +) / Double(count)
      if mean + 1.2816 * (mean * (1 - mean) / Double(count)).squareRoot() < risk { normal += 1 }
    }
    #expect(Double(exact) / Double(trials) <= Self.limit(trials))
    #expect(Double(normal) / Double(trials) > 0.15)
  }

  // MARK: - Feasibility

  @Test func `an epsilon that so few samples cannot reach is refused before anything runs`() throws {
    let settings = CalibrationSettings(epsilon: 0.01)
    do throws(RiskControlError) {
      try settings.checkFeasibility(sampleCount: 100)
      Issue.record("expected a refusal")
    } catch {
      #expect(error.description.contains("with 100 samples no epsilon below 0.0238 can be certified"))
      let needed = try #require(settings.fewestSamples())
      #expect(error.description.hasSuffix("it takes at least \(needed)"))
      #expect(throws: Never.self) { try settings.checkFeasibility(sampleCount: needed) }
      #expect(throws: RiskControlError.self) { try settings.checkFeasibility(sampleCount: needed - 1) }
    }
    for rule in ThresholdRule.allCases {
      for bound in RiskBound.allCases {
        let settings = CalibrationSettings(epsilon: 0.1, rule: rule, bound: bound)
        let table = try LossTable(thresholds: [1, 0.5], losses: [Double](repeating: 0, count: 200))
        let result = try Calibration(settings).calibrate(table)
        #expect(result.smallestCertifiableEpsilon == settings.smallestCertifiableEpsilon(sampleCount: 100))
      }
    }
    #expect(CalibrationSettings(epsilon: 0.0999, rule: .crc).fewestSamples() == 10)
  }

  // MARK: - Observed above the bound

  @Test func `sorted samples certify nothing that they were seen to break`() throws {
    // Sixty losses of 0 and then forty of 1: at one moment the bets had ruled out a risk of 0.041.
    let rows = [0, 0.5, 1].map { level in (0..<100).map { $0 < 60 || level == 0 ? 0.0 : level == 1 ? 1 : 0.1 }
    }
    let table = try LossTable(thresholds: [1, 0.9, 0.8], losses: rows.flatMap { $0 })
    for (bound, order) in [(RiskBound.wsr, SampleOrder.given), (.anytime, .given)] {
      let settings = CalibrationSettings(epsilon: 0.1, bound: bound, order: order)
      let result = try Calibration(settings).calibrate(table)
      #expect(result.outcome.choice?.index == 1)
      #expect(result.outcome.choice?.upperBound ?? 0 >= 0.04)
      guard case .observedAboveBound(2, 0.8, let observed, let bound) = result.heldBack else {
        Issue.record(
          "expected the last threshold to be held back, found \(String(describing: result.heldBack))")
        continue
      }
      #expect(abs(observed - 0.4) < 1e-12 && bound < 0.05)
      let certificate = Certificate(result, table: table, settings: settings, program: "test")
      #expect(certificate.reason?.contains("the observed risk is 0.4, above that and above epsilon") == true)
      try Certificate.read(certificate.jsonData(), name: "c").verify(table)
    }
    // The order that no one chose needs no such rule.
    let averaged = try Calibration(CalibrationSettings(epsilon: 0.1)).calibrate(table)
    #expect(averaged.outcome.choice?.index == 1 && averaged.heldBack == nil)
  }

  @Test(arguments: [RiskBound.wsr, .anytime]) func `no bound lies below the mean observed`(bound: RiskBound)
    throws
  {
    var generator = SeededGenerator(seed: 108)
    for _ in 0..<60 {
      let count = 40 + generator.index(below: 200)
      let share = generator.uniform()
      let losses = (0..<count).map { _ in generator.uniform() < share ? generator.uniform() : 0 }.sorted()
      let mean = losses.reduce(0, +) / Double(count)
      #expect(try bound.upperBound(of: losses, delta: 0.1) >= mean * (1 - 1e-12))
    }
  }
}
