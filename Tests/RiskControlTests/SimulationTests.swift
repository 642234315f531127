import Foundation
import RiskControl
import Testing

/// The guarantees, tried on losses whose true risk is known; and rules known to be wrong, which the same trials must
/// convict.
@Suite struct SimulationTests {
  static let trials = 2000
  static let delta = 0.1
  static let epsilon = 0.1

  /// Losses of one sample at every threshold, and the true mean of each.
  struct World: Sendable, CustomTestStringConvertible {
    var name: String
    var risks: [Double]
    var lossBound = 1.0
    var sample: @Sendable (inout SeededGenerator) -> [Double]

    var testDescription: String { name }

    func table(_ n: Int, _ generator: inout SeededGenerator) throws -> LossTable {
      let samples = (0..<n).map { _ in sample(&generator) }
      return try LossTable(
        thresholds: risks.indices.map { -Double($0) },
        losses: risks.indices.flatMap { k in samples.map { $0[k] } },
        lossBound: lossBound, firstRow: .ordinary)
    }
  }

  static let worlds: [World] = {
    let rising = [0, 0.02, 0.04, 0.06, 0.08, 0.099, 0.101, 0.13, 0.2, 0.3]
    let falling = [0.01, 0.05, 0.105, 0.03, 0.11, 0.02, 0.104, 0.06, 0.25, 0.09]
    return [
      World(name: "Bernoulli", risks: rising) { generator in
        let u = generator.uniform()
        return rising.map { u < $0 ? 1 : 0 }
      },
      World(name: "signed", risks: rising) { generator in
        let u = generator.uniform()
        return rising.map { u < $0 + 0.15 ? 1 : u > 0.85 ? -1 : 0 }
      },
      World(name: "heavy at the bound, B = 2", risks: rising, lossBound: 2) { generator in
        let (u, small) = (generator.uniform(), generator.uniform())
        return rising.map { u < 0.45 * $0 ? 2 : small * 0.2 * $0 / (1 - 0.45 * $0) }
      },
      World(name: "not monotone", risks: falling) { generator in
        falling.map { generator.uniform() < $0 ? 1 : 0 }
      },
    ]
  }()

  /// Share of trials in which a rule's threshold has a true risk above ε.
  private func violations(_ world: World, n: Int, _ rule: (LossTable) throws -> Int?) throws -> Double {
    var generator = SeededGenerator(seed: 77)
    var count = 0
    for _ in 0..<Self.trials {
      guard let index = try rule(world.table(n, &generator)) else { continue }
      if world.risks[index] > Self.epsilon { count += 1 }
    }
    return Double(count) / Double(Self.trials)
  }

  /// δ and three standard deviations of a binomial share.
  private var limit: Double {
    Self.delta + 3 * (Self.delta * (1 - Self.delta) / Double(Self.trials)).squareRoot()
  }

  private func choice(
    _ table: LossTable, _ rule: ThresholdRule, _ bound: RiskBound, scan: ThresholdScan = .full
  ) throws -> Int? {
    let settings = CalibrationSettings(
      epsilon: Self.epsilon, delta: Self.delta, rule: rule, bound: bound, scan: scan, order: .given)
    return try Calibration(settings).calibrate(table).outcome.choice?.index
  }

  /// Every world with every bound that is for its losses: the binomial one is for losses of 0 and 1.
  static let cases = worlds.flatMap { world in
    RiskBound.allCases.filter { $0 != .binomial || world.lossBound == 1 }.map { (world, $0) }
  }

  @Test(arguments: cases)
  func `ucb and ltt break their promise in at most a share delta of trials`(world: World, bound: RiskBound)
    throws
  {
    for rule in [ThresholdRule.ucb, .ltt] {
      #expect(try violations(world, n: 150) { try choice($0, rule, bound) } <= limit)
    }
  }

  @Test func `the promise is not kept by certifying nothing`() throws {
    var generator = SeededGenerator(seed: 3)
    var reached = 0
    for _ in 0..<200 {
      let table = try Self.worlds[0].table(1000, &generator)
      if let index = try choice(table, .ucb, .wsr), Self.worlds[0].risks[index] >= 0.06 { reached += 1 }
    }
    #expect(reached > 180)
  }

  @Test func `crc keeps the mean risk where losses are monotone`() throws {
    for world in [Self.worlds[0], Self.worlds[2]] {
      for n in [30, 150] {
        var generator = SeededGenerator(seed: 5)
        var sum = 0.0
        for _ in 0..<Self.trials {
          // Nothing chosen means the full model: risk 0.
          if let index = try choice(world.table(n, &generator), .crc, .wsr) { sum += world.risks[index] }
        }
        #expect(sum / Double(Self.trials) <= Self.epsilon + 0.003)
      }
    }
  }

  @Test func `crc loses its promise where losses are not monotone, and the cautious scan keeps nearer to it`()
    throws
  {
    // A hundred thresholds of true risk 0.12, independent of each other: some look good by luck, and the full scan
    // takes one.
    let risks = [Double](repeating: 0.12, count: 100)
    let world = World(name: "lucky", risks: risks) { generator in
      risks.map { generator.uniform() < $0 ? 1 : 0 }
    }
    var generator = SeededGenerator(seed: 6)
    var (full, cautious) = (0.0, 0.0)
    for _ in 0..<200 {
      let table = try world.table(100, &generator)
      if let index = try choice(table, .crc, .wsr) { full += risks[index] }
      if let index = try choice(table, .crc, .wsr, scan: .cautious) { cautious += risks[index] }
    }
    #expect(full / 200 > 0.115)
    #expect(cautious / 200 < 0.05)
  }

