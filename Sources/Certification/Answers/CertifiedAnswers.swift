import EarlyExit
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
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
    /// Exits or drafts that the answers came about with; `nil` for full depth.
    public var decoding: PolicyDescription?
    /// The exit threshold or rollback threshold of these.
    public var decodingThreshold: Double?

    enum CodingKeys: String, CodingKey {
      case compute, regime, decoding
      case decodingThreshold = "decoding_threshold"
      case modelDigest = "model_sha256"
      case templateDigest = "template_sha256"
      case applicability = "guard"
    }

    /// How a model answers here.
    ///
    /// - Parameters:
    ///   - subject: The model, with its digest.
    ///   - regime: How answers are decoded here.
    ///   - applicability: Which documents are answered; `nil` for any.
    ///   - strategy: Exits or drafts with their threshold; `nil` for full depth.
    /// - Throws: ``CertificationError`` for another strategy.
    public init(
      _ subject: DecodingSubject, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference?,
      strategy: (any DecodingStrategy)? = nil
    ) throws {
      modelDigest = subject.modelDigest
      templateDigest = try subject.model.templateDigest()
      compute = subject.model.computeName
      self.regime = regime
      self.applicability = applicability
      guard let strategy else { return }
      if let exits = strategy as? ExitStrategy, let policy = exits.policy as? ThresholdPolicy {
        decoding = .exits(
          try ExitPolicyDescription(
            exits, policy: policy.with(threshold: 0), model: subject.model, modelDigest: subject.modelDigest,
            headsDigest: subject.headsDigest, regime: regime, applicability: applicability))
        decodingThreshold = policy.threshold
      } else if let drafts = strategy as? SpeculationStrategy, let draft = subject.draft,
        case .rollback(let threshold) = drafts.rule
      {
        decoding = .drafts(
          try SpeculationDescription(
            model: subject.model, draft: draft.name, modelDigest: subject.modelDigest,
            draftDigest: draft.digest, fallback: drafts.fallback, draftLength: drafts.draftLength,
            regime: regime, applicability: applicability))
        decodingThreshold = threshold
      } else {
        throw CertificationError(
          .certificate, "answers are certified for exits and drafts with a threshold alone")
      }
    }

    /// The way of decoding, with the heads or the draft of a subject.
    ///
    /// - Throws: ``CertificationError`` where these are others than the certificate's.
    func strategy(for subject: DecodingSubject, path: String) throws -> (any DecodingStrategy)? {
      guard let decoding, let threshold = decodingThreshold else { return nil }
      let strategy: any DecodingStrategy
      switch decoding {
      case .exits(let description):
        guard let measure = UsualMeasure(rawValue: description.measure) else {
          throw CertificationError(.notCovered, "\(path): the measure \(description.measure) is not known")
        }
        let exits = ExitStrategy(
          policy: try description.policy(threshold: threshold), measure: measure.make(heads: subject.heads),
          heads: subject.heads, cachePolicy: description.cache, groupLimit: description.groupLimit)
        guard description.headsDigest == subject.headsDigest else {
          throw CertificationError(
            .notCovered,
            "\(path): the certificate is for other exit heads: SHA-256 \(description.headsDigest ?? "none"), found "
              + (subject.headsDigest ?? "none"))
        }
        _ = try exits.validatedLayers(for: subject.model.decoder)
        strategy = exits
      case .prompts:
        throw CertificationError(.notCovered, "\(path): answers are certified for exits and drafts alone")
      case .drafts(let description):
        guard let draft = subject.draft else {
          throw CertificationError(
            .notCovered,
            "\(path): the certificate is for answers drafted by \(description.draft), which has to be given")
        }
        strategy = try SpeculationStrategy(
          [draft.source], for: subject.model, rule: .rollback(threshold: threshold),
          fallback: description.fallback, draftLength: description.draftLength)
      }
      let here = try Policy(subject, regime: regime, applicability: applicability, strategy: strategy)
      guard here == self else {
        throw CertificationError(.notCovered, "\(path): the certificate is for other exits or another draft")
      }
      return strategy
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
  /// Exits or drafts that the answers come about with; `nil` for full depth.
  public let strategy: (any DecodingStrategy)?

  /// Checks that a certificate of answers holds here.
  ///
  /// - Parameters:
  ///   - certificate: What was read from `path`.
  ///   - path: The certificate's file; its guard lies beside it.
  ///   - subject: The model, with its digest.
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
    strategy = try policy.strategy(for: subject, path: path)
    applicability = try CertifiedPolicy.loadGuard(policy.applicability, beside: path, for: subject)
  }

  /// Whether the answer is given.
  ///
  /// - Parameters:
  ///   - generation: The output.
  ///   - answer: What the output says.
  ///   - isWhole: Whether the document fitted as it is.
  public func gives(_ generation: Generation, answer: DocumentAnswer, isWhole: Bool) -> Bool {
    isWhole && answer.answered && (generation.applicability?.isInside ?? true)
      && (answer.confidence ?? 0) >= threshold
  }

  /// What stands in the place of an answer that is not given.
  public static let notSure = "Not sure."
}
