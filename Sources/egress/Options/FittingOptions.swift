import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import Generation

/// Which exit heads are fitted, and how.
struct FittingOptions: ParsableArguments {
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

  func validate() throws {
    if let limit, limit < 5 { throw ValidationError("--limit must be at least 5, but is \(limit).") }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
    guard (0...1_000_000).contains(refine) else {
      throw ValidationError("--refine must be in 0...1000000, but is \(refine).")
    }
  }

  func makeFitter(_ model: LanguageModel) throws -> ExitHeadFitter {
    let configuration = model.decoder.configuration
    let usualShortlist = ExitHeadFitter.usualShortlistSize(vocabularySize: configuration.vocabularySize)
    return try ExitHeadFitter(
      model: model, layers: exitLayers.layers, shortlistSize: shortlist ?? usualShortlist,
      ridge: ridge, loss: classifierLoss, refinementSteps: refine,
      trainedMaps: maps.map {
        try ExitHeads.maps(path: $0, layers: exitLayers.layers, hiddenSize: configuration.hiddenSize)
      } ?? [:])
  }

  /// What writes the outputs of all documents, or of some of them.
  func makeRunner(_ loaded: LoadedModel, for records: [DocumentRecord]) throws -> BatchRunner {
    let usual = records.map(\.item.task.usualMaxTokens).max() ?? 160
    let options = GenerationOptions(maxTokens: maxTokens ?? usual)
    return BatchRunner(
      model: loaded.model, policy: .init(options: options), rule: .truncate, raw: false, isCertified: false,
      settings: try BatchSettings(
        loaded, options: options, rule: .truncate, raw: false, seed: nil, exits: [:]))
  }
}

extension ClassifierLoss: ExpressibleByArgument {}
