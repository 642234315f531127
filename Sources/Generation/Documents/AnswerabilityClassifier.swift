import Checkpoints
import RealModule
import Transformers

/// Tells whether a text answers the question that a prompt asks about it, from the prompt's own pass through the model.
///
/// A logistic regression of the state of the prompt's last token after a layer, divided by its root mean square.
/// A checkpoint brings it along under the metadata keys `egress.answerability.layer`, `.weights` (hiddenSize numbers),
/// `.bias` and `.threshold`. A question that is less probably answered than the threshold is refused in
/// ``PromptStyle/refusal``'s words; any other is not. Without it the model's own first words decide.
public struct AnswerabilityClassifier: Sendable, Equatable {
  /// The layer, from 1, whose states it reads.
  public let layer: Int
  /// Below this probability, in 0...1, a question is refused.
  public let threshold: Double
  /// (hiddenSize)
  let weights: [Float]
  let bias: Double

  static let metadataKey = "egress.answerability"

  /// Puts a classifier together, from weights for states of as many numbers.
  public init(layer: Int, weights: [Float], bias: Double, threshold: Double) {
    self.layer = layer
    self.weights = weights
    self.bias = bias
    self.threshold = threshold
  }

  /// Reads what a GGUF file brings along; `nil` where it brings none.
  ///
  /// - Throws: ``GenerationError/modelFile(file:field:expected:found:)`` for a part that is missing, out of range or of
  ///   another size than the model.
  init?(_ checkpoint: Checkpoint) throws(GenerationError) {
    let metadata = checkpoint.metadata
    let parts = ["layer", "weights", "bias", "threshold"]
    guard parts.contains(where: { metadata["\(Self.metadataKey).\($0)"] != nil }) else { return nil }
    func refuse(_ part: String, expected: String, found: String? = nil) -> GenerationError {
      let field = "\(Self.metadataKey).\(part)"
      return .modelFile(
        file: checkpoint.path, field: field, expected: expected,
        found: found ?? (metadata[field] == nil ? "nothing" : "a value of another kind"))
    }
    let configuration = checkpoint.configuration
    let layers = 1...max(1, configuration.layerCount)
    guard configuration.encoder == nil else {
      throw refuse("layer", expected: "absent with an encoder-decoder", found: "a value")
    }
    guard let layer = metadata["\(Self.metadataKey).layer"]?.int else {
      throw refuse("layer", expected: "an integer in \(layers)")
    }
    guard layers.contains(layer) else {
      throw refuse("layer", expected: "an integer in \(layers)", found: "\(layer)")
    }
    let size = configuration.hiddenSize
    guard let weights = metadata["\(Self.metadataKey).weights"]?.floats else {
      throw refuse("weights", expected: "\(size) numbers, as states have")
    }
    guard weights.count == size else {
      throw refuse("weights", expected: "\(size) numbers, as states have", found: "\(weights.count)")
    }
    if let place = weights.firstIndex(where: { !$0.isFinite }) {
      throw refuse("weights", expected: "finite numbers", found: "\(weights[place]) at \(place)")
    }
    guard let bias = metadata["\(Self.metadataKey).bias"]?.double else {
      throw refuse("bias", expected: "a number")
    }
    guard bias.isFinite else { throw refuse("bias", expected: "a finite number", found: "\(bias)") }
    guard let threshold = metadata["\(Self.metadataKey).threshold"]?.double else {
      throw refuse("threshold", expected: "a number in 0...1")
    }
    guard (0...1).contains(threshold) else {
      throw refuse("threshold", expected: "a number in 0...1", found: "\(threshold)")
    }
    self.init(layer: layer, weights: weights, bias: bias, threshold: threshold)
  }

  /// - Throws: ``GenerationError/option(field:expected:found:)`` for a classifier of another model.
  func check(_ configuration: DecoderConfiguration) throws(GenerationError) {
    let (layers, size) = (1...max(1, configuration.layerCount), configuration.hiddenSize)
    guard layers.contains(layer), weights.count == size else {
      throw .option(
        field: "answerability", expected: "a classifier of \(size) weights that reads a layer in \(layers)",
        found: "one of \(weights.count) that reads layer \(layer)")
    }
  }

  /// How probable it is that the text answers the question, in 0...1.
  ///
  /// - Parameter state: The last token's state after ``layer``, (hiddenSize).
  /// - Complexity: O(hiddenSize)
  public func probability(of state: [Float]) -> Double {
    let normalized = state.rowsDividedByRootMeanSquare(size: state.count)
    let score = zip(weights, normalized).reduce(bias) { $0 + Double($1.0) * Double($1.1) }
    return 1 / (1 + Double.exp(-score))
  }
}

/// Where it is decided whether an output is a refusal: before its first token.
struct AnswerabilityRule {
  var classifier: AnswerabilityClassifier
  /// The tokens of a refusal, the one that ends it included. The first of them begins no answer: after it, a model that
  /// would rather refuse finds other words for that.
  var refusal: [TokenID]
}
