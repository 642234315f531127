import RealModule
import TensorKernels
import Transformers

/// Gradient steps on a linear map of hidden states: the distribution that it gives over some tokens comes nearer to the
/// one that the final hidden states give, by the Kullback-Leibler divergence.
///
/// The steps are Adam's (Kingma and Ba, ICLR 2015, algorithm 1), on random batches, in single precision.
package struct MapRefinement {
  private let size: Int
  private let tokenCount: Int
  /// (tokenCount, size): logits of a state whose root mean square is 1, the final norm's gains included.
  private let rows: [Float]
  /// (size, tokenCount)
  private let columns: [Float]
  /// (size in, size out)
  package private(set) var weights: [Float]
  private var mean: [Float]
  private var square: [Float]
  private var steps = 0

  private static let decay: (mean: Float, square: Float) = (0.9, 0.99)

  /// - Parameters:
  ///   - weights: (hiddenSize in, hiddenSize out), where the steps begin.
  ///   - tokens: The tokens that an exit chooses from.
  /// - Throws: ``DecoderError`` for weights of another size or tokens outside the vocabulary.
  package init(_ weights: [Float], tokens: [TokenID], decoder: any DecoderModel) throws(DecoderError) {
    let size = decoder.configuration.hiddenSize
    guard weights.count == size * size else {
      throw .rowCount(expected: size * size, found: weights.count)
    }
    // Logits of vectors of one number, whose root mean square is 1, are √size times a column.
    let unembedding = try decoder.makeUnembedding(of: tokens)
    let length = Float(size).squareRoot()
    var columns: [Float] = []
    var part: [Float] = []
    for start in stride(from: 0, to: size, by: 64) {
      let count = min(64, size - start)
      var units = [Float](repeating: 0, count: count * size)
      for row in 0..<count { units[row * size + start + row] = length }
      try decoder.product(unembedding, of: units, into: &part)
      columns += part.map { $0 / length }
    }
    self.size = size
    tokenCount = tokens.count
    self.columns = columns
    rows = Self.transposed(columns, rows: size, columns: tokens.count)
    self.weights = weights
    mean = Array(repeating: 0, count: weights.count)
    square = mean
  }

  /// The divergence of the map's distributions from those of the final states, in nats a state on average.
  ///
  /// - Parameters:
  ///   - inputs: (count, size), each with the root mean square 1.
  ///   - finals: The same of the final hidden states.
  package func divergence(inputs: [Float], finals: [Float]) -> Double {
    forward(inputs, finals).divergence
  }

  /// Takes one step.
  ///
  /// - Parameters: See ``divergence(inputs:finals:)``.
  /// - Parameter rate: The size of the step, roughly how far a weight moves.
  /// - Returns: The divergence before the step.
  @discardableResult
  package mutating func step(inputs: [Float], finals: [Float], rate: Float) -> Double {
    let count = inputs.count / size
    guard count > 0 else { return 0 }
    let pass = forward(inputs, finals)
    // Through the logits to the normalised states.
    var gradient = Self.product(pass.differences, columns, count: count, inner: tokenCount, outer: size)
    // Through the norm: d/dz (z / rms z).
    let scale = 1 / Float(count)
    for row in 0..<count {
      let range = row * size..<(row + 1) * size
      var product: Float = 0
      for i in range { product += gradient[i] * pass.normalized[i] }
      product /= Float(size)
      for i in range {
        gradient[i] = (gradient[i] - pass.normalized[i] * product) * pass.scales[row] * scale
      }
    }
    let slope = Self.product(
      Self.transposed(inputs, rows: count, columns: size),
      Self.transposed(gradient, rows: count, columns: size), count: size, inner: count, outer: size)
    adapt(slope, rate: rate)
    return pass.divergence
  }

  private mutating func adapt(_ slope: [Float], rate: Float) {
    steps += 1
    let (first, second) = Self.decay
    let rate =
      rate * (1 - Float.pow(second, Float(steps))).squareRoot() / (1 - Float.pow(first, Float(steps)))
    slope.withUnsafeBufferPointer { slope in
      mean.withUnsafeMutableBufferPointer { mean in
        square.withUnsafeMutableBufferPointer { square in
          weights.withUnsafeMutableBufferPointer { weights in
            for i in slope.indices {
              mean[i] = first * mean[i] + (1 - first) * slope[i]
              square[i] = second * square[i] + (1 - second) * slope[i] * slope[i]
              weights[i] -= rate * mean[i] / (square[i].squareRoot() + 1e-8)
            }
          }
        }
      }
    }
  }

  private struct Pass {
    /// (count, size), and by row what the mapped states were multiplied with.
    var normalized: [Float]
    var scales: [Float]
    /// (count, tokenCount): the map's probabilities less those of the final states.
    var differences: [Float]
    var divergence: Double
  }

  private func forward(_ inputs: [Float], _ finals: [Float]) -> Pass {
    let count = inputs.count / size
    let mapped = Self.product(
      inputs, Self.transposed(weights, rows: size, columns: size), count: count, inner: size, outer: size)
    let normalized = mapped.rowsDividedByRootMeanSquare(size: size)
    let scales = (0..<count).map { row in
      Float.inverseRootMeanSquare(
        mapped[row * size..<(row + 1) * size].reduce(0) { $0 + $1 * $1 }, count: size)
    }
    var own = Self.product(normalized, rows, count: count, inner: size, outer: tokenCount)
    let full = Self.product(finals, rows, count: count, inner: size, outer: tokenCount)
    var sum = 0.0
    own.withUnsafeMutableBufferPointer { own in
      full.withUnsafeBufferPointer { full in
        for start in stride(from: 0, to: count * tokenCount, by: max(tokenCount, 1)) {
          let range = start..<start + tokenCount
          let ownTotal = Float(Logits.logSumExp(UnsafeBufferPointer(rebasing: own[range])))
          let fullTotal = Float(Logits.logSumExp(UnsafeBufferPointer(rebasing: full[range])))
          for i in range {
            let (p, q) = (own[i] - ownTotal, full[i] - fullTotal)
            let probability = Float.exp(q)
            sum += Double(probability * (q - p))
            own[i] = Float.exp(p) - probability
          }
        }
      }
    }
    return Pass(
      normalized: normalized, scales: scales, differences: own, divergence: sum / Double(max(count, 1)))
  }

  /// x Wᵀ, (count, outer), of x (count, inner) and W (outer, inner).
  private static func product(_ x: [Float], _ w: [Float], count: Int, inner: Int, outer: Int) -> [Float] {
    guard count > 0, outer > 0 else { return [] }
    return [Float](unsafeUninitializedCapacity: count * outer) { output, filled in
      x.withUnsafeBufferPointer { x in
        guard let x = x.baseAddress, let y = output.baseAddress else { return }
        FloatProduct.multiply(w, rows: outer, columns: inner, by: x, count: count, into: y, stride: outer)
        filled = count * outer
      }
    }
  }

  private static func transposed(_ values: [Float], rows: Int, columns: Int) -> [Float] {
    values.withUnsafeBufferPointer { values in
      [Float](unsafeUninitializedCapacity: values.count) { output, filled in
        for row in 0..<rows {
          for column in 0..<columns { output[column * rows + row] = values[row * columns + column] }
        }
        filled = values.count
      }
    }
  }
}
