import Certification
import EarlyExit
import Generation
import RiskControl
import TextLosses

func calibrate(_ subject: DecodingSubject, documents: String, output: String) throws -> CertifiedPolicy? {
  // snippet
  let regime = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 8)
  let policy = try ThresholdPolicy(threshold: 0)
  let strategy = ExitStrategy(policy: policy, measure: SoftmaxConfidence())
  let sweep = try ThresholdSweep.exits(
    subject, strategy: strategy, policy: policy, maxTokens: 8, regime: regime)
  let calibrator = try Calibrator(
    sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .consistency, documentsPath: documents)
  let settings = CalibrationSettings(epsilon: 0.1, delta: 0.1)
  guard let certificate = try calibrator.certificate(settings: settings, output: output) else { return nil }
  let path = output + ".certificate.json"
  try certificate.write(to: path)
  print(certificate.statement)
  let certified = try CertifiedPolicy.load(path, for: subject, regime: regime)
  // end
  return certified
}
