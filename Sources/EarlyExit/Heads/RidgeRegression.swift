import TensorKernels
import Transformers

/// Linear least squares with a penalty on the squares of the coefficients, from rows that arrive in batches.
///
/// Only XᵀX and XᵀY are kept, in double precision.
package struct RidgeRegression {
  package let inputCount: Int
  package let outputCount: Int
  /// (inputCount, inputCount), the upper triangle.
  private var gram: [Double]
  /// (inputCount, outputCount)
  private var cross: [Double]

  package init(inputCount: Int, outputCount: Int) {
    self.inputCount = inputCount
    self.outputCount = outputCount
    gram = Array(repeating: 0, count: inputCount * inputCount)
    cross = Array(repeating: 0, count: inputCount * outputCount)
  }

  /// Adds rows: inputs (count, inputCount) and outputs (count, outputCount), row-major. O(count · inputCount ·
  /// (inputCount + outputCount)).
  ///
  /// - Throws: ``DecoderError/rowCount(expected:found:)`` for arrays of another size.
  package mutating func add(inputs: [Double], outputs: [Double], count: Int) throws(DecoderError) {
    guard inputs.count == count * inputCount, outputs.count == count * outputCount else {
      throw .rowCount(expected: count * (inputCount + outputCount), found: inputs.count + outputs.count)
    }
    guard count > 0 else { return }
    NormalEquations.addGram(&gram, x: inputs, count: count, columns: inputCount)
    NormalEquations.addCross(
      &cross, x: inputs, y: outputs, count: count, columns: inputCount, outputs: outputCount)
  }

  /// The coefficients, (inputCount, outputCount) row-major, that minimise ‖Y − X C‖² + penalty · ‖C‖², where the
  /// penalty is `ridge` times the mean of the diagonal of XᵀX.
  ///
  /// - Throws: ``DecoderError/resources(_:)`` when the system has no solution: too few rows for no penalty.
  package func solve(ridge: Double) throws(DecoderError) -> [Double] {
    var factor = gram
    let trace = (0..<inputCount).reduce(0.0) { $0 + gram[$1 * inputCount + $1] }
    for i in 0..<inputCount { factor[i * inputCount + i] += ridge * trace / Double(max(inputCount, 1)) }
    var solution = Self.transposed(cross, rows: inputCount, columns: outputCount)
    guard NormalEquations.solve(&factor, &solution, size: inputCount, sides: outputCount) else {
      throw .resources("enough independent rows for a regression")
    }
    return Self.transposed(solution, rows: outputCount, columns: inputCount)
  }

  private static func transposed(_ values: [Double], rows: Int, columns: Int) -> [Double] {
    var result = [Double](repeating: 0, count: values.count)
    for row in 0..<rows {
      for column in 0..<columns { result[column * rows + row] = values[row * columns + column] }
    }
    return result
  }
}
