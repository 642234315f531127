import Checkpoints

/// A matrix beside a model's own, in the form that the model multiplies with: a map of hidden states that was fitted
/// for an exit, or some rows of the unembedding.
///
/// Made by a model, and used with that model only.
public struct SideMatrix: Sendable {
  /// What the hidden state becomes before the product.
  enum Input: Sendable {
    /// Divided by its root mean square.
    case normalized
    /// The final norm.
    case finalNorm
  }

  enum Storage: Sendable {
    case projection(Projection)
    /// (rows, columns), row-major.
    case floats([Float])
    /// Rows of the unembedding that are not kept apart.
    case tokens([TokenID])
  }

  /// Numbers in a product.
  public let rows: Int
  /// Bytes that one product reads.
  public let byteCount: Int
  /// Numbers that a row of its input has: one hidden state or several.
  let columns: Int
  let input: Input
  let storage: Storage
  private let identity = Identity()

  private final class Identity: Sendable {}

  /// Whether two are one matrix, so that rows of both may share a product.
  package func isSame(as other: SideMatrix) -> Bool { identity === other.identity }
}

extension DecoderModel {
  /// Keeps the map in single precision, for models that multiply by no kernels.
  public func makeMap(_ weights: [Float]) throws(DecoderError) -> SideMatrix {
    try checkMap(weights)
    let size = configuration.hiddenSize
    return SideMatrix(
      rows: size, byteCount: 4 * weights.count, columns: weights.count / size, input: .normalized,
      storage: .floats(weights))
  }

  /// Keeps the tokens' numbers: all logits are computed and these looked up.
  public func makeUnembedding(of tokens: [TokenID]) throws(DecoderError) -> SideMatrix {
    try check(tokens)
    return SideMatrix(
      rows: tokens.count, byteCount: bytesOfUnembedding, columns: configuration.hiddenSize,
      input: .finalNorm, storage: .tokens(tokens))
  }

  /// Refuses: only a transformer can have a layer beside it.
  public func makeSideLayer(path: String, tensors: [String: MappedTensor]) throws(DecoderError)
    -> any DecoderModel
  {
    throw .resources("a decoder that a layer can stand beside")
  }

  /// The plain product, in single precision.
  public func product(
    _ matrix: SideMatrix, of states: [Float], into output: inout [Float]
  ) throws(DecoderError) {
    let size = configuration.hiddenSize
    let columns = matrix.columns
    let count = try rowCount(states, size: columns)
    switch matrix.storage {
    case .floats(let weights):
      let normalized = states.rowsDividedByRootMeanSquare(size: size)
      output = weights.withUnsafeBufferPointer { weights in
        (0..<count * matrix.rows).map { index in
          let (row, number) = index.quotientAndRemainder(dividingBy: matrix.rows)
          return (0..<columns).reduce(Float(0)) {
            $0 + weights[number * columns + $1] * normalized[row * columns + $1]
          }
        }
      }
    case .tokens(let tokens):
      let batch = HiddenStates(hiddenSize: size, capacity: count)
      batch.count = count
      for row in 0..<count { batch[row] = Array(states[row * size..<(row + 1) * size]) }
      var all: [Float] = []
      try logits(of: batch, rows: 0..<count, into: &all)
      let vocabulary = configuration.vocabularySize
      output = (0..<count).flatMap { row in tokens.map { all[row * vocabulary + $0] } }
    case .projection:
      throw .resources("a matrix of this model; this one was made by another")
    }
  }

  func checkMap(_ weights: [Float]) throws(DecoderError) {
    let size = configuration.hiddenSize
    guard !weights.isEmpty, weights.count % (size * size) == 0 else {
      throw .rowCount(expected: size * size, found: weights.count)
    }
  }

  /// How many rows of `size` these numbers are.
  func rowCount(_ states: [Float], size: Int) throws(DecoderError) -> Int {
    guard states.count % size == 0 else { throw .rowCount(expected: size, found: states.count) }
    return states.count / size
  }

  func check(_ tokens: [TokenID]) throws(DecoderError) {
    let size = configuration.vocabularySize
    for token in tokens where !(0..<size).contains(token) {
      throw .tokenOutOfRange(token: token, vocabularySize: size)
    }
  }
}

extension [Float] {
  /// Hidden states of `size` numbers, each divided by its root mean square, which is kept above 1e-6.
  package func rowsDividedByRootMeanSquare(size: Int) -> [Float] {
    guard size > 0 else { return self }
    return [Float](unsafeUninitializedCapacity: count) { output, filled in
      withUnsafeBufferPointer { values in
        for start in stride(from: 0, to: count - size + 1, by: size) {
          var square: Float = 0
          for i in start..<start + size { square += values[i] * values[i] }
          let scale = Float.inverseRootMeanSquare(square, count: size)
          for i in start..<start + size { output[i] = values[i] * scale }
        }
      }
      filled = count / size * size
    }
  }

  /// What ``rowsDividedByRootMeanSquare(size:)`` divides each row by.
  package func rootMeanSquares(size: Int) -> [Float] {
    guard size > 0 else { return [] }
    return stride(from: 0, to: count - size + 1, by: size).map { start in
      1 / Float.inverseRootMeanSquare(self[start..<start + size].reduce(0) { $0 + $1 * $1 }, count: size)
    }
  }
}

extension Float {
  /// 1 / sqrt(mean square), kept finite.
  package static func inverseRootMeanSquare(_ sumOfSquares: Float, count: Int) -> Float {
    1 / Swift.max(sumOfSquares / Float(Swift.max(count, 1)), 1e-12).squareRoot()
  }
}
