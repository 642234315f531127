import ArgumentParser
import Certification

/// What `bench --prices` measures.
struct PriceOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Measure what the parts of decoding cost on this machine, and write it to this file.",
      valueName: "prices.json"))
  var prices: String?

  @Option(
    help: ArgumentHelp(
      "With --prices, of these exit heads; none for the model's own head. (default: as calibrate)",
      valueName: "file"))
  var exitHeads: String?

  @Option(help: ArgumentHelp("With --prices, of this draft, as calibrate takes it.", valueName: "draft"))
  var draft: String?

  @Flag(
    help: "With --prices, of prompts whose tokens stop after a layer too, for calibrate --prompt-depth.")
  var promptDepth = false

  func validate() throws {
    let given = [
      ("exit-heads", exitHeads != nil), ("draft", draft != nil), ("prompt-depth", promptDepth),
    ].filter(\.1).map(\.0)
    if prices == nil, let name = given.first {
      throw ValidationError("--\(name) has no effect without --prices.")
    }
  }

  /// Measures and writes the file.
  func write(to path: String, _ model: LoadedModel, _ models: ModelOptions, _ format: OutputOptions.Format)
    throws
  {
    let subject: DecodingSubject
    if let draft {
      subject = try model.subject(draft: LoadedDraft(draft, for: model, threads: models.threads))
    } else {
      subject = try model.subject(ExitPolicyOptions.parse(exitHeads.map { ["--exit-heads", $0] } ?? []))
    }
    let prices = try PriceFile.measured(subject, prompts: promptDepth)
    try prices.write(to: path)
    let full: Double
    switch prices.costs {
    case .exits(let costs):
      full = Double(model.model.decoder.configuration.layerCount) * (costs.layer.first ?? 0) + costs.head
    case .drafts(let costs): full = costs.plain
    case .prompts(let costs): full = costs.token
    case .documents(let costs): full = costs.prompt.token
    case .draftedDocuments(let costs): full = costs.prompt.token
    }
    try TextOutput.standard.write(
      format == .json
        ? prices.text()
        : "prices          \(path); a token at full depth takes \(full.formatted(places: 2)) ms here\n")
  }
}
