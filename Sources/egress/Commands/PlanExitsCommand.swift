import ArgumentParser
import EarlyExit
import FileFormats
import Foundation

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

  @OptionGroup var documents: DataOptions

  @Option(help: ArgumentHelp("Where the plan goes.", valueName: "plan.json"))
  var output: String

  @OptionGroup var planning: PlanningOptions
  @OptionGroup var models: ModelOptions
  @OptionGroup var form: OutputOptions

  func run() throws {
    let items = try documents.read(limit: planning.limit).map(\.item)
    let loaded = try models.load()
    let (heads, path) = try planning.heads(loaded)
    var traces = try ExitTraces(model: loaded.model, layers: heads.layers, heads: heads)
    Interrupt.watch()
    let bar = ProgressBar(total: items.count, what: "documents")
    let isComplete = try traces.add(
      items, of: loaded.model, maxTokens: planning.maxTokens, shouldStop: { Interrupt.isRequested },
      progress: { bar.show(done: $0) })
    bar.clear()
    guard isComplete else { throw ExitCode(Interrupt.exitCode) }
    let planner = try ExitPlanner(
      traces: traces, costs: planning.costs(loaded.model, heads), heads: heads)
    let best = planner.best(agreement: planning.agreement)
    let plan = ExitPlan(
      best, planner: planner, headsDigest: try FileDigest.sha256(path: path),
      modelDigest: try loaded.digest(), unit: planning.unit.rawValue)
    do {
      try plan.jsonData().write(to: URL(fileURLWithPath: output), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(output)")
    }
    guard form.format == .text else { return try TextOutput.standard.write(try JSONOutput.line(plan) + "\n") }
    let text = ExitPlanText(planner: planner, unit: planning.unit)
    try TextOutput.standard.write(text.table(best, agreement: planning.agreement, tokens: traces.tokenCount))
    if planning.paper { try TextOutput.standard.write(ExitPlanText.larger(traces, heads, best)) }
  }
}
