import EarlyExit
import Foundation
import Generation
import RiskControl
import Transformers

/// Answers that are given only from a certified confidence on.
public struct CertifiedAnswers: Sendable {
  /// How the answers of a calibration were made, as its certificate has it.
  public struct Policy: Codable, Sendable, Equatable {
    /// SHA-256 of the model.
    public var modelDigest: String
    /// SHA-256 of what the prompt template makes of an empty message.
    public var templateDigest: String
    /// How the model computes; `nil` for the usual path.
    public var compute: String?
    /// How answers were decoded.
    public var regime: DecodingRegime
    /// Which documents it applies to; `nil` for all.
    public var applicability: ApplicabilityGuard.Reference?

    enum CodingKeys: String, CodingKey {
      case compute, regime
      case modelDigest = "model_sha256"
      case templateDigest = "template_sha256"
      case applicability = "guard"
    }

    /// How a model answers here.
    public init(
      _ subject: DecodingSubject, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference?
    ) throws {
      modelDigest = subject.modelDigest
      templateDigest = try ExitPolicyDescription.templateDigest(of: subject.model)
      compute = ExitPolicyDescription.compute(of: subject.model)
      self.regime = regime
      self.applicability = applicability
    }

    /// As certificates hold it.
    public func json() throws -> JSONValue {
      try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(self))
    }
  }

  /// Answers of a lower confidence are not given.
  public let threshold: Double
  /// Which documents are answered; `nil` for any.
  public let applicability: ApplicabilityGuard?

  /// Checks that a certificate of answers holds here.
  ///
  /// - Parameters:
  ///   - certificate: What was read from `path`.
  ///   - regime: How answers are decoded here.
  /// - Throws: ``CertificationError`` where it certifies nothing, or not this.
  public init(
    _ certificate: AnswerCertificate, path: String, for subject: DecodingSubject, regime: DecodingRegime
  ) throws {
    let check = CertificateCheck(name: path)
    guard let policy = try? JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(certificate.policy))
    else {
      throw CertificationError(.notCovered, "\(path): policy: it does not say how the answers were made")
    }
    let here = try Policy(subject, regime: regime, applicability: nil)
    guard policy.modelDigest == here.modelDigest else {
      throw CertificationError(
        .notCovered,
        "\(path): the certificate is for another model: SHA-256 \(policy.modelDigest), found \(here.modelDigest)"
      )
    }
    try check.compute(policy.compute, subject)
    guard policy.templateDigest == here.templateDigest else {
      throw CertificationError(.notCovered, "\(path): the certificate is for another prompt template")
    }
    try check.covers(policy.regime, regime)
    guard let threshold = certificate.threshold else {
      throw CertificationError(
        .notCovered, "\(path) certifies nothing: at no confidence are answers right often enough")
    }
    self.threshold = threshold
    applicability = try CertifiedPolicy.loadGuard(policy.applicability, beside: path, for: subject)
  }

  /// Whether the answer is given.
  ///
  /// - Parameter isWhole: Whether the document fitted as it is.
  public func gives(_ generation: Generation, answer: DocumentAnswer, isWhole: Bool) -> Bool {
    isWhole && answer.answered && (generation.applicability?.isInside ?? true)
      && (answer.confidence ?? 0) >= threshold
  }

  /// What stands in the place of an answer that is not given.
  public static let notSure = "Not sure."
}
