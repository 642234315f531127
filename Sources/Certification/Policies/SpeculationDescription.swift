import EarlyExit
import FileFormats
import Foundation
import Generation
import SpeculativeDecoding

/// A pair of models and how they decode together, but for the rollback threshold: what a calibration was made with, and
/// what a certificate holds for.
public struct SpeculationDescription: CertifiablePolicy {
  /// The version of this format; others than ``currentVersion`` are refused.
  public var version: Int
  /// What the two are called.
  public var model: String
  /// What the small model or the draft head is called.
  public var draft: String
  /// SHA-256 of the large model's file.
  public var modelDigest: String
  /// SHA-256 of the small model's or the draft head's file.
  public var draftDigest: String
  /// How the large model computes, or `nil` for `ComputePath.quantized`; the small one always computes so.
  public var compute: String?
  /// α_FB and γ.
  public var fallback: Double
  /// γ: the most tokens of a draft.
  public var draftLength: Int
  /// SHA-256 of what the prompt template makes of an empty message.
  public var templateDigest: String
  /// How the documents were decoded besides.
  public var regime: DecodingRegime
  /// Which documents it applies to, or `nil` for all.
  public var applicability: ApplicabilityGuard.Reference?
  /// What brings outputs back to full depth, or `nil` for nothing.
  public var tripwire: RepetitionTripwire?
  /// Where the tokens of prompts stop at every threshold above 0, or `nil` where they pass all layers. What a draft
  /// head reads of them after deeper layers is then what they were after that one.
  public var prompt: StoppedPrompt?

  enum CodingKeys: String, CodingKey {
    case model, draft, fallback, compute, regime, tripwire, prompt
    case applicability = "guard"
    case version = "draft_policy_version"
    case modelDigest = "model_sha256"
    case draftDigest = "draft_sha256"
    case draftLength = "draft_length"
    case templateDigest = "template_sha256"
  }

  /// The version that is written and read.
  public static let currentVersion = 3

  /// - Parameters:
  ///   - model: The large model.
  ///   - draft: What the small model or the draft head is called.
  ///   - modelDigest: SHA-256 of the large model's file.
  ///   - draftDigest: SHA-256 of the small model's or the draft head's file.
  ///   - fallback: α_FB: below this confidence the draft ends.
  ///   - draftLength: γ: the most tokens of a draft.
  ///   - regime: How the documents are decoded besides.
  ///   - applicability: Which documents it applies to; `nil` for all.
  ///   - tripwire: What brings outputs back to full depth; `nil` for nothing.
  ///   - promptDepth: The layer after which the tokens of prompts stop; `nil` where they pass all layers.
  /// - Throws: `EarlyExitError` for a model whose prompt template is not known.
  public init(
    model: LanguageModel, draft: String, modelDigest: String, draftDigest: String, fallback: Double,
    draftLength: Int, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference? = nil,
    tripwire: RepetitionTripwire? = nil, promptDepth: Int? = nil
  ) throws {
    version = Self.currentVersion
    self.model = model.name
    self.draft = draft
    self.modelDigest = modelDigest
    self.draftDigest = draftDigest
    compute = model.computeName
    self.fallback = fallback
    self.draftLength = draftLength
    templateDigest = try model.templateDigest()
    self.regime = regime
    self.applicability = applicability
    self.tripwire = tripwire
    prompt = promptDepth.map(StoppedPrompt.init)
  }

  /// Reads a description back.
  ///
  /// - Throws: `SpeculativeDecodingError/option(field:expected:found:)`` for what is not a description of this
  ///   version.
  public static func read(_ bytes: Data, name: String) throws(SpeculativeDecodingError)
    -> SpeculationDescription
  {
    struct Version: Decodable {
      var version: Int
      enum CodingKeys: String, CodingKey { case version = "draft_policy_version" }
    }
    guard let found = try? JSONDecoder().decode(SpeculationDescription.self, from: bytes),
      found.version == currentVersion
    else {
      let version = try? JSONDecoder().decode(Version.self, from: bytes).version
      throw .option(
        field: name, expected: "that of a draft model, of version \(currentVersion)",
        found: version.map { "of version \($0)" } ?? "something else")
    }
    return found
  }
}
