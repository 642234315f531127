import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Generation

struct FitExitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fit-exits",
    abstract: "Fit exit heads and classifiers on a model's own outputs.",
    discussion: """
      Runs the model on every document, then fits, per exit layer, a linear map to the final hidden state (ridge \
      regression) and a classifier that tells whether the map's best token is the full model's. Every fifth document \
      is held out for the report of agreement. Writes FILE.safetensors and FILE.json; FILE.outputs.jsonl keeps what \
      the model wrote, so that an interrupted run goes on where it was. With --shard that is all that is written: egress \
      merge puts it together, and the same command without --shard then fits on all of it.

      EXAMPLES
        egress fit-exits --data docs.jsonl --exit-layers 12,18,24 --output exits.safetensors
        egress summarize --exit-threshold 0.9 --confidence classifier --exit-heads exits.safetensors article.txt
      """)

  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents; a question makes its document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(help: ArgumentHelp("Where the heads go.", valueName: "file.safetensors"))
  var output: String

  @Option(help: ArgumentHelp("Layers after which a token may leave.", valueName: "layers"))
  var exitLayers: ExitPolicyOptions.LayerList

  @Option(parsing: .unconditional, help: "Documents to use. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(help: "Penalty of the regression, in parts of the mean square of a hidden state's numbers.")
  var ridge = 1e-3

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Tokens that an exit chooses from, beside those of the prompt; 0 for the whole vocabulary. (default: 4096, or 0 "
        + "where the vocabulary is below 16384)"))
  var shortlist: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Gradient steps on each map after the regression, towards the full model's distribution; kept where "
        + "they agree more often with it on held-out text.", valueName: "steps"))
  var refine = 0

  @Option(
    help: ArgumentHelp(
      "Maps that were trained together with the model, as tensors map.L: they are kept, and classifiers "
        + "fitted to them.",
      valueName: "file.safetensors"))
  var maps: String?

  @Option(help: "Loss of the classifiers: independent or geometric.")
  var classifierLoss = ClassifierLoss.independent

  @OptionGroup var sharding: ShardOptions
  @OptionGroup var models: ModelOptions
  @OptionGroup var form: OutputOptions

  func validate() throws {
    try sharding.validate(data: data)
    if let limit, limit < 5 { throw ValidationError("--limit must be at least 5, but is \(limit).") }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
    guard (0...1_000_000).contains(refine) else {
      throw ValidationError("--refine must be in 0...1000000, but is \(refine).")
    }
    guard output.hasSuffix(".safetensors") else {
      throw ValidationError("--output must end in .safetensors.")
    }
  }

  func run() throws {
    if let shard = try sharding.chosen() {
      try ShardFailure.classifying { try run(shard) }
    } else {
      try fit()
    }
  }

  /// What the model writes takes longest: it is kept in a file, and a run after an interruption goes on from there.
  private var work: String { String(output.dropLast(".safetensors".count)) + ".outputs.jsonl" }

  private func readRecords() throws -> [DocumentRecord] {
    Array(try DocumentFile.read(data).prefix(limit ?? .max))
  }

  private func makeFitter(_ loaded: LoadedModel) throws -> ExitHeadFitter {
    let usualShortlist = loaded.model.decoder.configuration.vocabularySize < 16_384 ? 0 : 4096
    return try ExitHeadFitter(
      model: loaded.model, layers: exitLayers.layers, shortlistSize: shortlist ?? usualShortlist,
      ridge: ridge, loss: classifierLoss, refinementSteps: refine,
      trainedMaps: maps.map {
        try ExitHeads.maps(
          path: $0, layers: exitLayers.layers, hiddenSize: loaded.model.decoder.configuration.hiddenSize)
      } ?? [:])
  }

  /// What writes the outputs of all documents, or of some of them.
  private func makeRunner(_ loaded: LoadedModel, for records: [DocumentRecord]) throws -> BatchRunner {
    let usual = records.map(\.item.task.usualMaxTokens).max() ?? 160
    let options = GenerationOptions(maxTokens: maxTokens ?? usual)
    return BatchRunner(
      model: loaded.model, policy: .init(options: options), rule: .truncate, raw: false, isCertified: false,
      settings: try BatchSettings(
        loaded, options: options, rule: .truncate, raw: false, seed: nil, exits: [:]))
  }

  private func run(_ shard: Shard) throws {
    let records = try readRecords()
    let own = records.filter { shard.contains($0.id) }
    let path = shard.path(for: work)
    let begun = try ShardOptions.begun(
      shard, command: Self._commandName, models: models, data: data, output: work, documents: records.count,
      lines: own.count)
    guard var description = begun else { return }
    let loaded = try models.load()
    // Layers that the model lacks are refused now, not after hours.
    _ = try makeFitter(loaded)
    description.modelDigest = try loaded.digest()
    let runner = try makeRunner(loaded, for: records)
    try runner.run(
      own, input: data, output: path,
      shard: BatchShardHeader(shard: description, settings: runner.settings.digest))
  }

  private func fit() throws {
    let records = try readRecords()
    let loaded = try models.load()
    let digest = try loaded.digest()
    var fitter = try makeFitter(loaded)
    try makeRunner(loaded, for: records).run(records, input: data, output: work)
    let (bytes, _) = try TextInput.bytes(path: work)
    let lines = bytes.split(separator: UInt8(ascii: "\n"))
    let bar = ProgressBar(total: lines.count, what: "outputs")
    for (index, line) in lines.enumerated() {
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      let result = try JSONOutput.decode(BatchResult.self, from: line)
      try fitter.add(
        Generation(
          text: result.text, tokenIDs: result.tokenIds, promptTokenIDs: result.promptTokenIds,
          stopReason: result.stopReason), isHeldOut: index % 5 == 4)
      bar.show(done: index + 1)
    }
    bar.clear()
    let steps = ProgressBar(total: refine * exitLayers.layers.count, what: "steps")
    let (heads, description) = try fitter.fit(name: loaded.model.name, digest: digest) { layer, step in
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      steps.show(done: refine * (exitLayers.layers.firstIndex(of: layer) ?? 0) + step)
    }
    steps.clear()
    try heads.write(to: output, description: description)
    try TextOutput.standard.write(
      form.format == .json ? try JSONOutput.line(description) + "\n" : Self.text(description))
  }

  private static func text(_ description: ExitHeadsDescription) -> String {
    var lines = [
      "fitted on \(description.fittedTokens.grouped) tokens, classifiers on \(description.classifierTokens.grouped); "
        + "agreement with the full model on \(description.heldOutTokens.grouped) held-out tokens:",
      "layer  shared head  fitted map  classifier right",
    ]
    for row in description.agreement {
      let layer = String(repeating: " ", count: max(0, 5 - "\(row.layer)".count)) + "\(row.layer)"
      lines.append(
        "\(layer)  \(row.sharedHead.formatted(places: 3))        \(row.fittedMap.formatted(places: 3))       "
          + row.classifier.formatted(places: 3)
          + (row.regression.map { "; \($0.formatted(places: 3)) before refinement" } ?? ""))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}

extension ClassifierLoss: ExpressibleByArgument {}
