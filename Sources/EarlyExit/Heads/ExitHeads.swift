/// Exit heads and classifiers that were fitted on a frozen model.
public struct ExitHeads: Sendable {
  /// One layer's linear map from the hidden state to the final hidden state, both divided by their root mean square.
  public struct LayerMap: Sendable, Equatable {
    /// (hiddenSize in, hiddenSize out): the numbers of one input lie together.
    public let weights: [Float]
    public let hiddenSize: Int

    /// - Parameter weights: (hiddenSize, hiddenSize), row i being what input i adds to the outputs.
    public init(weights: [Float], hiddenSize: Int) throws(EarlyExitError) {
      guard hiddenSize > 0, weights.count == hiddenSize * hiddenSize else {
        throw .exitHeads(
          "a map of \(weights.count) numbers cannot be one of \(hiddenSize) by \(hiddenSize)")
      }
      self.weights = weights
      self.hiddenSize = hiddenSize
    }

    /// The final hidden state as predicted from that of the layer; both (hiddenSize). O(hiddenSize²).
    public func apply(_ state: [Float]) -> [Float] {
      let normalized = ExitHeads.normalized(state)
      return [Float](unsafeUninitializedCapacity: hiddenSize) { output, count in
        output.initialize(repeating: 0)
        weights.withUnsafeBufferPointer { weights in
          for input in 0..<min(hiddenSize, normalized.count) {
            let value = normalized[input]
            let row = UnsafeBufferPointer(rebasing: weights[input * hiddenSize..<(input + 1) * hiddenSize])
            for i in 0..<hiddenSize { output[i] += value * row[i] }
          }
        }
        count = hiddenSize
      }
    }
  }

  public var maps: [Int: LayerMap]
  public var classifiers: [Int: ClassifierConfidence.Weights]

  public init(maps: [Int: LayerMap] = [:], classifiers: [Int: ClassifierConfidence.Weights] = [:]) {
    self.maps = maps
    self.classifiers = classifiers
  }

  /// - Throws: ``EarlyExitError/exitHeads(_:)`` where a head does not fit a model of this shape.
  package func check(hiddenSize: Int, layerCount: Int) throws(EarlyExitError) {
    for layer in Set(maps.keys).union(classifiers.keys).sorted() {
      guard (1..<max(layerCount, 1)).contains(layer) else {
        throw .exitHeads("there is an exit head for layer \(layer), but the model has \(layerCount) layers")
      }
      let found = maps[layer]?.hiddenSize ?? classifiers[layer]?.weights.count ?? 0
      guard found == hiddenSize else {
        throw .exitHeads(
          "the exit head of layer \(layer) is for hidden states of \(found) numbers; the model's have \(hiddenSize)"
        )
      }
    }
  }

  /// 1 / sqrt(mean square), kept finite.
  static func inverseRootMeanSquare(_ sumOfSquares: Float, count: Int) -> Float {
    1 / max(sumOfSquares / Float(max(count, 1)), 1e-12).squareRoot()
  }

  /// A state divided by its root mean square.
  static func normalized(_ state: [Float]) -> [Float] {
    var square: Float = 0
    for value in state { square += value * value }
    let scale = inverseRootMeanSquare(square, count: state.count)
    return state.map { $0 * scale }
  }
}
