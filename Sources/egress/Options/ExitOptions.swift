import ArgumentParser
import EarlyExit

/// Where and when tokens leave the layers early.
struct ExitOptions: ParsableArguments {
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
      "Let a token leave the layers early where the confidence is at least this, in 0...1; 1 is full depth.",
      valueName: "threshold"))
  var exitThreshold: Double?

  @Option(
    help: ArgumentHelp(
      "How confidence is measured: softmax (probability of the best token minus that of the second), saturation "
        + "(cosine of neighbouring hidden states) or classifier (needs --exit-heads). (default: softmax)",
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
    help: ArgumentHelp("Exit heads and classifiers that fit-exits made for this model.", valueName: "file"))
  var exitHeads: String?

  @Option(
    help: ArgumentHelp(
      "Write a line of JSON for each token: layer, confidences, reason, bytes, seconds.",
      valueName: "t.jsonl"))
  var trace: String?

  @Flag(help: "Colour the text by exit layer, on a terminal.")
  var showExits = false

  func validate() throws {
    let dependent: [(String, Bool)] = [
      ("confidence", confidence != nil), ("exit-cache", exitCache != nil),
      ("exit-layers", exitLayers != nil), ("min-exit-layer", minExitLayer != nil), ("decay", decay != nil),
      ("exit-heads", exitHeads != nil), ("show-exits", showExits),
    ]
    if exitThreshold == nil, let (name, _) = dependent.first(where: \.1) {
      throw ValidationError("--\(name) has no effect without --exit-threshold.")
    }
    if confidence == .classifier, exitHeads == nil {
      throw ValidationError("--confidence classifier needs --exit-heads.")
    }
    if exitThreshold != nil { _ = try policy(layers: exitLayers?.layers) }
  }

  /// What decoding is told; `nil` for plain decoding.
  ///
  /// - Throws: ``EarlyExitError`` for layers that the model lacks and heads of another model.
  func makeStrategy(_ loaded: LoadedModel) throws -> ExitStrategy? {
    guard exitThreshold != nil else { return nil }
    let heads = try exitHeads.map { try ExitHeads(path: $0, modelPath: loaded.path) }
    let strategy = ExitStrategy(
      policy: try policy(layers: exitLayers?.layers ?? heads?.layers), measure: makeMeasure(heads),
      heads: heads, cachePolicy: exitCache ?? .defer)
    _ = try strategy.validatedLayers(for: loaded.model.decoder)
    return strategy
  }

  private func makeMeasure(_ heads: ExitHeads?) -> any ConfidenceMeasure {
    switch confidence ?? .softmax {
    case .softmax: SoftmaxConfidence()
    case .saturation: SaturationConfidence()
    case .classifier: ClassifierConfidence(heads?.classifiers ?? [:])
    }
  }

  private func policy(layers: [Int]?) throws -> ThresholdPolicy {
    do {
      return try ThresholdPolicy(
        threshold: exitThreshold ?? 1, layers: layers, minimumLayer: minExitLayer ?? 1, decay: decay)
    } catch {
      throw ValidationError("--\(error).")
    }
  }
}

extension ExitCachePolicy: ExpressibleByArgument {}
