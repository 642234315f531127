import EarlyExit
import FileFormats
import Foundation
import Generation

/// An early-exit policy but for its threshold, written down: what a calibration was made with, and what a certificate
/// holds for.
public struct ExitPolicyDescription: CertifiablePolicy {
  /// The version of this format; others than ``currentVersion`` are refused.
  public var version: Int
  /// The name of the confidence measure.
  public var measure: String
  /// Exit layers, ascending: a token may leave after the layer of this number, from 1.
  public var layers: [Int]
  /// No token leaves before it.
  public var minimumLayer: Int
  /// How the threshold falls along the output; see `ThresholdPolicy`. `nil` where it does not.
  public var decay: Double?
  /// What happens to the keys and values of skipped layers.
  public var cache: ExitCachePolicy
  /// Tokens whose keys and values may be missing at a time.
  public var groupLimit: Int
  /// SHA-256 of the file of exit heads, or `nil` for the shared head.
  public var headsDigest: String?
  /// SHA-256 of the model's file.
  public var modelDigest: String
  /// How the model computes, or `nil` for `ComputePath.quantized`.
  public var compute: String?
  /// SHA-256 of what the prompt template makes of an empty message.
  public var templateDigest: String
  /// How the documents were decoded besides.
  public var regime: DecodingRegime
  /// Which documents it applies to, or `nil` for all.
  public var applicability: ApplicabilityGuard.Reference?
  /// What brings outputs back to full depth, or `nil` for nothing.
  public var tripwire: RepetitionTripwire?
  /// Where the tokens of prompts stop at every threshold below 1, or `nil` where they pass all layers.
  public var prompt: StoppedPrompt?

  enum CodingKeys: String, CodingKey {
    case version, measure, layers, decay, cache, compute, regime, tripwire, prompt
    case applicability = "guard"
    case minimumLayer = "minimum_layer"
    case groupLimit = "group_limit"
    case headsDigest = "heads_sha256"
    case modelDigest = "model_sha256"
    case templateDigest = "template_sha256"
  }

  /// The version that is written and read.
  public static let currentVersion = 2

  /// Describes a strategy.
  ///
  /// - Parameters:
  ///   - strategy: Its measure, cache policy and group limit.
  ///   - policy: Its exit layers, minimum layer and decay; the threshold is what is calibrated.
  ///   - model: What decodes.
  ///   - modelDigest: SHA-256 of the model's file.
  ///   - headsDigest: SHA-256 of the file of exit heads; `nil` for the shared head.
  ///   - regime: How the documents are decoded besides.
  ///   - applicability: Which documents it applies to; `nil` for all.
  ///   - tripwire: What brings outputs back to full depth; `nil` for nothing.
  ///   - promptDepth: The layer after which the tokens of prompts stop; `nil` where they pass all layers.
  /// - Throws: `GenerationError` for a model whose prompt template is not known.
  public init(
    _ strategy: ExitStrategy, policy: ThresholdPolicy, model: LanguageModel, modelDigest: String,
    headsDigest: String?, regime: DecodingRegime, applicability: ApplicabilityGuard.Reference? = nil,
    tripwire: RepetitionTripwire? = nil, promptDepth: Int? = nil
  ) throws {
    version = Self.currentVersion
    measure = strategy.measure.name
    layers = policy.candidateLayers(layerCount: model.decoder.configuration.layerCount)
    minimumLayer = policy.minimumLayer
    decay = policy.decay
    cache = strategy.cachePolicy
    groupLimit = strategy.groupLimit
    self.headsDigest = headsDigest
    self.modelDigest = modelDigest
    compute = model.computeName
    templateDigest = try model.templateDigest()
    self.regime = regime
    self.applicability = applicability
    self.tripwire = tripwire
    prompt = promptDepth.map(StoppedPrompt.init)
  }

  /// The policy with a threshold.
  public func policy(threshold: Double) throws(EarlyExitError) -> ThresholdPolicy {
    try ThresholdPolicy(
      threshold: threshold, layers: layers, minimumLayer: minimumLayer, decay: decay)
  }

  private struct Version: Decodable { var version: Int }

  /// - Throws: `EarlyExitError/option(field:expected:found:)`` for what is not a description of this version.
  public static func read(_ bytes: some Sequence<UInt8>, name: String) throws(EarlyExitError)
    -> ExitPolicyDescription
  {
    guard let found = try? JSONDecoder().decode(ExitPolicyDescription.self, from: Data(bytes)),
      found.version == currentVersion
    else {
      let version = try? JSONDecoder().decode(Version.self, from: Data(bytes)).version
      throw .option(
        field: name, expected: "an exit policy of version \(currentVersion)",
        found: version == 1
          ? "version 1, which does not say how documents were decoded: calibrate again"
          : "something else")
    }
    return found
  }
}
