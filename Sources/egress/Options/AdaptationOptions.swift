import ArgumentParser
import Certification
import Generation
import RiskControl

/// What a model is adapted to.
struct AdaptationOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents with references, at least \(AdaptationRun.fewestDocuments); a question makes its "
        + "document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(help: "What outputs are measured by: \(QualityMetric.names.joined(separator: ", ")).")
  var metric = "rouge-l"

  @Option(
    help: """
      gap, the loss against the references beyond full depth's, or consistency, the loss against full depth's output, \
      which needs no references.
      """)
  var risk = QualityRisk.gap

  @Option(parsing: .unconditional, help: "By how much the loss may rise on average, in (0, 1).")
  var epsilon = 0.02

  @Option(parsing: .unconditional, help: "Tolerated probability of an unlucky set of documents, in (0, 1).")
  var delta = 0.1

  @Option(parsing: .unconditional, help: "Documents to use. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "How documents are asked about, as summarize and answer are told then: chat, examples, completion or reader. "
        + "(default: as theirs)",
      valueName: "style"))
  var prompts: PromptStyle?

  func validate() throws {
    _ = try settings()
    let metric = try quality()
    if !metric.readsReferences, risk == .consistency {
      throw ValidationError("--metric \(metric.name) is a property of one text: --risk must be gap.")
    }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads must be in 1...256, but is \(threads).")
    }
  }

  func settings() throws -> CalibrationSettings {
    let settings = CalibrationSettings(epsilon: epsilon, delta: delta)
    do { _ = try Calibration(settings) } catch { throw ValidationError("\(error)") }
    return settings
  }

  func quality() throws -> QualityMetric {
    guard let metric = QualityMetric(name: metric), metric.distance == nil else {
      throw ValidationError("--metric must be one that compares texts, such as rouge-l or token-f1.")
    }
    return metric
  }
}
