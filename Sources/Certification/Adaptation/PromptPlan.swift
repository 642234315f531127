import Foundation

/// The layer after which prompts stop that early exits are certified together with: the lowest that leaves nearly all
/// tokens of outputs as they are. It is chosen on documents that certify nothing.
public struct PromptPlan: Codable, Sendable, Equatable {
  /// What a layer does to outputs.
  public struct Depth: Codable, Sendable, Equatable {
    /// The layer after which prompts stop.
    public var layer: Int
    /// Share of the tokens of outputs that stay full depth's, each after full depth's tokens before it.
    public var agreement: Double
  }

  /// The version of the format.
  public static let currentVersion = 1
  /// Of this plan.
  public var version = PromptPlan.currentVersion
  /// The layer to take; `nil` where none leaves enough tokens as they are.
  public var layer: Int?
  /// What was looked at, from the last layer but two down.
  public var depths: [Depth]
  /// Tokens of the outputs that it was looked at on.
  public var tokenCount: Int
  /// SHA-256 of the model.
  public var modelDigest: String

  enum CodingKeys: String, CodingKey {
    case version, layer, depths
    case tokenCount = "tokens"
    case modelDigest = "model_sha256"
  }

  /// Chooses a layer.
  ///
  /// - Parameters:
  ///   - depths: By falling layer.
  ///   - agreement: The share of tokens that have to stay; a layer counts only with all that are above it.
  init(_ depths: [Depth], agreement: Double, tokenCount: Int, modelDigest: String) {
    self.depths = depths
    self.tokenCount = tokenCount
    self.modelDigest = modelDigest
    layer = tokenCount == 0 ? nil : depths.prefix { $0.agreement >= agreement }.last?.layer
  }

  /// - Throws: ``CertificationError`` for what is not a plan of this version.
  public static func read(_ bytes: Data, name: String) throws -> PromptPlan {
    guard let found = try? JSONDecoder().decode(PromptPlan.self, from: bytes),
      found.version == currentVersion
    else {
      throw CertificationError(
        .runs, "\(name): expected a plan of prompts of version \(currentVersion), found something else")
    }
    return found
  }
}
