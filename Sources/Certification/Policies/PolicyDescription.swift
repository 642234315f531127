import EarlyExit
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding

/// What a threshold belongs to: an early-exit policy, a model with what drafts for it, or prompts that stop after a
/// layer.
public enum PolicyDescription: Codable, Sendable, Equatable {
  /// A policy of early exits, perhaps after prompts that stop after a layer.
  case exits(ExitPolicyDescription)
  /// A pair that drafts and verifies, perhaps after such prompts.
  case drafts(SpeculationDescription)
  /// Prompts whose tokens stop after a layer.
  case prompts(PromptPolicyDescription)

  /// Reads the description of whichever kind it is.
  public init(from decoder: any Decoder) throws {
    if let drafts = try? SpeculationDescription(from: decoder) {
      self = .drafts(drafts)
    } else if let prompts = try? PromptPolicyDescription(from: decoder) {
      self = .prompts(prompts)
    } else {
      self = .exits(try ExitPolicyDescription(from: decoder))
    }
  }

  /// Writes the description as it is by itself.
  public func encode(to encoder: any Encoder) throws { try policy.encode(to: encoder) }

  /// What all kinds say.
  private var policy: any CertifiablePolicy {
    switch self {
    case .exits(let description): description
    case .drafts(let description): description
    case .prompts(let description): description
    }
  }

  /// SHA-256 of the model that the policy is for.
  public var modelDigest: String { policy.modelDigest }

  /// How the model computes; `nil` for quantised.
  public var compute: String? { policy.compute }

  /// The guard of the policy; `nil` where it applies to every document.
  public var applicability: ApplicabilityGuard.Reference? { policy.applicability }

  /// SHA-256 of the description's JSON.
  public func digest() throws -> String { try policy.digest() }

  /// What a certificate of this policy is about.
  public func subject(metric: QualityMetric, risk: QualityRisk) throws -> Certificate.Subject {
    let value = try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(self))
    return Certificate.Subject(
      risk: risk.name, metric: metric.name, modelDigest: modelDigest, policyDigest: try digest(),
      policy: value)
  }
}

extension Certificate {
  /// What the threshold belongs to; `nil` where the certificate does not say, or in words that are not known.
  public var policyDescription: PolicyDescription? {
    subject.policy.flatMap {
      try? JSONDecoder().decode(PolicyDescription.self, from: JSONEncoder().encode($0))
    }
  }

  /// The layer after which prompts stop at every threshold of exits or of drafts but the safest; `nil` where they pass
  /// all, and where the threshold is that layer.
  public var promptLayer: Int? {
    switch policyDescription {
    case .exits(let description): description.prompt?.layer
    case .drafts(let description): description.prompt?.layer
    case .prompts, nil: nil
    }
  }

  /// Whether the threshold is one of drafts.
  public var isOfDrafts: Bool {
    if case .drafts? = policyDescription { true } else { false }
  }

  /// Whether the threshold is the layer after which prompts stop.
  public var isOfPrompts: Bool {
    if case .prompts? = policyDescription { true } else { false }
  }
}
