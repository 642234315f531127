/// Chooses thresholds on a table, under settings that were fixed before the losses were seen.
public struct Calibration: Sendable {
  /// The settings.
  public let settings: CalibrationSettings

  /// - Throws: ``RiskControlError`` where a setting is out of range or does not fit another.
  public init(_ settings: CalibrationSettings) throws(RiskControlError) {
    try settings.check()
    self.settings = settings
  }

  /// Chooses the threshold for the settings' ε.
  ///
  /// - Parameters:
  ///   - table: the calibration losses.
  ///   - weights: density ratios of the samples, where deployment differs from calibration by known weights.
  /// - Throws: ``RiskControlError`` where the samples are too few to certify any ε below B, or the weights do not fit.
  ///   O(K n) at worst; UCB and LTT stop at the first failure.
  public func calibrate(
    _ table: LossTable, weights: SampleWeights? = nil
  ) throws(RiskControlError) -> CalibrationResult {
    let results = try calibrate(table, epsilons: [settings.epsilon], weights: weights)
    return results[0]
  }

  /// Chooses a threshold for each of several ε, in one walk over the table.
  ///
  /// Each result by itself holds with probability 1 − δ. To choose among them after seeing them, divide δ by their
  /// number first (``CalibrationSettings/delta``): the results then hold all at once.
  ///
  /// - Returns: one result for each ε, in the order given.
  public func calibrate(
    _ table: LossTable, epsilons: [Double], weights: SampleWeights? = nil
  ) throws(RiskControlError) -> [CalibrationResult] {
    for epsilon in epsilons { try CalibrationSettings.check(epsilon: epsilon) }
    return try calibrate([Risk(table, epsilons: epsilons)], weights: weights)
  }

  /// Chooses one threshold at which several risks are all at most their ε.
  ///
  /// UCB and LTT walk down in fixed sequence and stop where the first of the risks fails. "Some risk is above its ε" is
  /// refuted at level δ by refuting each one at level δ: an intersection–union test (Angelopoulos et al. 2021, section
  /// 3.1). So δ is not split, and all risks hold together with probability 1 − δ. CRC and the empirical rule return the
  /// safest of the thresholds that each risk alone would get.
  ///
  /// - Parameter risks: tables of the same thresholds and samples, with their ε; costs are read from the first.
  /// - Returns: for each risk its result at the common threshold, in the order given.
  /// - Throws: ``RiskControlError`` where the tables do not describe the same thresholds and samples.
  public func calibrate(
    together risks: [(table: LossTable, epsilon: Double)]
  ) throws(RiskControlError) -> [CalibrationResult] {
    guard let first = risks.first else {
      throw .setting("no risks; expected at least one table with its epsilon")
    }
    for (number, risk) in risks.enumerated() {
      try CalibrationSettings.check(epsilon: risk.epsilon)
      guard risk.table.thresholds == first.table.thresholds,
        risk.table.sampleCount == first.table.sampleCount
      else {
        throw .table(
          "risk \(number + 1) has \(risk.table.thresholds.count) thresholds and \(risk.table.sampleCount) samples; "
            + "expected the thresholds and the number of samples of the first risk "
            + "(\(first.table.thresholds.count) and \(first.table.sampleCount))")
      }
      guard risk.table.startsAtFullModel == first.table.startsAtFullModel else {
        throw .table("risk \(number + 1) and the first disagree on whether the first row is the full model")
      }
    }
    return try calibrate(risks.map { Risk($0.table, epsilons: [$0.epsilon]) }, weights: nil)
  }

  /// One table to hold, for each of a grid of ε.
  struct Risk {
    let table: LossTable
    let epsilons: [Double]

    init(_ table: LossTable, epsilons: [Double]) {
      self.table = table
      self.epsilons = epsilons
    }
  }

