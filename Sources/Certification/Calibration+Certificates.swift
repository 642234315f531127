import RiskControl

extension Calibration {
  /// A risk that is held beside the first, at the same threshold.
  public struct FurtherRisk: Sendable {
    /// Its losses, at the thresholds and on the samples of the first.
    public var table: LossTable
    /// What it may be at most.
    public var epsilon: Double
    /// What its losses are, where that is known.
    public var metric: String?

    /// Puts a risk together.
    public init(table: LossTable, epsilon: Double, metric: String? = nil) {
      self.table = table
      self.epsilon = epsilon
      self.metric = metric
    }
  }

  /// Calibrates a table, and writes down what came out.
  ///
  /// - Parameters:
  ///   - table: The losses of the first risk.
  ///   - epsilons: What its mean may be at most; further risks take the first of them alone.
  ///   - weights: Density ratios of the samples, without further risks.
  ///   - further: Risks that have to hold together with it.
  ///   - subject: What the losses are of.
  ///   - program: What makes the certificates.
  /// - Returns: One for each ε; one for all risks together.
  public func certificates(
    of table: LossTable, epsilons: [Double], weights: SampleWeights? = nil, further: [FurtherRisk] = [],
    subject: Certificate.Subject, program: String
  ) throws(RiskControlError) -> [Certificate] {
    guard further.isEmpty else {
      let risks =
        [(table: table, epsilon: settings.epsilon)] + further.map { (table: $0.table, epsilon: $0.epsilon) }
      let results = try calibrate(together: risks)
      return [
        Certificate(
          results[0], table: table, settings: settings,
          further: zip(results.dropFirst(), further).map { (result: $0, table: $1.table) },
          furtherMetrics: further.compactMap(\.metric), subject: subject, program: program)
      ]
    }
    return try calibrate(table, epsilons: epsilons, weights: weights).map {
      Certificate(
        $0, table: table, settings: settings, weights: weights, subject: subject, program: program)
    }
  }

  /// Chooses among policies and writes down what came out of the one chosen, or of the first where none is.
  ///
  /// - Parameters:
  ///   - policies: At least one.
  ///   - subjects: What the losses of each are of.
  ///   - program: What makes the certificate.
  public func certificate(
    among policies: [Policy], subjects: [Certificate.Subject], program: String
  ) throws(RiskControlError) -> (certificate: Certificate, choice: PolicyResult) {
    let choice = try choose(among: policies)
    let index = choice.chosen ?? 0
    let certificate = Certificate(
      choice.results[index], table: policies[index].table, settings: settings,
      policiesCompared: policies.count, subject: subjects[index], program: program)
    return (certificate, choice)
  }
}
