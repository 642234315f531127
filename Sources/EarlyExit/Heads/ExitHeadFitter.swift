import Generation
import Transformers

/// How the classifiers are trained (Schuster et al., NeurIPS 2022, section 3.5).
public enum ClassifierLoss: String, Sendable, CaseIterable, Codable {
  /// The class-balanced cross-entropy of "the best token is that of the full model", for each layer by itself.
  case independent
  /// The negative log-probability that a token leaves at the first layer which agrees with the full model. A layer's
  /// part of it is the cross-entropy of "this is that layer", over the tokens that no earlier layer has decided.
  case geometric
}

/// Fits exit heads and classifiers on a frozen model.
///
/// A map is the ridge regression of the normalised final hidden state on the normalised state after the exit layer. It
/// is fitted over the output tokens of texts that the model wrote. With a shortlist, an exit chooses among the tokens
/// that the model writes most often and those of the prompt. The last layer is then an exit too, and has a classifier.
///
/// Texts are added one by one. Each is added to the sums of the regression. The states of its output tokens are kept
/// for the classifiers, up to a limit.
public struct ExitHeadFitter {
  /// Ascending, without the last layer.
  public let layers: [Int]
  /// The weight of the squared maps in the regression, at least 0.
  public let ridge: Double
  /// What classifiers are fitted by.
  public let loss: ClassifierLoss
  /// Tokens that an exit chooses from beside the prompt's; 0 for the whole vocabulary.
  public let shortlistSize: Int
  /// Gradient steps on the maps after the regression; 0 for none.
  public let refinementSteps: Int
  /// Maps that were trained together with the model, by layer; only classifiers are fitted to them.
  public let trainedMaps: [Int: ExitHeads.LayerMap]
  /// Tokens added for fitting.
  public private(set) var fittedTokens = 0

  let decoder: any DecoderModel
  private let states: HiddenStates
  private var regressions: [Int: RidgeRegression]
  var training: StateSample
  var heldOut: StateSample
  /// How often each token was written, and how often it stood in a prompt: (vocabularySize) each.
  private var written: [Int]
  private var read: [Int]

  /// - Parameters:
  ///   - model: The model whose states the heads are fitted to.
  ///   - layers: Exit layers, ascending, each before the last.
  ///   - shortlistSize: Tokens that an exit chooses from beside the prompt's; 0 for the whole vocabulary.
  ///   - ridge: The penalty, in parts of the mean square of an input summed over all tokens.
  ///   - loss: What the classifiers minimise.
  ///   - refinementSteps: Gradient steps that bring an exit's distribution nearer to the full model's, each on 256
  ///     tokens. A map that does not agree more often on held-out text is not kept.
  ///   - trainedMaps: Maps that are there already, by layer: neither regression nor refinement replaces them.
  ///   - sampleLimit: Output tokens kept for classifiers and refinement: 2 bytes each for (layers + 1) · hiddenSize
  ///     numbers.
  public init(
    model: LanguageModel, layers: [Int], shortlistSize: Int = 0, ridge: Double = 1e-3,
    loss: ClassifierLoss = .independent, refinementSteps: Int = 0,
    trainedMaps: [Int: ExitHeads.LayerMap] = [:], sampleLimit: Int = 40_000
  ) throws(EarlyExitError) {
    let configuration = model.decoder.configuration
    guard ridge > 0, ridge.isFinite else {
      throw .option(field: "ridge", expected: "a number above 0", found: "\(ridge)")
    }
    guard (0...1_000_000).contains(refinementSteps) else {
      throw .option(field: "refine", expected: "in 0...1000000", found: "\(refinementSteps)")
    }
    guard (0..<configuration.vocabularySize).contains(shortlistSize) else {
      throw .option(
        field: "shortlist", expected: "at least 0 and below \(configuration.vocabularySize)",
        found: "\(shortlistSize)")
    }
    for (layer, map) in trainedMaps {
      guard layers.contains(layer), map.hiddenSize == configuration.hiddenSize else {
        throw .exitHeads(
          "a trained map of layer \(layer) and size \(map.hiddenSize) does not belong to exits at the layers "
            + "\(layers) of a model of size \(configuration.hiddenSize)")
      }
    }
    let policy = try ThresholdPolicy(threshold: 0, layers: layers)
    _ = try ExitStrategy(policy: policy, measure: SaturationConfidence()).validatedLayers(for: model.decoder)
    self.layers = layers
    self.shortlistSize = shortlistSize
    self.ridge = ridge
    self.loss = loss
    self.refinementSteps = refinementSteps
    self.trainedMaps = trainedMaps
    decoder = model.decoder
    let size = configuration.hiddenSize
    states = HiddenStates(hiddenSize: size, capacity: DecodingBuffers.prefillChunk)
    regressions = Dictionary(
      uniqueKeysWithValues: layers.map { ($0, RidgeRegression(inputCount: size, outputCount: size)) })
    let all = layers + [configuration.layerCount]
    training = StateSample(layers: all, size: size, limit: sampleLimit)
    heldOut = StateSample(layers: all, size: size, limit: sampleLimit)
    written = Array(repeating: 0, count: configuration.vocabularySize)
    read = written
  }

