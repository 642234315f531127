import Dispatch
import Synchronization

/// Repeated random splits of one table into calibration and test samples. They show what each rule really does on these
/// data.
public struct Study: Sendable {
  /// A rule with its bound.
  public struct Method: Sendable, Equatable, Hashable {
    /// The threshold rule.
    public let rule: ThresholdRule
    /// Its bound; ``RiskBound/wsr`` where the rule reads none.
    public let bound: RiskBound

    /// A rule; the bound counts for UCB and LTT alone.
    public init(_ rule: ThresholdRule, _ bound: RiskBound = .wsr) {
      self.rule = rule
      self.bound = bound
    }

    /// `empirical`, `crc`, `ucb/wsr`, `ltt/hb`.
    public var name: String {
      rule.controlsWithHighProbability ? "\(rule.rawValue)/\(bound.rawValue)" : rule.rawValue
    }

    /// Reads what ``name`` writes. A missing bound is the published one: betting for UCB, Hoeffding–Bentkus for LTT.
    public init?(name: String) {
      let parts = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      guard parts.count <= 2, let rule = parts.first.flatMap(ThresholdRule.init) else { return nil }
      if parts.count == 2 {
        guard rule.controlsWithHighProbability, let bound = RiskBound(rawValue: parts[1]) else { return nil }
        self.init(rule, bound)
      } else {
        self.init(rule, rule == .ltt ? .hoeffdingBentkus : .wsr)
      }
    }
  }

  /// What was measured for one method, calibration size and ε, over all trials.
  public struct Measurement: Sendable, Equatable {
    /// Rule and bound.
    public let method: Method
    /// n.
    public let calibrationSize: Int
    /// ε.
    public let epsilon: Double
    /// Mean and sample standard deviation of the test risk.
    public let risk: Spread
    /// Share of the trials whose test risk was above ε. Test risks are estimates: on small test sets some of these are
    /// noise.
    public let violationRate: Double
    /// Mean and standard deviation of the test cost; nil where the table has none.
    public let cost: Spread?
    /// Share of the trials that certified a threshold past the safest.
    public let certifiedRate: Double
    /// Share of the trials that certified the safest threshold alone.
    public let onlySafestRate: Double
    /// Share of the trials that certified nothing. Such a trial runs the full model: its risk counts as 0, its cost as
    /// that of the first row.
    public let nothingCertifiedRate: Double
  }

  /// A mean and a sample standard deviation over trials.
  public struct Spread: Sendable, Equatable {
    /// The mean.
    public let mean: Double
    /// √(Σ(x − mean)²/(trials − 1)); 0 for a single trial.
    public let deviation: Double

    init(_ values: [Double]) {
      let mean = values.reduce(0, +) / Double(values.count)
      self.mean = mean
      deviation =
        values.count < 2
        ? 0 : (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count - 1)).squareRoot()
    }
  }

  /// The methods compared.
  public var methods: [Method]
  /// Number of random splits, at least 1.
  public var trials: Int
  /// Calibration sizes, each at least 1 and below the table's sample count; the rest of a split is its test set.
  public var calibrationSizes: [Int]
  /// The grid of ε.
  public var epsilons: [Double]
  /// δ of UCB and LTT.
  public var delta: Double
  /// How far CRC and the empirical rule look.
  public var scan: ThresholdScan
  /// Seed of the splits; a calibration set is the start of the trial's shuffle, and the betting order follows it.
  public var seed: UInt64

  /// A study; its settings are checked when it is run.
  public init(
    methods: [Method] = [Method(.empirical), Method(.crc), Method(.ucb), Method(.ltt, .hoeffdingBentkus)],
    trials: Int = 100, calibrationSizes: [Int], epsilons: [Double], delta: Double = 0.1,
    scan: ThresholdScan = .full, seed: UInt64 = 0
  ) {
    self.methods = methods
    self.trials = trials
    self.calibrationSizes = calibrationSizes
    self.epsilons = epsilons
    self.delta = delta
    self.scan = scan
    self.seed = seed
  }

  /// Runs the trials on all cores; the result does not depend on how many there are.
  ///
  /// - Parameters:
  ///   - table: the losses to split.
  ///   - progress: called with the number of trials done so far, from several threads, one call at a time.
  /// - Returns: measurements by size, then method, then ε, in the order of the settings. O(trials · sizes · methods · K
  ///   n).
  /// - Throws: ``RiskControlError`` for a setting out of range.
  public func run(
    on table: LossTable, progress: @escaping @Sendable (Int) -> Void = { _ in }
  ) throws(RiskControlError) -> [Measurement] {
    try check(table)
    let totals = StudyTotals(table)
    let finished = Mutex<[Int: StudyTrial]>([:])
    let workers = min(trials, 64)
    let next = Atomic(0)
    DispatchQueue.concurrentPerform(iterations: workers) { _ in
      while true {
        let trial = next.add(1, ordering: .relaxed).oldValue
        guard trial < trials else { return }
        let result = StudyTrial(self, table: table, totals: totals, trial: trial)
        finished.withLock { done in
          done[trial] = result
          progress(done.count)
        }
      }
    }
    let results = finished.withLock { done in (0..<trials).compactMap { done[$0] } }
    return summary(results, hasCosts: table.costs != nil)
  }

  private func check(_ table: LossTable) throws(RiskControlError) {
    guard trials > 0 else { throw .setting("trials must be at least 1, found \(trials)") }
    guard !methods.isEmpty, !epsilons.isEmpty, !calibrationSizes.isEmpty else {
      throw .setting("a study needs at least one rule, one epsilon and one calibration size")
    }
    try CalibrationSettings.check(delta: delta)
    for epsilon in epsilons { try CalibrationSettings.check(epsilon: epsilon) }
    for size in calibrationSizes where size < 1 || size >= table.sampleCount {
      throw .setting(
        "calibration size \(size) leaves no split of \(table.sampleCount) samples; expected 1 to "
          + "\(table.sampleCount - 1)")
    }
  }

  private func summary(_ trials: [StudyTrial], hasCosts: Bool) -> [Measurement] {
    var measurements: [Measurement] = []
    var cell = 0
    for size in calibrationSizes {
      for method in methods {
        for epsilon in epsilons {
          let cells = trials.map { $0.cells[cell] }
          func rate(_ holds: (StudyTrial.Cell) -> Bool) -> Double {
            Double(cells.count(where: holds)) / Double(cells.count)
          }
          measurements.append(
            Measurement(
              method: method, calibrationSize: size, epsilon: epsilon, risk: Spread(cells.map(\.risk)),
              violationRate: rate { $0.risk > epsilon }, cost: hasCosts ? Spread(cells.map(\.cost)) : nil,
              certifiedRate: rate { $0.outcome == .certified },
              onlySafestRate: rate { $0.outcome == .onlySafest },
              nothingCertifiedRate: rate { $0.outcome == .nothing }))
          cell += 1
        }
      }
    }
    return measurements
  }
}

