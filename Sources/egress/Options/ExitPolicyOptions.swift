import ArgumentParser
import Checkpoints
import EarlyExit

/// An exit policy but for its threshold: which layers, which measure, which heads, which cache.
struct ExitPolicyOptions: ParsableArguments {
  enum Measure: String, ExpressibleByArgument, CaseIterable {
    case softmax, saturation, classifier
  }

  /// Layers separated by commas.
  struct LayerList: ExpressibleByArgument {
    let layers: [Int]

    init?(argument: String) {
      let layers = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
      guard !layers.contains(nil) else { return nil }
      self.layers = layers.compactMap { $0 }
    }
  }

  @Option(
    help: ArgumentHelp(
      "How confidence is measured: softmax (probability of the best token minus that of the second), saturation "
        + "(cosine of neighbouring hidden states) or classifier (needs exit heads). (default: softmax)",
      valueName: "measure"))
  var confidence: Measure?

  @Option(
    help: ArgumentHelp(
      "Keys and values of skipped layers: defer completes them exactly when a later token goes deeper, propagate "
        + "projects the token's last hidden state. (default: defer)", valueName: "policy"))
  var exitCache: ExitCachePolicy?

  @Option(
    help: ArgumentHelp(
      "Layers after which a token may leave, such as 12,18,24. (default: those of --exit-heads, or every layer)",
      valueName: "layers"))
  var exitLayers: LayerList?

  @Option(help: ArgumentHelp("No token leaves before this layer.", valueName: "layer"))
  var minExitLayer: Int?

  @Option(
    help: ArgumentHelp(
      "Let the threshold fall along the output, as 0.9 threshold + 0.1 exp(-decay * token / max-tokens); 4 is usual.",
      valueName: "decay"))
  var decay: Double?

  @Option(
    help: ArgumentHelp(
      "Exit heads and classifiers that fit-exits made for this model; none for the model's own head. (default: those that "
        + "come with the program, for a model given by name)", valueName: "file"))
  var exitHeads: String?

  func validate() throws {
    _ = try policy(threshold: 0, heads: nil)
  }

  /// The options given, by name.
  var given: [String] {
    let all: [(String, Bool)] = [
      ("confidence", confidence != nil), ("exit-cache", exitCache != nil),
      ("exit-layers", exitLayers != nil), ("min-exit-layer", minExitLayer != nil), ("decay", decay != nil),
      ("exit-heads", exitHeads != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// The file of exit heads: the one given, or the one that is shipped for a model given by name; `nil` for none.
  func headsPath(_ loaded: LoadedModel) -> String? {
    if let exitHeads { return exitHeads == "none" ? nil : exitHeads }
    return loaded.entry.flatMap(ShippedFiles.exitHeads)
  }

  /// SHA-256 of that file.
  func headsDigest(_ loaded: LoadedModel) throws -> String? {
    try headsPath(loaded).map { try Checkpoints.FileDigest.sha256(path: $0) }
  }

  /// - Throws: ``EarlyExitError/exitHeads(_:)`` for heads of another model; a usage error when a classifier is asked for and
  ///   there is none.
  func loadHeads(_ loaded: LoadedModel) throws -> ExitHeads? {
    let path = headsPath(loaded)
    if confidence == .classifier, path == nil {
      throw ValidationError("--confidence classifier needs --exit-heads.")
    }
    return try path.map { try ExitHeads(path: $0, modelPath: loaded.path) }
  }

  func policy(threshold: Double, heads: ExitHeads?) throws -> ThresholdPolicy {
    do {
      return try ThresholdPolicy(
        threshold: threshold, layers: exitLayers?.layers ?? heads?.layers, minimumLayer: minExitLayer ?? 1,
        decay: decay)
    } catch {
      throw ValidationError("--\(error).")
    }
  }

  func strategy(_ policy: ThresholdPolicy, heads: ExitHeads?, model: LanguageModel) throws -> ExitStrategy {
    let strategy = ExitStrategy(
      policy: policy, measure: Self.measure(confidence ?? .softmax, heads), heads: heads,
      cachePolicy: exitCache ?? .defer)
    _ = try strategy.validatedLayers(for: model.decoder)
    return strategy
  }

  static func measure(_ name: Measure, _ heads: ExitHeads?) -> any ConfidenceMeasure {
    switch name {
    case .softmax: SoftmaxConfidence()
    case .saturation: SaturationConfidence()
    case .classifier: ClassifierConfidence(heads?.classifiers ?? [:])
    }
  }
}

extension ExitCachePolicy: ExpressibleByArgument {}