  /// How many tokens an exit of a model chooses from unless told otherwise: the whole vocabulary of a small one, whose
  /// head costs little as it is.
  public static func usualShortlistSize(vocabularySize: Int) -> Int { vocabularySize < 4 * 4096 ? 0 : 4096 }

  /// Which of several texts are held out unless told otherwise: every fifth.
  public static func isHeldOut(_ index: Int) -> Bool { index % 5 == 4 }

  /// Adds a prompt with the output that followed it.
  ///
  /// - Parameters:
  ///   - generation: A prompt and the full-depth output that followed it.
  ///   - isHeldOut: Keeps the text out of the fit, for the report of agreement.
  public mutating func add(_ generation: Generation, isHeldOut: Bool) throws {
    let prompt = generation.promptTokenIDs
    let last = decoder.configuration.layerCount
    let size = states.hiddenSize
    var texts = Dictionary(uniqueKeysWithValues: (layers + [last]).map { ($0, [Float]()) })
    try TeacherForcing(decoder: decoder, states: states).run(generation, layers: layers + [last]) {
      texts[$0, default: []] += $1
    }
    let normalized = texts.mapValues { $0.rowsDividedByRootMeanSquare(size: size) }
    guard let finals = normalized[last], !finals.isEmpty else { return }
    if !isHeldOut {
      let targets = finals.map(Double.init)
      for layer in layers where trainedMaps[layer] == nil {
        try regressions[layer]?.add(
          inputs: (normalized[layer] ?? []).map(Double.init), outputs: targets, count: finals.count / size)
      }
      fittedTokens += finals.count / size
    }
    let kept = min(finals.count / size, isHeldOut ? heldOut.room : training.room)
    var best: [TokenID] = []
    for start in stride(from: 0, to: kept, by: 64) {
      let rows = start..<min(start + 64, kept)
      best += try StateSample.withLogits(
        decoder, of: Array(finals[rows.lowerBound * size..<rows.upperBound * size]), count: rows.count,
        Logits.argmax)
    }
    let part = normalized.mapValues { $0[..<(kept * size)] }
    if isHeldOut {
      heldOut.append(part, best: best, prompt: prompt)
    } else {
      training.append(part, best: best, prompt: prompt)
    }
    guard !isHeldOut else { return }
    for token in generation.tokenIDs where written.indices.contains(token) { written[token] += 1 }
    for token in prompt where read.indices.contains(token) { read[token] += 1 }
  }

  /// The tokens written most often; of equal ones those read most often, then those with the lower numbers, which byte
  /// pair encoding learned from commoner text.
  private func makeShortlist() -> [TokenID] {
    written.indices.sorted {
      (written[$0], read[$0], $1) > (written[$1], read[$1], $0)
    }.prefix(shortlistSize).sorted()
  }

