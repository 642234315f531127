import EarlyExit
import Foundation
import Generation
import RiskControl
import Transformers

/// Answers that are given only from a certified confidence on.
struct CertifiedAnswers {
  /// How the answers of a calibration were made, as its certificate has it.
  struct Policy: Codable, Equatable {
    var modelDigest: String
    var templateDigest: String
    var compute: String?
    var regime: DecodingRegime
    var applicability: ApplicabilityGuard.Reference?

    enum CodingKeys: String, CodingKey {
      case compute, regime
      case modelDigest = "model_sha256"
      case templateDigest = "template_sha256"
      case applicability = "guard"
    }

    init(_ loaded: LoadedModel, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference?) throws {
      modelDigest = try loaded.digest()
      templateDigest = try ExitPolicyDescription.templateDigest(of: loaded.model)
      compute = ExitPolicyDescription.compute(of: loaded.model)
      self.regime = regime
      self.applicability = applicability
    }

    func json() throws -> JSONValue {
      try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(self))
    }
  }

  let threshold: Double
  let applicability: ApplicabilityGuard?

  /// - Parameters:
  ///   - certificate: What was read from `path`.
  ///   - regime: How answers are decoded here.
  /// - Throws: ``CommandError`` where it certifies nothing, or not this.
  init(_ certificate: AnswerCertificate, path: String, _ loaded: LoadedModel, regime: DecodingRegime) throws {
    guard let policy = try? JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(certificate.policy))
    else { throw CommandError("\(path): policy: it does not say how the answers were made") }
    let here = try Policy(loaded, regime: regime, applicability: nil)
    guard policy.modelDigest == here.modelDigest else {
      throw CommandError(
        "\(path): the certificate is for another model: SHA-256 \(policy.modelDigest), found \(here.modelDigest)"
      )
    }
    try ExitOptions.demandCompute(policy.compute, of: loaded, path)
    guard policy.templateDigest == here.templateDigest else {
      throw CommandError("\(path): the certificate is for another prompt template")
    }
    try ExitOptions.demand(policy.regime, covers: regime, path)
    guard let threshold = certificate.threshold else {
      throw CommandError("\(path) certifies nothing: at no confidence are answers right often enough")
    }
    self.threshold = threshold
    applicability = try CertificateGuard.load(policy.applicability, beside: path, for: loaded)
    Console.note(certificate.guarantee)
  }

  /// Whether the answer is given.
  ///
  /// - Parameter isWhole: Whether the document fitted as it is.
  func gives(_ generation: Generation, answer: DocumentAnswer, isWhole: Bool) -> Bool {
    isWhole && answer.answered && (generation.applicability?.isInside ?? true)
      && (answer.confidence ?? 0) >= threshold
  }

  /// What stands in the place of an answer that is not given.
  static let notSure = "Not sure."
}
