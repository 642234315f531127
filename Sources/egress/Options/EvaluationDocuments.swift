import ArgumentParser
import Certification
import Foundation

/// What an evaluation runs on and measures.
struct EvaluationDocuments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "JSON Lines file with the fields id, document, question and references.", valueName: "docs.jsonl"))
  var data: String

  @Option(
    help: """
      The loss: \(QualityMetric.names.joined(separator: ", ")). The last two are of distributions; Brier and Hellinger \
      are then both printed, and ROUGE-L beside them. (default: that of the certificate, or rouge-l)
      """)
  var metric: String?

  @Option(
    help:
      "gap, the loss less that of the full model, or consistency. (default: that of the certificate, or gap)")
  var risk: QualityRisk?

  @Option(parsing: .unconditional, help: "Leave out so many documents at the beginning of the file.")
  var skip = 0

  @Option(parsing: .unconditional, help: "Documents to use, after those left out. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with a question, 48)")
  var maxTokens: Int?

  @OptionGroup var sharding: ShardOptions

  @Option(
    help: ArgumentHelp(
      "With --shard, what the names of the shards are made of. (default: that of the documents, with .evaluation)",
      valueName: "out.jsonl"))
  var output: String?

  func validate() throws {
    try sharding.validate(data: data)
    if output != nil, sharding.shard == nil { throw ValidationError("--output goes with --shard.") }
    if let metric {
      guard let metric = QualityMetric(name: metric) else {
        throw ValidationError("--metric must be one of \(QualityMetric.names.joined(separator: ", ")).")
      }
      if metric.distance != nil, risk == .gap {
        throw ValidationError(
          "--metric \(metric.name) compares with the full model: --risk must be consistency.")
      }
    }
    if skip < 0 { throw ValidationError("--skip must be 0 or above, but is \(skip).") }
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
    if let maxTokens, maxTokens < 1 {
      throw ValidationError("--max-tokens must be at least 1, but is \(maxTokens).")
    }
  }
}

extension EvaluationDocuments {
  /// Of what the shards are parts.
  var shardOutput: String { output ?? (data as NSString).deletingPathExtension + ".evaluation.jsonl" }
}

extension QualityRisk: ExpressibleByArgument {}