  @Test func `returning the first threshold that failed is convicted`() throws {
    let risks = [0.01, 0.03, 0.2, 0.3]
    let steep = World(name: "steep", risks: risks) { generator in
      let u = generator.uniform()
      return risks.map { u < $0 ? 1 : 0 }
    }
    let wrong = try violations(steep, n: 150) { table in try choice(table, .ltt, .wsr).map { min($0 + 1, 3) }
    }
    #expect(wrong > 0.5)
    #expect(try violations(steep, n: 150) { try choice($0, .ltt, .wsr) } <= limit)
  }

  @Test func `taking the last pass anywhere is convicted`() throws {
    let risks = [0.02] + [Double](repeating: 0.105, count: 30)
    let world = World(name: "many chances", risks: risks) { generator in
      risks.map { generator.uniform() < $0 ? 1 : 0 }
    }
    func bound(_ losses: [Double]) throws -> Double {
      try RiskBound.wsr.upperBound(of: losses, delta: Self.delta)
    }
    var generator = SeededGenerator(seed: 8)
    var (wrong, right) = (0, 0)
    for _ in 0..<400 {
      let table = try world.table(150, &generator)
      let anywhere = try risks.indices.last { try bound(table.losses(atRow: $0) ?? []) < Self.epsilon }
      if let anywhere, risks[anywhere] > Self.epsilon { wrong += 1 }
      if let index = try choice(table, .ucb, .wsr), risks[index] > Self.epsilon { right += 1 }
    }
    #expect(Double(wrong) / 400 > 0.5)
    #expect(Double(right) / 400 <= limit)
  }

  @Test func `adding the capitals of two halves is convicted`() {
    var generator = SeededGenerator(seed: 12)
    let (n, mean) = (200, 0.1)
    let half = BettingCapital(sampleCount: n / 2, delta: Self.delta, lossBound: 1)
    let whole = BettingCapital(sampleCount: n, delta: Self.delta, lossBound: 1)
    var (wrong, right) = (0, 0)
    for _ in 0..<Self.trials {
      let losses = (0..<n).map { _ in generator.uniform() < mean ? 1.0 : 0.0 }
      losses.withUnsafeBufferPointer { losses in
        half.load(UnsafeBufferPointer(rebasing: losses[..<(n / 2)]))
        let first = half.maximumLogCapital(mean)
        half.load(UnsafeBufferPointer(rebasing: losses[(n / 2)...]))
        if first + half.maximumLogCapital(mean) >= -log(Self.delta) { wrong += 1 }
        whole.load(losses)
        if whole.reaches(mean, strictly: false) { right += 1 }
      }
    }
    #expect(Double(wrong) / Double(Self.trials) > 0.15)
    #expect(Double(right) / Double(Self.trials) <= limit)
  }

  @Test func `a tail is held as the mean is`() throws {
    // The loss is uniform below h_k with a share of ones: both quantile and CVaR are known.
    let shares = [0, 0.02, 0.06, 0.098, 0.102, 0.15]
    let world = World(name: "tail", risks: shares) { generator in
      let (u, small) = (generator.uniform(), generator.uniform())
      return shares.map { u < $0 ? 1 : 0.05 * small }
    }
    // The 0.9-quantile is above 0.5 where more than a tenth are ones.
    let measure = RiskMeasure.quantile(level: 0.9)
    let calibration = try Calibration(
      CalibrationSettings(epsilon: 0.5, delta: Self.delta, rule: .ltt, measure: measure, order: .given))
    let quantile = try violations(world, n: 200) { try calibration.calibrate($0).outcome.choice?.index }
    #expect(quantile <= limit && quantile > 0.02)
    // CVaR at 0.9 is (s + mean of the top 0.1 − s of the rest)/0.1, near 10 s: above 0.7 for s = 0.098 and beyond.
    let cvar = try Calibration(
      CalibrationSettings(
        epsilon: 0.7, delta: Self.delta, measure: .conditionalValueAtRisk(level: 0.9), order: .given))
    var generator = SeededGenerator(seed: 21)
    var wrong = 0
    for _ in 0..<Self.trials {
      if let index = try cvar.calibrate(world.table(200, &generator)).outcome.choice?.index, index >= 3 {
        wrong += 1
      }
    }
    #expect(Double(wrong) / Double(Self.trials) <= limit)
  }

  @Test func `weights keep the promise on shifted data`() throws {
    // Calibration draws a hard sample with probability 0.2, deployment with 0.5: ratios 2.5 and 0.625.
    let hard = [0, 0.05, 0.15, 0.21, 0.4]
    let truth = hard.map { 0.5 * $0 }
    var generator = SeededGenerator(seed: 31)
    var (weighted, blind) = (0, 0)
    let calibration = try Calibration(
      CalibrationSettings(epsilon: Self.epsilon, delta: Self.delta, order: .given))
    for _ in 0..<Self.trials {
      let samples = (0..<300).map { _ in (generator.uniform() < 0.2, generator.uniform()) }
      let table = try LossTable(
        thresholds: hard.indices.map { -Double($0) },
        losses: hard.flatMap { share in samples.map { $0.0 && $0.1 < share ? 1.0 : 0 } }, firstRow: .ordinary)
      let weights = try SampleWeights(samples.map { $0.0 ? 2.5 : 0.625 }, bound: 2.5)
      if let index = try calibration.calibrate(table, weights: weights).outcome.choice?.index,
        truth[index] > Self.epsilon
      {
        weighted += 1
      }
      if let index = try calibration.calibrate(table).outcome.choice?.index, truth[index] > Self.epsilon {
        blind += 1
      }
    }
    #expect(Double(weighted) / Double(Self.trials) <= limit)
    #expect(Double(blind) / Double(Self.trials) > 0.5)
  }
}
