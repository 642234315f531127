import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation

struct PlanExitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan-exits",
    abstract: "Choose exit layers, measure and cache policy by what they cost on this machine.",
    discussion: """
      Writes what the model says to every document, looks at all exits of its heads on it, measures the time of \
      layers, heads, gates and cache work, and takes the cheapest way to leave that agrees with full depth often \
      enough; full depth where none is cheaper. The plan goes where exit options are taken, in their place. The \
      threshold is calibrate's to choose.

      EXAMPLES
        egress plan-exits --data docs.jsonl --limit 40 --output plan.json
        egress summarize --exit-plan plan.json --exit-threshold 0.9 article.txt
      """)

  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents; a question makes its document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(help: ArgumentHelp("Where the plan goes.", valueName: "plan.json"))
  var output: String

  @Option(parsing: .unconditional, help: "Share of tokens that must be the full model's, in 0...1.")
  var agreement = 0.95

  @Option(help: "ms: time measured here; bytes: weights read, the same on every machine.")
  var unit = CostUnit.ms

  @Option(parsing: .unconditional, help: "Documents to use.")
  var limit = 40

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(
    help: ArgumentHelp(
      "Exit heads that fit-exits made. (default: those that come with the program)", valueName: "file"))
  var exitHeads: String?

  @Flag(help: "Say as well what the same exits come to in bytes for models of 1 and 7 billion weights.")
  var paper = false

  @OptionGroup var models: ModelOptions
  @OptionGroup var form: OutputOptions

  func validate() throws {
    guard (0...1).contains(agreement) else {
      throw ValidationError("--agreement must be in 0...1, but is \(agreement).")
    }
    if limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
  }

  func run() throws {
    let records = try DocumentFile.read(data).prefix(limit)
    let loaded = try models.load()
    let shipped = try loaded.entry.flatMap { try ShippedFiles.heads(.exits, of: $0) }
    guard let path = exitHeads ?? shipped else {
      throw ValidationError("There are no exit heads for this model; name a file with --exit-heads.")
    }
    let heads = try ExitHeads(path: path, modelDigest: loaded.digest())
    var traces = try ExitTraces(model: loaded.model, layers: heads.layers, heads: heads)
    Interrupt.watch()
    let usual = records.map(\.item.task.usualMaxTokens).max() ?? 160
    let batch = DocumentBatch(
      model: loaded.model, options: GenerationOptions(maxTokens: maxTokens ?? usual), rule: .truncate,
      shouldStop: { Interrupt.isRequested })
    let bar = ProgressBar(total: records.count, what: "documents")
    let isComplete = try batch.run(records.map(\.item)) { event in
      guard case .finished(let item, let generation) = event else { return }
      try traces.add(generation)
      bar.show(done: item + 1)
    }
    bar.clear()
    guard isComplete else { throw ExitCode(Interrupt.exitCode) }

    let decoder = loaded.model.decoder
    let costs =
      unit == .ms
      ? try ExitCosts.measured(decoder, heads: heads)
      : ModelShape(decoder.configuration).costs(
        shortlist: heads.shortlist.count, bytesPerLayer: decoder.bytesPerLayer,
        head: decoder.bytesOfUnembedding)
    let planner = try ExitPlanner(traces: traces, costs: costs, heads: heads)
    let best = planner.best(agreement: agreement)
    let plan = ExitPlan(
      best, planner: planner, headsDigest: try FileDigest.sha256(path: path),
      modelDigest: try loaded.digest(), unit: unit.rawValue)
    do {
      try plan.jsonData().write(to: URL(fileURLWithPath: output), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(output)")
    }
    guard form.format == .text else { return try TextOutput.standard.write(try JSONOutput.line(plan) + "\n") }
    let text = ExitPlanText(planner: planner, unit: unit)
    try TextOutput.standard.write(text.table(best, agreement: agreement, tokens: traces.tokenCount))
    if paper { try TextOutput.standard.write(ExitPlanText.larger(traces, heads, best)) }
  }
}