  /// Fits maps and classifiers, and measures agreement with the full model on what was held out.
  ///
  /// - Parameters:
  ///   - name: What the model is called.
  ///   - digest: The model's SHA-256.
  ///   - shouldStop: Asked before each step of the refinement, with its layer and number; what it throws ends the fit.
  /// - Throws: ``EarlyExitError/exitHeads(_:)`` when there is too little text.
  public func fit(
    name: String, digest: String, shouldStop: (_ layer: Int, _ step: Int) throws -> Void = { _, _ in }
  ) throws -> (heads: ExitHeads, description: ExitHeadsDescription) {
    guard training.count > 0, heldOut.count > 0 else {
      throw EarlyExitError.exitHeads(
        "fitting exit heads needs output tokens to fit on and to hold out; "
          + "found \(training.count) and \(heldOut.count)")
    }
    let size = states.hiddenSize
    var maps = trainedMaps
    for layer in layers where trainedMaps[layer] == nil {
      guard let solution = try regressions[layer]?.solve(ridge: ridge) else { continue }
      maps[layer] = try ExitHeads.LayerMap(weights: solution.map(Float.init), hiddenSize: size)
    }
    let shortlist = makeShortlist()
    let regressed = try refinementSteps == 0 ? nil : agreement(maps, shortlist)
    if let regressed { maps = try refine(maps, shortlist, agreement: regressed, shouldStop: shouldStop) }
    let prepared = try PreparedHeads(ExitHeads(maps: maps, shortlist: shortlist), decoder: decoder)
    let shared = try PreparedHeads(ExitHeads(shortlist: shortlist), decoder: decoder)

    var classifiers: [Int: ClassifierConfidence.Weights] = [:]
    var undecided = [Bool](repeating: true, count: training.count)
    var agreement: [ExitHeadsDescription.Agreement] = []
    let exits = layers + (shortlist.isEmpty ? [] : [decoder.configuration.layerCount])
    for layer in exits {
      let choices = try training.choices(decoder, layer: layer, heads: prepared)
      let agrees = zip(choices, training.best).map { $0.token == $1 }
      let used = loss == .independent ? Array(agrees.indices) : agrees.indices.filter { undecided[$0] }
      let classifier = try LogisticRegression(balanced: loss == .independent).fit(
        training, layer: layer, size: size, rows: used, labels: agrees,
        logOdds: choices.map { ClassifierConfidence.logOdds($0.margin) })
      for index in agrees.indices where agrees[index] { undecided[index] = false }
      classifiers[layer] = classifier

      let best = heldOut.best
      let unmapped = zip(try heldOut.choices(decoder, layer: layer, heads: shared), best).map {
        $0.token == $1
      }
      let mapped = try heldOut.choices(decoder, layer: layer, heads: prepared)
      let fitted = zip(mapped, best).map { $0.token == $1 }
      let right = fitted.indices.count { index in
        let margin = Double(classifier.marginWeight) * ClassifierConfidence.logOdds(mapped[index].margin)
        let product = zip(heldOut.states(index..<index + 1, layer: layer), classifier.weights)
          .reduce(0) { $0 + Double($1.0) * Double($1.1) }
        return (product + margin + Double(classifier.bias) >= 0) == fitted[index]
      }
      let count = Double(heldOut.count)
      agreement.append(
        .init(
          layer: layer, sharedHead: Double(unmapped.count { $0 }) / count, regression: regressed?[layer],
          fittedMap: Double(fitted.count { $0 }) / count, classifier: Double(right) / count))
    }
    return (
      ExitHeads(maps: maps, classifiers: classifiers, shortlist: shortlist),
      ExitHeadsDescription(
        version: ExitHeadsDescription.currentVersion, model: name, modelDigest: digest, headsDigest: "",
        layers: exits, hiddenSize: size, shortlistSize: shortlist.count, fittedTokens: fittedTokens,
        classifierTokens: training.count, heldOutTokens: heldOut.count, ridge: ridge,
        refinementSteps: refinementSteps == 0 ? nil : refinementSteps, classifierLoss: loss.rawValue,
        agreement: agreement)
    )
  }
}
