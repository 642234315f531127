/// How a threshold is chosen.
public enum ThresholdRule: String, Sendable, Equatable, CaseIterable, Codable {
  /// The least safe threshold whose mean calibration loss is at most ε. No guarantee: the baseline.
  case empirical
  /// Conformal risk control (Angelopoulos et al. 2022): the least safe threshold with R̂ ≤ ((n + 1) ε − B)/n. The
  /// *expected* risk is at most ε where the loss of every sample is monotone in the threshold.
  case crc
  /// Risk-controlling prediction sets (Bates et al. 2021): the last threshold before the upper bound first reaches ε.
  case ucb
  /// Learn then test (Angelopoulos et al. 2021) with fixed-sequence testing: the last threshold before a p-value first
  /// exceeds δ.
  case ltt

  /// Whether the risk itself, not its mean over calibration sets, is at most ε with probability 1 − δ.
  public var controlsWithHighProbability: Bool { self == .ucb || self == .ltt }
}

/// The statistic of the losses that is kept at or below ε.
public enum RiskMeasure: Sendable, Equatable {
  /// The mean loss.
  case mean
  /// The quantile at this level: a new sample's loss is at most ε with probability at least `level`.
  case quantile(level: Double)
  /// The conditional value at risk: the mean of the worst 1 − `level` of the losses (Rockafellar and Uryasev 2000).
  case conditionalValueAtRisk(level: Double)

  /// `mean`, `quantile:0.9` or `cvar:0.9`.
  public var name: String {
    switch self {
    case .mean: "mean"
    case .quantile(let level): "quantile:\(plain(level))"
    case .conditionalValueAtRisk(let level): "cvar:\(plain(level))"
    }
  }

  /// Reads what ``name`` writes; nil for anything else.
  public init?(name: String) {
    let parts = name.split(separator: ":", omittingEmptySubsequences: false)
    switch (parts.first, parts.count) {
    case ("mean", 1): self = .mean
    case ("quantile", 2):
      guard let level = Double(parts[1]) else { return nil }
      self = .quantile(level: level)
    case ("cvar", 2):
      guard let level = Double(parts[1]) else { return nil }
      self = .conditionalValueAtRisk(level: level)
    default: return nil
    }
  }
}

/// How far CRC and the empirical rule look.
public enum ThresholdScan: String, Sendable, Equatable, CaseIterable, Codable {
  /// At every threshold: the least safe one that passes, as published.
  case full
  /// From the safe end to the first violation. The right choice where curves are only roughly monotone.
  case cautious
}

/// The settings of one calibration.
public struct CalibrationSettings: Sendable, Equatable {
  /// ε: the tolerated risk, in (0, 1).
  public var epsilon: Double
  /// δ: the tolerated probability of a bad calibration set, in (0, 1). CRC and the empirical rule do not read it.
  public var delta: Double
  /// How the threshold is chosen.
  public var rule: ThresholdRule
  /// The bound of UCB and LTT; CRC and the empirical rule do not read it.
  public var bound: RiskBound
  /// The statistic that is kept at or below ε; a tail needs UCB or LTT.
  public var measure: RiskMeasure
  /// How far CRC and the empirical rule look; UCB and LTT always stop at the first violation.
  public var scan: ThresholdScan
  /// The order in which a betting bound sees the samples.
  public var order: SampleOrder

  /// Settings; they are checked when they are used.
  ///
  /// - Parameters:
  ///   - epsilon: ε, above 0: the largest tolerated risk.
  ///   - delta: δ, above 0 and below 1: the tolerated probability that the risk is larger all the same.
  ///   - rule: How the threshold is chosen.
  ///   - bound: How UCB and LTT bound the mean.
  ///   - measure: The statistic that is kept at or below ε.
  ///   - scan: How far CRC and the empirical rule look.
  ///   - order: Unless given, ``SampleOrder/given`` for ``RiskBound/anytime`` and ``SampleOrder/averaged`` for the
  ///     others.
  public init(
    epsilon: Double, delta: Double = 0.1, rule: ThresholdRule = .ucb, bound: RiskBound = .wsr,
    measure: RiskMeasure = .mean, scan: ThresholdScan = .full, order: SampleOrder? = nil
  ) {
    self.epsilon = epsilon
    self.delta = delta
    self.rule = rule
    self.bound = bound
    self.measure = measure
    self.scan = scan
    self.order = order ?? (bound == .anytime ? .given : .averaged)
  }

  package func check() throws(RiskControlError) {
    try Self.check(epsilon: epsilon)
    try Self.check(delta: delta)
    if rule.controlsWithHighProbability, bound == .anytime, order != .given {
      throw .setting(
        "the anytime bound sees the samples in the order of their arrival; its order must be given, not "
          + "shuffled or averaged"
      )
    }
    if case .conditionalValueAtRisk = measure, bound == .binomial {
      throw .setting("the binomial bound is for losses of 0 and B; \(measure.name) needs another")
    }
    switch measure {
    case .mean: return
    case .quantile(let level), .conditionalValueAtRisk(let level):
      guard level > 0, level < 1 else {
        throw .setting("the level of \(measure.name) must lie in (0, 1)")
      }
      guard rule.controlsWithHighProbability else {
        throw .setting("\(measure.name) needs the rule ucb or ltt; \(rule.rawValue) controls a mean alone")
      }
    }
  }

  package static func check(epsilon: Double) throws(RiskControlError) {
    guard epsilon > 0, epsilon < 1 else {
      throw .setting("epsilon must lie in (0, 1), found \(plain(epsilon))")
    }
  }

  package static func check(delta: Double) throws(RiskControlError) {
    guard delta > 0, delta < 1 else {
      throw .setting("delta must lie in (0, 1), found \(plain(delta))")
    }
  }
}
