import FileFormats
import Foundation
import Generation

/// A policy that lets the tokens of prompts stop after a layer, but for that layer, written down: what a calibration
/// was made with, and what a certificate holds for. The layer is the certificate's threshold.
public struct PromptPolicyDescription: CertifiablePolicy {
  /// Of the description's format, see ``currentVersion``.
  public var version: Int
  /// SHA-256 of the model.
  public var modelDigest: String
  /// How the model computes, or `nil` for `ComputePath.quantized`.
  public var compute: String?
  /// The last tokens of a prompt, which pass all layers.
  public var deepTokens: Int
  /// SHA-256 of what the prompt template makes of an empty message.
  public var templateDigest: String
  /// How the documents were decoded besides.
  public var regime: DecodingRegime
  /// Which documents it applies to, or `nil` for all.
  public var applicability: ApplicabilityGuard.Reference?
  /// What brings outputs back to full depth, prompt and output, or `nil` for nothing.
  public var tripwire: RepetitionTripwire?

  enum CodingKeys: String, CodingKey {
    case compute, regime, tripwire
    case applicability = "guard"
    case version = "prompt_policy_version"
    case modelDigest = "model_sha256"
    case deepTokens = "deep_tokens"
    case templateDigest = "template_sha256"
  }

  /// The version that this program writes and reads.
  public static let currentVersion = 1

  /// Describes prompts of a subject.
  ///
  /// - Throws: `EarlyExitError` for a model whose prompt template is not known.
  public init(
    _ subject: DecodingSubject, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference?,
    tripwire: RepetitionTripwire? = nil
  ) throws {
    version = Self.currentVersion
    modelDigest = subject.modelDigest
    compute = subject.model.computeName
    deepTokens = LanguageModel.deepPromptTokens
    templateDigest = try subject.model.templateDigest()
    self.regime = regime
    self.applicability = applicability
    self.tripwire = tripwire
  }
}
