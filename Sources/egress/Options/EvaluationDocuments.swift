import ArgumentParser
import Certification
import Foundation
import RiskControl

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
  /// Some metrics are of distributions, which some ways of decoding do not have.
  func validate(with exits: ExitOptions, _ speculation: SpeculationOptions) throws {
    guard let metric = metric.flatMap(QualityMetric.init(name:)), metric.distance != nil else { return }
    if exits.policy.exitCache == .propagate {
      throw ValidationError("--metric \(metric.name) needs --exit-cache defer.")
    }
    if speculation.isActive {
      throw ValidationError("--metric \(metric.name) compares exits; with drafts give one of texts.")
    }
    if exits.promptDepth != nil {
      throw ValidationError("--metric \(metric.name) compares exits; with --prompt-depth give one of texts.")
    }
  }

  /// What outputs are measured by: as it was asked for, or as the certificate has it.
  ///
  /// - Parameter path: The certificate's file.
  func measure(_ certificate: Certificate?, path: String?) throws -> (QualityMetric, QualityRisk) {
    let name = metric ?? certificate?.subject.metric ?? "rouge-l"
    guard let metric = QualityMetric(name: name) else {
      throw CommandError("\(path ?? "") is of the metric \(name), which is not known; give a --metric")
    }
    if metric.distance != nil {
      guard let certificate, certificate.isOfPrompts || certificate.promptLayer != nil else {
        return (metric, .consistency)
      }
      throw CommandError(
        "\(path ?? "") is of prompts that stop after a layer, and \(name) compares exits; give a --metric of texts"
      )
    }
    let known = QualityRisk.allCases.first { $0.name == certificate?.subject.risk }
    return (metric, risk ?? known ?? .gap)
  }

  /// The documents, at least one, with references where they are needed.
  func read(_ metric: QualityMetric, _ risk: QualityRisk) throws -> [DocumentRecord] {
    let records = Array(try DocumentFile.read(data).dropFirst(skip).prefix(limit ?? .max))
    guard !records.isEmpty else {
      throw CommandError("\(data) has no documents after the first \(skip)")
    }
    if risk == .gap, metric.readsReferences,
      let record = records.first(where: { $0.references?.isEmpty ?? true })
    {
      throw CommandError(
        "\(data): document \(record.id) has no references (an array of texts), which --risk gap needs")
    }
    return records
  }

  /// Of what the shards are parts.
  var shardOutput: String { output ?? (data as NSString).deletingPathExtension + ".evaluation.jsonl" }
}

extension QualityRisk: ExpressibleByArgument {}
