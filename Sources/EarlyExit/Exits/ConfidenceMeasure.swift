import RealModule
import Transformers

/// What a confidence measure reads. Only that is computed.
public struct ConfidenceInput: OptionSet, Sendable, Hashable {
  /// The bits of the set.
  public let rawValue: Int

  /// A set from its bits.
  public init(rawValue: Int) { self.rawValue = rawValue }

  /// The hidden state after the exit layer.
  public static let hiddenState = ConfidenceInput(rawValue: 1)
  /// The hidden state one layer earlier.
  public static let previousHiddenState = ConfidenceInput(rawValue: 2)
  /// The logits of the exit head. They cost a pass over its unembedding at every exit layer.
  public static let logits = ConfidenceInput(rawValue: 4)
}

/// What a measure is shown of a token at an exit layer.
public struct ConfidenceReading: Sendable {
  /// Layers that the token has passed, from 1.
  public var layer: Int
  /// (hiddenSize), empty unless asked for.
  public var hiddenState: [Float] = []
  /// (hiddenSize), empty unless asked for.
  public var previousHiddenState: [Float] = []
  /// Logits of the whole vocabulary, or of the shortlist that the exit heads have; empty unless asked for.
  public var logits: [Float] = []

  /// An empty reading after a layer, counted from 1.
  public init(layer: Int) { self.layer = layer }
}

/// How sure a model is of the next token after some of its layers (Schuster et al., NeurIPS 2022, section 3.3).
public protocol ConfidenceMeasure: Sendable {
  /// The name in options, traces and certificates.
  var name: String { get }
  /// What ``confidence(_:)`` reads.
  var reads: ConfidenceInput { get }
  /// The confidence, in [0, 1]; what lies outside is clipped, and not-a-number counts as 0.
  func confidence(_ reading: ConfidenceReading) -> Double
}

/// The probability of the best token minus that of the second best.
public struct SoftmaxConfidence: ConfidenceMeasure {
  /// `softmax`
  public let name = "softmax"
  /// Logits alone.
  public let reads: ConfidenceInput = .logits

  /// The only one there is.
  public init() {}

  /// - Complexity: O(vocabularySize) exponentials.
  public func confidence(_ reading: ConfidenceReading) -> Double {
    reading.logits.withUnsafeBufferPointer(Self.margin)
  }

  /// p₁ − p₂ of the softmax.
  static func margin(_ logits: UnsafeBufferPointer<Float>) -> Double {
    var first = -Float.infinity
    var second = -Float.infinity
    for value in logits where value > second {
      if value > first {
        second = first
        first = value
      } else {
        second = value
      }
    }
    guard first.isFinite else { return 0 }
    let total = Logits.logSumExp(logits)
    return Double.exp(Double(first) - total) - Double.exp(Double(second) - total)
  }
}

/// The cosine between the hidden states before and after the exit layer; 0 after the first layer.
public struct SaturationConfidence: ConfidenceMeasure {
  /// `saturation`
  public let name = "saturation"
  /// The hidden states after this layer and the one before.
  public let reads: ConfidenceInput = [.hiddenState, .previousHiddenState]

  /// The only one there is.
  public init() {}

  /// The cosine of the two states; 0 after the first layer, which has no state before it.
  ///
  /// - Complexity: O(hiddenSize)
  public func confidence(_ reading: ConfidenceReading) -> Double {
    guard reading.layer > 1 else { return 0 }
    var product = 0.0
    var square = 0.0
    var previousSquare = 0.0
    for (now, before) in zip(reading.hiddenState, reading.previousHiddenState) {
      let (now, before) = (Double(now), Double(before))
      product += now * before
      square += now * now
      previousSquare += before * before
    }
    return product / (square * previousSquare).squareRoot()
  }
}

/// A linear classifier per exit layer: σ(w·x + b + a·m). Here x is the hidden state divided by its root mean square,
/// and m is the log-odds of the exit head's margin. The margin is the probability of its best token minus that of the
/// second best.
///
/// It is trained to tell whether the exit head's best token is that of the full model (Schuster et al., section 3.5).
/// Without margin weights (a = 0) it reads hidden states only, as in the paper. The head then runs only where a token
/// leaves.
public struct ClassifierConfidence: ConfidenceMeasure {
  /// One layer's classifier.
  public struct Weights: Sendable, Equatable {
    /// (hiddenSize)
    public var weights: [Float]
    /// Added to the product of weights and state.
    public var bias: Float
    /// The weight of the margin's log-odds; 0 for a classifier that reads the hidden state alone.
    public var marginWeight: Float

    /// Sets a layer's classifier.
    public init(weights: [Float], bias: Float, marginWeight: Float = 0) {
      self.weights = weights
      self.bias = bias
      self.marginWeight = marginWeight
    }
  }

  /// `classifier`
  public let name = "classifier"
  /// The hidden state, and the logits where a classifier weighs the margin.
  public let reads: ConfidenceInput
  /// By exit layer. A layer without one has confidence 0.
  public let classifiers: [Int: Weights]

  /// A measure from classifiers by exit layer.
  public init(_ classifiers: [Int: Weights]) {
    self.classifiers = classifiers
    reads = classifiers.values.contains { $0.marginWeight != 0 } ? [.hiddenState, .logits] : .hiddenState
  }

  /// The classifier's probability that the exit's token is the full model's.
  ///
  /// - Complexity: O(hiddenSize), and O(vocabularySize) where the margin is weighed.
  public func confidence(_ reading: ConfidenceReading) -> Double {
    confidence(reading, margin: reading.logits.withUnsafeBufferPointer(SoftmaxConfidence.margin))
  }

  func confidence(_ reading: ConfidenceReading, margin: @autoclosure () -> Double) -> Double {
    guard let classifier = classifiers[reading.layer] else { return 0 }
    var square: Float = 0
    var product: Float = 0
    for (value, weight) in zip(reading.hiddenState, classifier.weights) {
      square += value * value
      product += value * weight
    }
    let scale = Float.inverseRootMeanSquare(square, count: reading.hiddenState.count)
    var activation = Double(product * scale + classifier.bias)
    if classifier.marginWeight != 0 {
      activation += Double(classifier.marginWeight) * Self.logOdds(margin())
    }
    return 1 / (1 + Double.exp(-activation))
  }

  /// ln(m / (1 − m)), kept within that of 0.0001 and 0.9999.
  static func logOdds(_ margin: Double) -> Double {
    let clipped = min(max(margin, 1e-4), 1 - 1e-4)
    return Double.log(clipped / (1 - clipped))
  }
}

extension ConfidenceMeasure {
  /// The confidence as policies see it: in [0, 1).
  ///
  /// No confidence reaches 1, whatever rounding does, so that the threshold 1 is full depth exactly.
  public func boundedConfidence(_ reading: ConfidenceReading) -> Double {
    let value = confidence(reading)
    return value.isNaN ? 0 : min(max(value, 0), 1.nextDown)
  }
}
