/// Repeated random splits of one file of answers into calibration and test answers. They show which share
/// ``SelectiveCalibration`` lets through at each ε, and how large the risk among the answers given really is.
public struct SelectiveStudy: Sendable {
  /// Number of random splits, at least 1.
  public var trials: Int
  /// Calibration sizes; the rest of a split is its test set.
  public var calibrationSizes: [Int]
  /// The grid of ε.
  public var epsilons: [Double]
  /// δ.
  public var delta: Double
  /// What bounds the mean loss of the answers given.
  public var bound: RiskBound
  /// Seed of the splits; the betting order follows the trial's shuffle.
  public var seed: UInt64

  /// A study; its settings are checked when it is run.
  public init(
    trials: Int = 100, calibrationSizes: [Int], epsilons: [Double], delta: Double = 0.1,
    bound: RiskBound = .wsr, seed: UInt64 = 0
  ) {
    self.trials = trials
    self.calibrationSizes = calibrationSizes
    self.epsilons = epsilons
    self.delta = delta
    self.bound = bound
    self.seed = seed
  }

  /// A question, with the confidence and the loss of its answer.
  public struct Sample: Sendable, Equatable {
    /// Larger is surer; `nil` where the model declined, or the guard found the document outside.
    public var confidence: Double?
    /// In [0, 1]; counts for nothing without an answer.
    public var loss: Double

    /// A question.
    public init(confidence: Double?, loss: Double) {
      self.confidence = confidence
      self.loss = loss
    }
  }

  /// The bound to take unless told otherwise: the exact one where every loss of an answer is 0 or 1, and betting else.
  public static func usualBound(for samples: [Sample]) -> RiskBound {
    samples.allSatisfy { $0.confidence == nil || $0.loss == 0 || $0.loss == 1 } ? .binomial : .wsr
  }

  /// Runs the trials. O(trials · sizes · ε · thresholds · n).
  ///
  /// - Parameters:
  ///   - samples: The questions that the splits are drawn from.
  ///   - progress: Called with the number of trials done so far.
  /// - Returns: Measurements by size, then ε. The cost of each is the share of the test questions that are answered;
  ///   its risk is the mean loss of those. A trial that certifies nothing answers nothing, at a risk of 0.
  /// - Throws: ``RiskControlError`` for a setting or sample out of range.
  public func run(
    on samples: [Sample], progress: (Int) -> Void = { _ in }
  ) throws(RiskControlError) -> [Study.Measurement] {
    guard trials > 0 else { throw .setting("trials must be at least 1, found \(trials)") }
    guard !epsilons.isEmpty, !calibrationSizes.isEmpty else {
      throw .setting("a study needs at least one epsilon and one calibration size")
    }
    for size in calibrationSizes where size < 1 || size >= samples.count {
      throw .setting(
        "calibration size \(size) leaves no split of \(samples.count) questions; expected 1 to "
          + "\(samples.count - 1)")
    }
    var cells = Array(repeating: [Cell](), count: calibrationSizes.count * epsilons.count)
    for trial in 0..<trials {
      // Seeds of neighbouring trials differ by an odd constant, which the generator's own mixing takes apart.
      var generator = SeededGenerator(seed: seed &+ UInt64(trial) &* 0xD134_2543_DE82_EF95)
      let order = SampleOrder.shuffled(count: samples.count, with: &generator).map { samples[Int($0)] }
      for (place, size) in calibrationSizes.enumerated() {
        let (calibration, test) = (order[..<size].filter { $0.confidence != nil }, order[size...])
        for (column, epsilon) in epsilons.enumerated() {
          let rule = try SelectiveCalibration(
            CalibrationSettings(epsilon: epsilon, delta: delta, rule: .ucb, bound: bound, order: .given))
          let result = try rule.calibrate(
            confidences: calibration.map { $0.confidence ?? 0 }, losses: calibration.map(\.loss))
          let given = test.filter { sample in
            guard let threshold = result.threshold, let confidence = sample.confidence else { return false }
            return confidence >= threshold
          }
          cells[place * epsilons.count + column].append(
            Cell(
              share: Double(given.count) / Double(test.count),
              risk: CompensatedSum.mean(given.map(\.loss)), isCertified: result.threshold != nil))
        }
      }
      progress(trial + 1)
    }
    return cells.enumerated().map { index, trials in
      let epsilon = epsilons[index % epsilons.count]
      func rate(_ holds: (Cell) -> Bool) -> Double {
        Double(trials.count(where: holds)) / Double(trials.count)
      }
      return Study.Measurement(
        method: Study.Method(.ucb, bound), calibrationSize: calibrationSizes[index / epsilons.count],
        epsilon: epsilon, risk: Study.Spread(trials.map(\.risk)), violationRate: rate { $0.risk > epsilon },
        cost: Study.Spread(trials.map(\.share)), certifiedRate: rate(\.isCertified), onlySafestRate: 0,
        nothingCertifiedRate: rate { !$0.isCertified })
    }
  }

  private struct Cell {
    var share: Double
    var risk: Double
    var isCertified: Bool
  }
}

extension CompensatedSum {
  /// 0 for no values.
  fileprivate static func mean(_ values: [Double]) -> Double {
    values.isEmpty ? 0 : values.withUnsafeBufferPointer { of($0) } / Double(values.count)
  }
}
