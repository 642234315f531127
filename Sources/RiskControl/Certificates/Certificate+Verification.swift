extension Certificate {
  /// Recomputes the certificate from its data and compares every digit.
  ///
  /// - Parameters:
  ///   - table: the table of the certificate's own risk, built with the certificate's B.
  ///   - further: the tables of its further risks, in order.
  ///   - weights: the weights, where it was made with weights.
  /// - Throws: ``RiskControlError`` where the data are not those certified, or a value does not come out the same.
  public func verify(
    _ table: LossTable, further: [LossTable] = [], weights: SampleWeights? = nil
  ) throws(RiskControlError) {
    let digest = table.digest()
    guard digest == dataDigest else {
      throw .certificate(
        "the table is not the one that was certified: its SHA-256 is \(digest), expected \(dataDigest)")
    }
    guard further.count == furtherRisks.count else {
      throw .certificate("\(further.count) further tables, expected \(furtherRisks.count)")
    }
    for (number, (table, risk)) in zip(further, furtherRisks).enumerated()
    where table.digest() != risk.dataDigest {
      throw .certificate(
        "further table \(number + 1) is not the one that was certified: its SHA-256 is \(table.digest()), expected "
          + risk.dataDigest)
    }
    guard weights?.digest() == weightsDigest else {
      throw .certificate(
        "the weights are not those of the certificate: their SHA-256 is \(weights?.digest() ?? "missing"), expected "
          + (weightsDigest ?? "none"))
    }
    guard policiesCompared > 0 else {
      throw .certificate("policies_compared is \(policiesCompared), expected at least 1")
    }
    var shared = settings
    shared.delta /= Double(policiesCompared)
    let calibration = try Calibration(shared)
    let results: [CalibrationResult]
    if further.isEmpty {
      results = [try calibration.calibrate(table, weights: weights)]
    } else {
      let others = zip(further, furtherRisks).map { (table: $0, epsilon: $1.epsilon) }
      results = try calibration.calibrate(together: [(table: table, epsilon: settings.epsilon)] + others)
    }
    var again = Certificate(
      results[0], table: table, settings: settings, weights: weights, policiesCompared: policiesCompared,
      further: Array(zip(results.dropFirst(), further)).map { (result: $0, table: $1) },
      furtherMetrics: furtherRisks.map(\.metric), subject: subject,
      program: program)
    again.signature = signature
    // The table does not tell.
    again.outsideShare = outsideShare
    again.auditEpsilon = auditEpsilon
    guard again != self else { return }
    func differs<Value: Equatable>(_ key: CodingKeys, _ path: KeyPath<Certificate, Value>) -> String? {
      self[keyPath: path] == again[keyPath: path]
        ? nil
        : "\(key.rawValue) recomputes to \(again[keyPath: path]), the certificate says \(self[keyPath: path])"
    }
    let differences: [String?] = [
      differs(.outcome, \.outcome), differs(.index, \.index), differs(.threshold, \.threshold),
      differs(.upperBound, \.upperBound), differs(.empiricalRisk, \.empiricalRisk), differs(.cost, \.cost),
      differs(.safestCost, \.safestCost), differs(.lossBound, \.lossBound),
      differs(.sampleCount, \.sampleCount), differs(.furtherRisks, \.furtherRisks),
      differs(.smallestCertifiableEpsilon, \.smallestCertifiableEpsilon), differs(.reason, \.reason),
    ]
    let difference = differences.compactMap { $0 }.first
    throw .certificate("the certificate does not recompute: \(difference ?? "a setting differs")")
  }
}