  /// With one risk, one result for each of its ε; with several risks of one ε each, one result for each risk.
  private func calibrate(
    _ risks: [Risk], weights: SampleWeights?
  ) throws(RiskControlError) -> [CalibrationResult] {
    let table = risks[0].table
    let count = table.sampleCount
    if let weights {
      guard weights.values.count == count else {
        throw .table("\(weights.values.count) weights for \(count) samples; expected one a sample")
      }
      guard settings.measure == .mean else {
        throw .setting("weights are for the mean loss; \(settings.measure.name) cannot be weighted")
      }
      guard settings.bound != .binomial || !settings.rule.controlsWithHighProbability else {
        throw .setting("the binomial bound is for losses of 0 and B, which weights change")
      }
    }
    if settings.rule.controlsWithHighProbability, settings.bound == .binomial, settings.measure == .mean {
      for risk in risks { try risk.table.checkBinary() }
    }
    let order = settings.order.indices(count: count)
    var smallest: [Double] = []
    for (number, risk) in risks.enumerated() {
      let value = smallestCertifiable(risk.table, count: count, weights: weights)
      smallest.append(value)
      guard value < risk.table.lossBound else {
        throw .table(
          "\(count) samples\(risks.count > 1 ? " (risk \(number + 1))" : "") can never certify any epsilon below "
            + "B = \(plain(risk.table.lossBound)) with \(ruleName) at delta = \(plain(settings.delta)), "
            + "even without any loss; use more samples")
      }
    }
    let walk = ThresholdWalk(settings: settings, order: order, weights: weights)
    let selections = walk.select(risks)
    let means = table.meanCosts()
    return risks.indices.flatMap { number -> [CalibrationResult] in
      risks[number].epsilons.indices.map { position in
        let epsilon = risks[number].epsilons[position]
        let (table, last) = (risks[number].table, selections[position])
        let next = last.map { $0 + 1 } ?? 0
        return CalibrationResult(
          epsilon: epsilon,
          outcome: outcome(
            table, epsilon: epsilon, last: last, smallest: smallest[number], costs: means, walk: walk),
          smallestCertifiableEpsilon: smallest[number],
          heldBack: next < table.thresholds.count ? walk.heldBack(table, row: next, epsilon: epsilon) : nil)
      }
    }
  }

  package var ruleName: String {
    settings.rule.controlsWithHighProbability
      ? "\(settings.rule.rawValue) and \(settings.bound.rawValue)" : settings.rule.rawValue
  }

  /// The smallest ε that `count` samples without loss certify.
  func smallestCertifiable(_ table: LossTable, count: Int, weights: SampleWeights?) -> Double {
    if settings.rule == .crc, let weights {
      return table.lossBound * weights.bound / (weights.values.reduce(0, +) + weights.bound)
    }
    return settings.smallestCertifiableEpsilon(
      sampleCount: count, lossBound: table.lossBound * (weights?.bound ?? 1))
  }

  private func outcome(
    _ table: LossTable, epsilon: Double, last: Int?, smallest: Double, costs: [Double]?, walk: ThresholdWalk
  ) -> CalibrationOutcome {
    func choice(_ index: Int, isFullModel: Bool) -> ThresholdChoice {
      let statement = walk.statement(table, row: index)
      return ThresholdChoice(
        index: index, threshold: table.thresholds[index],
        upperBound: isFullModel ? 0 : statement.upperBound,
        empiricalRisk: isFullModel ? 0 : statement.empiricalRisk, cost: costs?[index], safestCost: costs?[0])
    }
    let firstTested = table.startsAtFullModel ? 1 : 0
    if let last, last >= firstTested { return .certified(choice(last, isFullModel: false)) }
    let why: CalibrationShortfall
    if firstTested >= table.thresholds.count {
      why = .noOtherThreshold
    } else if smallest >= epsilon {
      why = .tooFewSamples(smallestEpsilon: smallest)
    } else {
      let statement = walk.statement(table, row: firstTested)
      why = .firstThresholdFailed(
        index: firstTested, threshold: table.thresholds[firstTested],
        upperBound: statement.upperBound ?? statement.empiricalRisk)
    }
    return table.startsAtFullModel
      ? .onlySafest(choice(0, isFullModel: true), why: why) : .nothingCertified(why: why)
  }
}
