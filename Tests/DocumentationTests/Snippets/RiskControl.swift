import RiskControl

func certifiedThreshold() throws -> CalibrationOutcome {
  // snippet
  // A sample: the thresholds at which its output changes, and its loss and cost from there on.
  let samples = (0..<200).map { number in
    LossSteps(thresholds: [1, 0.8], losses: [0, number % 20 == 0 ? 1 : 0], costs: [30, 20])
  }
  let table = try LossTable(steps: samples)
  let result = try Calibration(CalibrationSettings(epsilon: 0.15, delta: 0.1)).calibrate(table)
  switch result.outcome {
  case .certified(let choice): print("leave at confidences from \(choice.threshold) on")
  case .onlySafest(_, let why): print("only the full model is certified:", why)
  case .nothingCertified(let why): print("nothing is certified:", why)
  }
  // end
  return result.outcome
}
