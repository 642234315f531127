import FileFormats
import Foundation

/// What the outputs of a sweep depend on: a run goes on only with the same.
public struct RunSettings: Codable, Sendable, Equatable {
  /// Everything but the threshold.
  public var policy: PolicyDescription
  /// The distance that is measured; `nil` where texts are compared.
  public var distance: String?
  /// The only thresholds that are tried; `nil` for every one at which something changes.
  public var grid: [Double]?
  /// No threshold below it is tried; `nil` where thresholds have no such end.
  public var lowest: Double?
  /// The most tokens of an output; `nil` for what is usual for the task.
  public var maxTokens: Int?
  /// SHA-256 of the file of documents; set by whoever runs the sweep on it.
  public var documents: String?

  enum CodingKeys: String, CodingKey {
    case policy, distance, grid, lowest, documents
    case maxTokens = "max_tokens"
  }
}

/// The first line of a file of runs: its settings, and what the parts of decoding cost.
struct RunHeader: Codable, Equatable {
  var settings: RunSettings
  /// `nil` for a shard whose merge is told.
  var costs: SweepCosts?
  /// Of which documents the file is; `nil` for all.
  var shard: ShardDescription?

  private enum CodingKeys: String, CodingKey {
    case shard
    case costs = "milliseconds"
  }

  init(settings: RunSettings, costs: SweepCosts?, shard: ShardDescription? = nil) {
    self.settings = settings
    self.costs = costs
    self.shard = shard
  }

  init(from decoder: any Decoder) throws {
    settings = try RunSettings(from: decoder)
    let container = try decoder.container(keyedBy: CodingKeys.self)
    costs = try container.decodeIfPresent(SweepCosts.self, forKey: .costs)
    shard = try container.decodeIfPresent(ShardDescription.self, forKey: .shard)
  }

  func encode(to encoder: any Encoder) throws {
    try settings.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encodeIfPresent(costs, forKey: .costs)
    try container.encodeIfPresent(shard, forKey: .shard)
  }

  /// The first line of a file, without its end.
  func line() throws -> String {
    try CanonicalJSON.line(self)
  }
}
