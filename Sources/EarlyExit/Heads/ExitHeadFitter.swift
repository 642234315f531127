import DecoderModels

/// How the classifiers are trained (Schuster et al., NeurIPS 2022, section 3.5).
public enum ClassifierLoss: String, Sendable, CaseIterable, Codable {
  /// Class-balanced cross-entropy of "the best token is the full model's", each layer by itself.
  case independent
  /// The negative log-probability of leaving first at the first layer that agrees with the full model. A layer's share of
  /// it is the cross-entropy of "this is that layer" over the tokens that no earlier layer has decided.
  case geometric
}

/// Fits exit heads and classifiers on a frozen model.
///
/// A map is the ridge regression of the normalised final hidden state on the normalised state after the exit layer.
/// Texts are added one by one; of each only its part in the sums of the regression is kept, and the states of output
/// tokens, up to a limit, for the classifiers.
public struct ExitHeadFitter {
  public let layers: [Int]
  public let ridge: Double
  public let loss: ClassifierLoss
  /// Tokens added for fitting.
  public private(set) var fittedTokens = 0

  private let decoder: any DecoderModel
  private let states: HiddenStates
  private var regressions: [Int: RidgeRegression]
  private var training: StateSample
  private var heldOut: StateSample

  /// - Parameters:
  ///   - layers: Exit layers, ascending, each before the last.
  ///   - ridge: The penalty, in parts of the mean square of an input summed over all tokens.
  ///   - sampleLimit: Output tokens kept for the classifiers: 4 bytes each for (layers + 1) · hiddenSize numbers.
  public init(
    model: LanguageModel, layers: [Int], ridge: Double = 1e-3, loss: ClassifierLoss = .independent,
    sampleLimit: Int = 20_000
  ) throws(EarlyExitError) {
    let configuration = model.decoder.configuration
    guard ridge > 0, ridge.isFinite else {
      throw .option(field: "ridge", expected: "a number above 0", found: "\(ridge)")
    }
    let policy = try ThresholdPolicy(threshold: 0, layers: layers)
    _ = try ExitStrategy(policy: policy, measure: SaturationConfidence()).validatedLayers(for: model.decoder)
    self.layers = layers
    self.ridge = ridge
    self.loss = loss
    decoder = model.decoder
    states = HiddenStates(hiddenSize: configuration.hiddenSize, capacity: DecodingBuffers.prefillChunk)
    regressions = Dictionary(
      uniqueKeysWithValues: layers.map {
        ($0, RidgeRegression(inputCount: configuration.hiddenSize, outputCount: configuration.hiddenSize))
      })
    let all = layers + [configuration.layerCount]
    training = StateSample(layers: all, size: configuration.hiddenSize, limit: sampleLimit)
    heldOut = StateSample(layers: all, size: configuration.hiddenSize, limit: sampleLimit)
  }

  /// Adds a prompt with the output that followed it.
  ///
  /// - Parameter isHeldOut: Keeps the text out of the fit, for the report of agreement.
  public mutating func add(_ generation: Generation, isHeldOut: Bool) throws {
    let start = decoder.configuration.encoder.map { [$0.startToken] }
    let prompt = start ?? generation.promptTokenIDs
    let tokens = prompt + generation.tokenIDs.dropLast()
    let firstOutput = prompt.count - 1
    let cache = try decoder.makeCache(capacity: tokens.count)
    if start != nil { try decoder.encode(generation.promptTokenIDs, into: cache) }
    let last = decoder.configuration.layerCount
    for start in stride(from: 0, to: tokens.count, by: states.capacity) {
      let chunk = start..<min(start + states.capacity, tokens.count)
      try decoder.embed(Array(tokens[chunk]), into: states)
      let rows = chunk.map { BatchRow(cache: cache, position: $0) }
      var normalized: [Int: [Float]] = [:]
      var done = 0
      for layer in layers + [last] {
        try decoder.advance(states, rows: rows, layers: done..<layer)
        done = layer
        normalized[layer] = chunk.indices.flatMap { ExitHeads.normalized(states[$0 - start]) }
      }
      let outputs = max(firstOutput, start)..<max(firstOutput, start, chunk.upperBound)
      if isHeldOut {
        heldOut.append(normalized, rows: outputs.lowerBound - start..<outputs.upperBound - start)
        continue
      }
      training.append(normalized, rows: outputs.lowerBound - start..<outputs.upperBound - start)
      let targets = (normalized[last] ?? []).map(Double.init)
      for layer in layers {
        try regressions[layer]?.add(
          inputs: (normalized[layer] ?? []).map(Double.init), outputs: targets, count: chunk.count)
      }
      fittedTokens += chunk.count
    }
  }

  /// Fits maps and classifiers, and measures agreement with the full model on what was held out.
  ///
  /// - Parameters:
  ///   - name: What the model is called.
  ///   - digest: The model's SHA-256.
  /// - Throws: ``EarlyExitError/exitHeads(_:)`` when there is too little text.
  public func fit(name: String, digest: String) throws -> (
    heads: ExitHeads, description: ExitHeadsDescription
  ) {
    guard training.count > 0, heldOut.count > 0 else {
      throw EarlyExitError.exitHeads(
        "fitting exit heads needs output tokens to fit on and to hold out; "
          + "found \(training.count) and \(heldOut.count)")
    }
    let last = decoder.configuration.layerCount
    var heads = ExitHeads()
    let best = try training.bestTokens(decoder, layer: last, map: nil)
    let heldOutBest = try heldOut.bestTokens(decoder, layer: last, map: nil)
    var undecided = [Bool](repeating: true, count: training.count)
    var agreement: [ExitHeadsDescription.Agreement] = []
    for layer in layers {
      guard let solution = try regressions[layer]?.solve(ridge: ridge) else { continue }
      let map = try ExitHeads.LayerMap(weights: solution.map(Float.init), hiddenSize: states.hiddenSize)
      let agrees = zip(try training.bestTokens(decoder, layer: layer, map: map), best).map(==)
      let used = loss == .independent ? Array(agrees.indices) : agrees.indices.filter { undecided[$0] }
      let classifier = try LogisticRegression(balanced: loss == .independent).fit(
        training, layer: layer, rows: used, labels: agrees)
      for index in agrees.indices where agrees[index] { undecided[index] = false }
      heads.maps[layer] = map
      heads.classifiers[layer] = classifier

      let shared = zip(try heldOut.bestTokens(decoder, layer: layer, map: nil), heldOutBest).map(==)
      let fitted = zip(try heldOut.bestTokens(decoder, layer: layer, map: map), heldOutBest).map(==)
      let measure = ClassifierConfidence([layer: classifier])
      let right = fitted.indices.count { index in
        var reading = ConfidenceReading(layer: layer)
        reading.hiddenState = heldOut.state(index, layer: layer)
        return (measure.confidence(reading) >= 0.5) == fitted[index]
      }
      let count = Double(heldOut.count)
      agreement.append(
        .init(
          layer: layer, sharedHead: Double(shared.count { $0 }) / count,
          fittedMap: Double(fitted.count { $0 }) / count, classifier: Double(right) / count))
    }
    return (
      heads,
      ExitHeadsDescription(
        version: ExitHeadsDescription.currentVersion, model: name, modelDigest: digest, headsDigest: "",
        layers: layers, hiddenSize: states.hiddenSize, fittedTokens: fittedTokens,
        classifierTokens: training.count, heldOutTokens: heldOut.count, ridge: ridge,
        classifierLoss: loss.rawValue, agreement: agreement)
    )
  }
}
