import FileFormats
import Foundation

/// Where and how to look for an exit: an exit policy without its threshold. It is chosen from traces, by cost.
public struct ExitPlan: Codable, Sendable, Equatable {
  /// The version of this format.
  public var version = ExitPlan.currentVersion
  /// Exit layers, ascending; none where full depth is cheapest.
  public var layers: [Int]
  /// The name of the confidence measure.
  public var measure: String
  /// What happens to the keys and values of skipped layers.
  public var cache: ExitCachePolicy
  /// SHA-256 of the file of exit heads that the traces were made with.
  public var headsDigest: String?
  /// SHA-256 of the model's file.
  public var modelDigest: String
  /// The threshold that was best in the traces. What follows was measured there, at this threshold.
  public var threshold: Double
  /// Share of tokens that are the full model's, in 0...1.
  public var agreement: Double
  /// Layers that a token passes, on average.
  public var averageLayer: Double
  /// Cost of a token, in the unit of ``costs``.
  public var cost: Double
  /// Cost of a token at full depth, in the unit of ``costs``.
  public var fullDepthCost: Double
  /// What the parts of decoding cost.
  public var costs: ExitCosts
  /// ms or bytes.
  public var unit: String

  enum CodingKeys: String, CodingKey {
    case version, layers, measure, cache, threshold, agreement, cost, costs, unit
    case headsDigest = "heads_sha256"
    case modelDigest = "model_sha256"
    case averageLayer = "average_layer"
    case fullDepthCost = "full_depth_cost"
  }

  static let currentVersion = 1

  /// The plan that follows an option of the planner.
  ///
  /// - Parameters:
  ///   - option: From ``ExitPlanner``.
  ///   - planner: What has found it.
  ///   - headsDigest: SHA-256 of the file of exit heads; `nil` for the shared head.
  ///   - modelDigest: SHA-256 of the model's file.
  ///   - unit: `ms` or `bytes`.
  public init(
    _ option: ExitPlanner.Option, planner: ExitPlanner, headsDigest: String?, modelDigest: String,
    unit: String
  ) {
    layers = option.layers
    measure = option.measure.rawValue
    cache = option.cache
    self.headsDigest = headsDigest
    self.modelDigest = modelDigest
    threshold = option.threshold
    agreement = option.agreement
    averageLayer = option.averageLayer
    cost = option.cost
    fullDepthCost = planner.fullDepth.cost
    costs = planner.costs
    self.unit = unit
  }

  /// JSON with sorted keys.
  public func jsonData() throws -> Data { try CanonicalJSON.document(self) }

  /// - Throws: ``EarlyExitError/option(field:expected:found:)`` for what is not a plan of this version.
  public static func read(_ bytes: some Sequence<UInt8>, name: String) throws(EarlyExitError) -> ExitPlan {
    guard let found = try? JSONDecoder().decode(ExitPlan.self, from: Data(bytes)),
      found.version == currentVersion
    else {
      throw .option(
        field: name, expected: "an exit plan of version \(currentVersion)", found: "something else")
    }
    return found
  }
}
