import ArgumentParser
import Certification
import Foundation

/// What a calibration runs a model on.
struct CalibrationDocuments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "JSON Lines file with the fields id, document, question and references; a question makes its document one to "
        + "answer from.", valueName: "docs.jsonl"))
  var data: String?

  @Option(
    help: ArgumentHelp(
      "What the names of the files written begin with. (default: that of the documents)", valueName: "name"))
  var output: String?

  @Option(
    defaultAsFlag: CalibratedPromptDepth.certified,
    help: ArgumentHelp(
      """
      Let the prompt's tokens but the last 32 stop after this layer, and certify a threshold of exits, or of drafts, \
      that holds with it; of several layers, as 24,20, the cheapest certified is chosen, with the failure probability \
      divided among them. Without a layer, certify the layer itself instead of exits: --grid names layers to try, \
      every second one down to half of them unless given.
      """, valueName: "layers"))
  var promptDepth: CalibratedPromptDepth?

  @OptionGroup var sharding: ShardOptions

  @Option(
    help: ArgumentHelp(
      "What the parts of decoding cost, from egress bench --prices; of shards, egress merge is told. "
        + "(default: measured here)",
      valueName: "prices.json"))
  var prices: String?

  @Option(
    help: """
      The only thresholds to try, as 0.99,0.9 or 0.95:0.5:-0.05, chosen without looking at results. (default: two \
      dozen by the confidence measure; with --draft, 15 from 0.5 to 20)
      """)
  var grid: NumberList?

  @Flag(help: "Try every threshold at which something changes, which takes much longer.")
  var everyThreshold = false

  @Option(
    parsing: .unconditional,
    help: "Try no threshold below this; chosen without looking at results. (default: 0)")
  var lowest: Double?

  @Option(parsing: .unconditional, help: "Documents to use, from the first on. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with a question, 48)")
  var maxTokens: Int?

  func validate() throws {
    if sharding.shard != nil {
      guard data != nil, data != "-" else { throw ValidationError("--shard needs --data, a file.") }
    }
    if let grid, grid.values.isEmpty || !grid.values.allSatisfy({ $0 >= 0 && $0.isFinite }) {
      throw ValidationError("--grid must hold thresholds at least 0.")
    }
    let layers = promptDepth?.layers ?? []
    if !layers.allSatisfy({ $0 >= 1 }) || Set(layers).count < layers.count {
      throw ValidationError("--prompt-depth must hold layers that differ, whole numbers from 1 on.")
    }
    if promptDepth == .certified {
      if let name = everyThreshold ? "every-threshold" : lowest == nil ? nil : "lowest" {
        throw ValidationError("--\(name) has no effect with --prompt-depth.")
      }
      if let grid, !grid.values.allSatisfy({ $0 >= 1 && Int(exactly: $0) != nil }) {
        throw ValidationError("--grid must hold layers with --prompt-depth, whole numbers from 1 on.")
      }
    }
    if everyThreshold, grid != nil { throw ValidationError("Give either --grid or --every-threshold.") }
    if let lowest, !(lowest >= 0 && lowest < 1) {
      throw ValidationError("--lowest must be at least 0 and below 1, but is \(lowest).")
    }
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
    if let maxTokens, maxTokens < 1 {
      throw ValidationError("--max-tokens must be at least 1, but is \(maxTokens).")
    }
  }

  /// The options that have no meaning without --data, where they are given.
  var given: [String] {
    let all = [
      ("output", output != nil), ("prompt-depth", promptDepth != nil), ("shard", sharding.shard != nil),
      ("prices", prices != nil),
      ("grid", grid != nil), ("every-threshold", everyThreshold),
      ("lowest", lowest != nil), ("limit", limit != nil),
      ("max-tokens", maxTokens != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// The layers to certify one of with --prompt-depth; `nil` for the usual ones, and for another policy.
  var depths: [Int]? {
    promptDepth == .certified ? grid?.values.compactMap { Int(exactly: $0) } : nil
  }

  /// What the parts of decoding cost by --prices; `nil` where they are measured here.
  func prices(for policy: PolicyDescription) throws -> SweepCosts? {
    try prices.map { try PriceFile.read(path: $0).costs(for: policy, name: $0) }
  }

  /// What the names of files begin with.
  var stem: String { output ?? ((data ?? "documents") as NSString).deletingPathExtension }
}
