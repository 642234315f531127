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

  /// So many that it shows where prompts stop: the keys and values of the layer after that are what they are anyway.
  static let layers = 4

  /// How summaries are decoded with it.
  static let options = GenerationOptions(maxTokens: 8)

  /// - Parameters:
  ///   - promptDepth: The layer after which prompts stop, of a model of ``layers``.
  ///   - pays: Whether the certificate says that this pays.
  init(epsilon: Double = 0.9, promptDepth: Int? = nil, pays: Bool = true) throws {
    folder = try TemporaryDirectory()
    subject = try RunningServer.subject(in: folder, layers: promptDepth == nil ? 2 : Self.layers)
    let regime = DecodingRegime(tasks: [.summarize], options: Self.options, maxTokens: 8)
    let lines = (0..<60).map {
      "{\"id\": \($0), \"document\": \"Text \($0) of \($0 * 7 % 13) words about \($0 % 5) mills.\"}"
    }
    let data = try folder.write("data.jsonl", lines.joined(separator: "\n") + "\n")
    let policy = try ThresholdPolicy(threshold: 0, layers: [1])
    var sweep = try ThresholdSweep.exits(
      subject, strategy: ExitStrategy(policy: policy, measure: SoftmaxConfidence()), policy: policy,
      // Tokens that leave after the first layer do not see where prompts stop.
      grid: promptDepth == nil ? nil : [0.5],
      maxTokens: 8, regime: regime, promptDepth: promptDepth)
    if promptDepth != nil {
      let output = ExitCosts(layer: [1], head: 1, exitHead: pays ? 0.1 : 1000, gate: 0, propagatedLayer: 0)
      let prompt = PromptCosts(layer: 1, propagatedLayer: 0, token: 1)
      sweep.measure = { .documents(DocumentCosts(prompt: prompt, output: output)) }
    }
    let calibrator = try Calibrator(
      sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .consistency, documentsPath: data)
    var made = try #require(
      try calibrator.certificate(
        settings: CalibrationSettings(epsilon: epsilon, rule: promptDepth == nil ? .ucb : .empirical),
        output: folder.path + "/docs",
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
