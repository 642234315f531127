/// A threshold that was chosen, and what is known about it.
public struct ThresholdChoice: Sendable, Equatable {
  /// Row of the table.
  public let index: Int
  /// λ.
  public let threshold: Double
  /// UCB, LTT: the upper bound on the risk of this threshold. CRC: (n R̂ + B)/(n + 1), the bound on the expected risk.
  /// The full model: 0. The empirical rule: nil.
  public let upperBound: Double?
  /// The same statistic of the calibration samples: their (weighted) mean loss, empirical quantile or CVaR.
  public let empiricalRisk: Double
  /// Mean cost of the calibration samples at this threshold, where the table has costs.
  public let cost: Double?
  /// Mean cost at the safest threshold.
  public let safestCost: Double?
}

/// Why no threshold past the safest was certified.
public enum CalibrationShortfall: Sendable, Equatable {
  /// Even losses that are all 0 could not certify this ε with so few samples.
  case tooFewSamples(smallestEpsilon: Double)
  /// The first threshold to be tested failed, with this upper bound (or mean loss, for the empirical rule).
  case firstThresholdFailed(index: Int, threshold: Double, upperBound: Double)
  /// The table holds the full model and nothing else.
  case noOtherThreshold
  /// A betting bound would certify this threshold, but its observed risk lies above that bound and above ε. Where
  /// samples come in random order, that is rare and the difference is small. Where they are sorted, it is common.
  case observedAboveBound(index: Int, threshold: Double, observedRisk: Double, bound: Double)
}

/// The outcome of a calibration: one of three different results, never an index that stands for all of them.
public enum CalibrationOutcome: Sendable, Equatable {
  /// A threshold past the safest is certified (chosen, for the empirical rule).
  case certified(ThresholdChoice)
  /// Only the full model is certified, by construction: its loss against itself is 0.
  case onlySafest(ThresholdChoice, why: CalibrationShortfall)
  /// Nothing is certified, because the table does not begin at the full model.
  case nothingCertified(why: CalibrationShortfall)

  /// Which of the three results it is.
  public var kind: Certificate.Outcome {
    switch self {
    case .certified: .certified
    case .onlySafest: .onlySafest
    case .nothingCertified: .nothingCertified
    }
  }

  /// `certified`, `only_safest` or `nothing_certified`.
  public var name: String { kind.rawValue }

  /// The threshold to decode with, where there is one.
  public var choice: ThresholdChoice? {
    switch self {
    case .certified(let choice), .onlySafest(let choice, _): choice
    case .nothingCertified: nil
    }
  }

  /// Why no threshold past the safest was certified; nil where one was.
  public var shortfall: CalibrationShortfall? {
    switch self {
    case .certified: nil
    case .onlySafest(_, let why), .nothingCertified(let why): why
    }
  }
}

/// The result of one calibration.
public struct CalibrationResult: Sendable, Equatable {
  /// ε of this result.
  public let epsilon: Double
  /// What came out.
  public let outcome: CalibrationOutcome
  /// The smallest ε that n samples without any loss would certify with this rule, bound and δ.
  public let smallestCertifiableEpsilon: Double
  /// The next threshold, if nothing but its observed risk kept it from being certified; nil otherwise.
  public let heldBack: CalibrationShortfall?
}
