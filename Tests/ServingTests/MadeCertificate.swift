import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import Serving
import TestSupport
import Testing
import TextLosses

/// A certificate of summaries of at most eight tokens that leave after the first layer, of the tests' model.
struct MadeCertificate {
  let folder: TemporaryDirectory
  let path: String
  let certificate: Certificate
  let subject: DecodingSubject

  /// How summaries are decoded with it.
  static let options = GenerationOptions(maxTokens: 8)

  init(epsilon: Double = 0.9) throws {
    folder = try TemporaryDirectory()
    subject = try RunningServer.subject(in: folder)
    let regime = DecodingRegime(tasks: [.summarize], options: Self.options, maxTokens: 8)
    let lines = (0..<60).map {
      "{\"id\": \($0), \"document\": \"Text \($0) of \($0 * 7 % 13) words about \($0 % 5) mills.\"}"
    }
    let data = try folder.write("data.jsonl", lines.joined(separator: "\n") + "\n")
    let policy = try ThresholdPolicy(threshold: 0, layers: [1])
    let sweep = try ThresholdSweep.exits(
      subject, strategy: ExitStrategy(policy: policy, measure: SoftmaxConfidence()), policy: policy,
      maxTokens: 8, regime: regime)
    let calibrator = try Calibrator(
      sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .consistency, documentsPath: data)
    var made = try #require(
      try calibrator.certificate(
        settings: CalibrationSettings(epsilon: epsilon), output: folder.path + "/docs",
        shouldStop: { false }))
    made.auditEpsilon = epsilon
    certificate = made
    path = folder.path + "/docs.certificate.json"
    try certificate.write(to: path)
  }

  func served(for subject: DecodingSubject) throws -> ServedCertificate {
    try ServedCertificate(path: path, for: subject)
  }

  /// Loads it as the command line does.
  func policy() throws -> CertifiedPolicy {
    try CertifiedPolicy.load(
      path, for: subject,
      regime: DecodingRegime(tasks: [.summarize], options: Self.options, maxTokens: 8))
  }
}
