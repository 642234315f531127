#if canImport(Accelerate)
  import Accelerate
#else
  import COpenBLAS
#endif

/// The double-precision products and the Cholesky solution that least squares needs, by the system's BLAS and LAPACK.
package enum NormalEquations {
  /// gram += XᵀX, upper triangle of (columns, columns); X is (count, columns), row-major.
  package static func addGram(_ gram: inout [Double], x: [Double], count: Int, columns: Int) {
    let p = Int32(columns)
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, p, Int32(count), 1, x, p, 1, &gram, p)
  }

  /// cross += XᵀY, (columns, outputs); X is (count, columns) and Y (count, outputs), row-major.
  package static func addCross(
    _ cross: inout [Double], x: [Double], y: [Double], count: Int, columns: Int, outputs: Int
  ) {
    let (p, q) = (Int32(columns), Int32(outputs))
    cblas_dgemm(
      CblasRowMajor, CblasTrans, CblasNoTrans, p, q, Int32(count), 1, x, p, y, q, 1, &cross, q)
  }

  /// Solves A C = B for a symmetric positive definite A, given by its upper triangle, row-major.
  ///
  /// - Parameters:
  ///   - a: (size, size), overwritten by its factor.
  ///   - b: (size, sides) column-major, overwritten by C.
  /// - Returns: `false` when A is not positive definite.
  package static func solve(_ a: inout [Double], _ b: inout [Double], size: Int, sides: Int) -> Bool {
    // LAPACK's matrices are column-major: our upper triangle is its lower one.
    var uplo = CChar(UInt8(ascii: "L"))
    var order = Int32(size)
    var leading = order
    var rightSides = Int32(sides)
    var rightLeading = order
    var status: Int32 = 0
    dpotrf_(&uplo, &order, &a, &leading, &status)
    guard status == 0 else { return false }
    dpotrs_(&uplo, &order, &rightSides, &a, &leading, &b, &rightLeading, &status)
    return status == 0
  }
}
