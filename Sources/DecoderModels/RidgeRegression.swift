#if canImport(Accelerate)
  import Accelerate
#else
  import COpenBLAS
#endif

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
    let (n, p, q) = (Int32(count), Int32(inputCount), Int32(outputCount))
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, p, n, 1, inputs, p, 1, &gram, p)
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, p, q, n, 1, inputs, p, outputs, q, 1, &cross, q)
  }

  /// The coefficients, (inputCount, outputCount) row-major, that minimise ‖Y − X C‖² + penalty · ‖C‖², where the penalty
  /// is `ridge` times the mean of the diagonal of XᵀX.
  ///
  /// - Throws: ``DecoderError/resources(_:)`` when the system has no solution: too few rows for no penalty.
  package func solve(ridge: Double) throws(DecoderError) -> [Double] {
    var factor = gram
    let trace = (0..<inputCount).reduce(0.0) { $0 + gram[$1 * inputCount + $1] }
    for i in 0..<inputCount { factor[i * inputCount + i] += ridge * trace / Double(max(inputCount, 1)) }
    // LAPACK's matrices are column-major: our upper triangle is its lower one.
    var solution = Self.transposed(cross, rows: inputCount, columns: outputCount)
    var uplo = CChar(UInt8(ascii: "L"))
    var size = Int32(inputCount)
    var sides = Int32(outputCount)
    var status: Int32 = 0
    var leading = size
    dpotrf_(&uplo, &size, &factor, &leading, &status)
    guard status == 0 else { throw .resources("enough independent rows for a regression") }
    var solutionLeading = size
    dpotrs_(&uplo, &size, &sides, &factor, &leading, &solution, &solutionLeading, &status)
    guard status == 0 else { throw .resources("enough independent rows for a regression") }
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
