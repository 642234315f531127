import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import Transformers

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

  enum Unit: String, ExpressibleByArgument, CaseIterable { case ms, bytes }

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
  var unit = Unit.ms

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
    let shape = Shape(decoder.configuration)
    let costs =
      unit == .ms
      ? try ExitCosts.measured(decoder, heads: heads)
      : shape.costs(
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
    if form.format == .json {
      try TextOutput.standard.write(try JSONOutput.line(plan) + "\n")
    } else {
      try TextOutput.standard.write(text(planner, best, tokens: traces.tokenCount))
      if paper { try TextOutput.standard.write(paperText(traces, heads, best)) }
    }
  }

  private func text(_ planner: ExitPlanner, _ best: ExitPlanner.Option, tokens: Int) -> String {
    let scale = unit == .ms ? 1 : 1e-6
    let name = unit == .ms ? "ms" : "MB"
    let full = planner.fullDepth
    func line(_ option: ExitPlanner.Option) -> String {
      guard !option.layers.isEmpty else {
        return "full depth: \((full.cost * scale).formatted(places: 3)) \(name) a token"
      }
      return "\(option.layers.map(String.init).joined(separator: ",")) by \(option.measure.rawValue) from "
        + "\(option.threshold.formatted(places: 4)), \(option.cache.rawValue): agreement "
        + "\(option.agreement.formatted(places: 3)), \((option.cost * scale).formatted(places: 3)) \(name) a token, "
        + "\((full.cost / option.cost).formatted(places: 2)) times faster than full depth"
    }
    let costs = planner.costs
    var lines = [
      "a layer \((costs.layer[0] * scale).formatted(places: 4)) \(name), head "
        + "\((costs.head * scale).formatted(places: 4)), exit head \((costs.exitHead * scale).formatted(places: 4)), "
        + "gate \((costs.gate * scale).formatted(places: 4)), keys and values of a skipped layer "
        + "\((costs.propagatedLayer * scale).formatted(places: 4))",
      "cheapest of what agrees with full depth, on \(tokens.grouped) tokens:",
    ]
    for share in [0.99, 0.98, 0.95, 0.9, 0.8] {
      lines.append("at least \(share.formatted(places: 2))  \(line(planner.best(agreement: share)))")
    }
    lines.append("chosen for \(agreement.formatted(places: 2)): \(line(best))")
    return lines.joined(separator: "\n") + "\n"
  }

  /// The same exits on larger models: as deep in parts of the layers, and as sure.
  private func paperText(_ traces: ExitTraces, _ heads: ExitHeads, _ best: ExitPlanner.Option) throws
    -> String
  {
    try Shape.larger.map { name, shape in
      var costs = shape.costs(shortlist: heads.shortlist.count)
      let ratio = Double(shape.layerCount) / Double(traces.layerCount)
      costs.layer = costs.layer.map { $0 * ratio }
      costs.propagatedLayer *= ratio
      let planner = try ExitPlanner(traces: traces, costs: costs, heads: heads)
      let option = planner.evaluate(best.layers, best.measure, best.cache, best.threshold)
      return "\(name): head \((costs.head / costs.layer[0] * ratio).formatted(places: 1)) layers; "
        + "\((planner.fullDepth.cost / option.cost).formatted(places: 2)) times fewer bytes than full depth\n"
    }.joined()
  }
}

/// The sizes of a model that decide what its parts cost.
private struct Shape {
  var layerCount: Int
  var hiddenSize: Int
  var feedForwardSize: Int
  var attentionSize: Int
  var keyValueSize: Int
  var vocabularySize: Int

  init(_ configuration: DecoderConfiguration) {
    layerCount = configuration.layerCount
    hiddenSize = configuration.hiddenSize
    feedForwardSize = configuration.feedForwardSize
    attentionSize = configuration.headCount * configuration.headSize
    keyValueSize = configuration.keyValueHeadCount * configuration.headSize
    vocabularySize = configuration.vocabularySize
  }

  private init(_ layers: Int, _ hidden: Int, _ feedForward: Int, _ keyValue: Int, _ vocabulary: Int) {
    layerCount = layers
    hiddenSize = hidden
    feedForwardSize = feedForward
    attentionSize = hidden
    keyValueSize = keyValue
    vocabularySize = vocabulary
  }

  /// Llama 3.2 1B and Llama 2 7B.
  static let larger = [
    ("16 layers of 2,048, vocabulary 128,256 (1B)", Shape(16, 2048, 8192, 512, 128_256)),
    ("32 layers of 4,096, vocabulary 32,000 (7B)", Shape(32, 4096, 11008, 4096, 32_000)),
  ]

  /// In bytes, of weights with 5 bits in layers where a decoder does not say better.
  func costs(shortlist: Int, bytesPerLayer: Int? = nil, head: Int? = nil) -> ExitCosts {
    var costs = ExitCosts.bytes(
      hiddenSize: hiddenSize, feedForwardSize: feedForwardSize, attentionSize: attentionSize,
      keyValueSize: keyValueSize, vocabularySize: vocabularySize, bitsPerWeight: 5, shortlist: shortlist)
    if let bytesPerLayer, let one = costs.layer.first, one > 0 {
      let scale = Double(bytesPerLayer) / one
      costs.layer = costs.layer.map { $0 * scale }
      costs.propagatedLayer *= scale
    }
    if let head { costs.head = Double(head) }
    return costs
  }
}