/// Sums over all samples, from which a test split's sums follow by taking away the calibration samples'.
struct StudyTotals: Sendable {
  let losses: [Double]
  let costs: [Double]?
  let meanCosts: [Double]?

  init(_ table: LossTable) {
    losses = table.losses.rowSums()
    if case .samples(let matrix) = table.costs { costs = matrix.rowSums() } else { costs = nil }
    if case .means(let means) = table.costs { meanCosts = means } else { meanCosts = nil }
  }
}

/// One split: every method's choice for every ε, and what it comes to on the test samples.
struct StudyTrial: Sendable {
  enum Outcome { case certified, onlySafest, nothing }

  struct Cell: Sendable {
    var outcome: Outcome
    var risk: Double
    var cost: Double
  }

  /// (sizes, methods, epsilons), the last index fastest.
  private(set) var cells: [Cell] = []

  init(_ study: Study, table: LossTable, totals: StudyTotals, trial: Int) {
    // Seeds of neighbouring trials differ by an odd constant, which the generator's own mixing takes apart.
    var generator = SeededGenerator(seed: study.seed &+ UInt64(trial) &* 0xD134_2543_DE82_EF95)
    let shuffled = SampleOrder.shuffled(count: table.sampleCount, with: &generator)
    for size in study.calibrationSizes {
      let order = Array(shuffled[..<size])
      let testCount = Double(table.sampleCount - size)
      let risks = Self.testMeans(
        table.losses, totals: totals.losses, calibration: order, testCount: testCount)
      var costs = totals.meanCosts
      if let sums = totals.costs, case .samples(let matrix) = table.costs {
        costs = Self.testMeans(matrix, totals: sums, calibration: order, testCount: testCount)
      }
      for method in study.methods {
        let settings = CalibrationSettings(
          epsilon: study.epsilons[0], delta: study.delta, rule: method.rule, bound: method.bound,
          scan: study.scan, order: .given)
        let walk = ThresholdWalk(settings: settings, order: order, weights: nil)
        for choice in walk.select([Calibration.Risk(table, epsilons: study.epsilons)]) {
          let safest = choice == 0 && table.startsAtFullModel
          cells.append(
            Cell(
              outcome: choice == nil ? .nothing : safest ? .onlySafest : .certified,
              risk: choice.map { risks[$0] } ?? 0, cost: costs?[choice ?? 0] ?? 0))
        }
      }
    }
  }

  private static func testMeans(
    _ matrix: ThresholdMatrix, totals: [Double], calibration: [Int32], testCount: Double
  ) -> [Double] {
    var means: [Double] = []
    means.reserveCapacity(totals.count)
    var cursor = RowCursor(matrix, columns: calibration)
    while cursor.advance() {
      means.append((totals[cursor.index] - CompensatedSum.of(cursor.row)) / testCount)
    }
    return means
  }
}
