import Generation
import RealModule

/// What an exit policy is told about a token at an exit layer. It never sees a tensor.
public struct ExitObservation: Sendable, Equatable {
  /// Layers that the token has passed.
  public var layer: Int
  /// Layers of the model.
  public var layerCount: Int
  /// In [0, 1).
  public var confidence: Double
  /// The place in the output of the token that is being chosen, from 0.
  public var tokenIndex: Int
  /// The most tokens that the output may have.
  public var maxTokens: Int

  /// Puts an observation together.
  public init(layer: Int, layerCount: Int, confidence: Double, tokenIndex: Int, maxTokens: Int) {
    self.layer = layer
    self.layerCount = layerCount
    self.confidence = confidence
    self.tokenIndex = tokenIndex
    self.maxTokens = maxTokens
  }
}

/// What a policy decides.
public enum ExitDecision: Sendable, Equatable {
  /// Go on to the next exit layer.
  case `continue`
  /// Choose the token from the hidden state after this layer, which must be the one observed.
  case `exit`(layer: Int, reason: ExitReason)
}

/// Decides after which layer each token leaves.
///
/// A policy of one's own is a few lines:
///
/// ```swift
/// /// Leaves after layer 20 on every second token, and where the model is nearly sure.
/// struct Alternating: ExitPolicy {
///   func exitLayers(layerCount: Int) -> [Int] { [20] }
///   func decide(_ observation: ExitObservation) -> ExitDecision {
///     if observation.tokenIndex % 2 == 1 { return .exit(layer: observation.layer, reason: .other("odd")) }
///     return observation.confidence >= 0.99
///       ? .exit(layer: observation.layer, reason: .confident) : .continue
///   }
/// }
/// ```
public protocol ExitPolicy: Sendable {
  /// The layers after which the policy wants to be asked: ascending, each in 1..<layerCount. None means full depth.
  ///
  /// Where the exit heads have a shortlist, the last may be layerCount: an exit there saves the head over the whole
  /// vocabulary.
  func exitLayers(layerCount: Int) -> [Int]
  /// Decides on one token at one of those layers.
  func decide(_ observation: ExitObservation) -> ExitDecision
}

/// Every token passes all layers.
public struct FullDepthPolicy: ExitPolicy {
  /// The only one there is.
  public init() {}

  /// None.
  public func exitLayers(layerCount: Int) -> [Int] { [] }
  /// Goes on.
  public func decide(_ observation: ExitObservation) -> ExitDecision { .continue }
}

/// Leaves after the first exit layer at which the confidence is at least the threshold.
///
/// The rule is ≥, as in CALM (Schuster et al., NeurIPS 2022). At the threshold 1 every token has full depth, and exit
/// layers are not looked at.
public struct ThresholdPolicy: ExitPolicy, Equatable {
  /// λ, in [0, 1].
  public let threshold: Double
  /// Layers after which a token may leave; `nil` for every layer but the last.
  public let layers: [Int]?
  /// No token leaves before it has passed so many layers.
  public let minimumLayer: Int
  /// τ of the decaying threshold, or `nil` for a constant one.
  public let decay: Double?

  /// - Throws: ``EarlyExitError/option(field:expected:found:)`` for a threshold outside [0, 1], a decay that is not
  ///   above 0, or layers that do not ascend from 1.
  public init(
    threshold: Double, layers: [Int]? = nil, minimumLayer: Int = 1, decay: Double? = nil
  ) throws(EarlyExitError) {
    guard (0...1).contains(threshold) else {
      throw .option(field: "exit-threshold", expected: "in 0...1", found: "\(threshold)")
    }
    if let decay, !(decay > 0 && decay.isFinite) {
      throw .option(field: "decay", expected: "a number above 0", found: "\(decay)")
    }
    guard minimumLayer >= 1 else {
      throw .option(field: "min-exit-layer", expected: "at least 1", found: "\(minimumLayer)")
    }
    if let layers {
      guard !layers.isEmpty, layers[0] >= 1, zip(layers, layers.dropFirst()).allSatisfy(<) else {
        throw .option(
          field: "exit-layers", expected: "layers from 1 on, each above the one before",
          found: layers.isEmpty ? "none" : layers.map(String.init).joined(separator: ","))
      }
    }
    self.init(unchecked: threshold, layers: layers, minimumLayer: minimumLayer, decay: decay)
  }

  private init(unchecked threshold: Double, layers: [Int]?, minimumLayer: Int, decay: Double?) {
    self.threshold = threshold
    self.layers = layers
    self.minimumLayer = minimumLayer
    self.decay = decay
  }

  /// The same policy with another threshold, at most 1.
  public func with(threshold: Double) -> ThresholdPolicy {
    ThresholdPolicy(
      unchecked: min(max(threshold, 0), 1), layers: layers, minimumLayer: minimumLayer, decay: decay)
  }

  /// The layers that are looked at; none at the threshold 1, which means full depth.
  public func exitLayers(layerCount: Int) -> [Int] {
    threshold >= 1 ? [] : candidateLayers(layerCount: layerCount)
  }

  /// The exit layers for a threshold below 1.
  public func candidateLayers(layerCount: Int) -> [Int] {
    (layers ?? Array(1..<max(layerCount, 1))).filter { $0 >= minimumLayer }
  }

  /// Leaves where the confidence is at least the threshold at this place of the output. O(1).
  public func decide(_ observation: ExitObservation) -> ExitDecision {
    let needed = threshold(at: observation.tokenIndex, of: observation.maxTokens)
    guard threshold < 1, observation.confidence >= needed else { return .continue }
    return .exit(layer: observation.layer, reason: .confident)
  }

  /// λ_t: the threshold itself, or clip₀₁(0.9 λ + 0.1 e^(−τ t/N)) (Schuster et al., equation 5).
  public func threshold(at tokenIndex: Int, of maxTokens: Int) -> Double {
    guard let offset = decayOffset(at: tokenIndex, of: maxTokens) else { return threshold }
    return min(max(0.9 * threshold + offset, 0), 1)
  }

  /// The largest threshold at which a token would leave with this confidence; `nil` when none is that low.
  public func criticalThreshold(confidence: Double, at tokenIndex: Int, of maxTokens: Int) -> Double? {
    guard let offset = decayOffset(at: tokenIndex, of: maxTokens) else { return confidence }
    var candidate = min((confidence - offset) / 0.9, 1.nextDown)
    // Rounding may put the quotient a step too high.
    while candidate >= 0, 0.9 * candidate + offset > confidence { candidate = candidate.nextDown }
    return candidate >= 0 ? candidate : nil
  }

  private func decayOffset(at tokenIndex: Int, of maxTokens: Int) -> Double? {
    guard let decay else { return nil }
    return 0.1 * Double.exp(-decay * Double(tokenIndex) / Double(max(maxTokens, 1)))
  }
}
