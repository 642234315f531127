import RiskControl

/// The JSON of a study; its keys are stable.
struct StudyReport: Encodable {
  struct Row: Encodable {
    var rule: String
    var bound: String?
    var calibration_size: Int
    var epsilon: Double
    var risk_mean: Double
    var risk_std: Double
    var violation_rate: Double
    var cost_mean: Double?
    var cost_std: Double?
    var certified_rate: Double
    var only_safest_rate: Double
    var nothing_certified_rate: Double
  }

  let trials: Int
  let delta: Double
  let seed: UInt64
  let scan: String
  let sample_count: Int
  let measurements: [Row]

  init(study: Study, sampleCount: Int, measurements: [Study.Measurement]) {
    trials = study.trials
    delta = study.delta
    seed = study.seed
    scan = study.scan.rawValue
    sample_count = sampleCount
    self.measurements = Self.rows(measurements)
  }

  /// Answers that are given from a confidence on; the cost of a row is the share of the questions answered.
  init(study: SelectiveStudy, sampleCount: Int, measurements: [Study.Measurement]) {
    trials = study.trials
    delta = study.delta
    seed = study.seed
    scan = "selective"
    sample_count = sampleCount
    self.measurements = Self.rows(measurements)
  }

  private static func rows(_ measurements: [Study.Measurement]) -> [Row] {
    measurements.map { cell in
      Row(
        rule: cell.method.rule.rawValue,
        bound: cell.method.rule.controlsWithHighProbability ? cell.method.bound.rawValue : nil,
        calibration_size: cell.calibrationSize, epsilon: cell.epsilon, risk_mean: cell.risk.mean,
        risk_std: cell.risk.deviation, violation_rate: cell.violationRate, cost_mean: cell.cost?.mean,
        cost_std: cell.cost?.deviation, certified_rate: cell.certifiedRate,
        only_safest_rate: cell.onlySafestRate,
        nothing_certified_rate: cell.nothingCertifiedRate)
    }
  }
}
