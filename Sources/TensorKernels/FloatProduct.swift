#if canImport(Accelerate)
  import Accelerate
#else
  import COpenBLAS
#endif

/// Products in single precision by the system's BLAS: the reference path's.
package enum FloatProduct {
  /// y = x Wᵀ.
  ///
  /// - Parameters:
  ///   - weights: (rows, columns), row-major.
  ///   - x: (count, columns), row-major.
  ///   - y: `count` rows of `rows` numbers, `stride` apart.
  package static func multiply(
    _ weights: [Float], rows: Int, columns: Int, by x: UnsafePointer<Float>, count: Int,
    into y: UnsafeMutablePointer<Float>, stride: Int
  ) {
    cblas_sgemm(
      CblasRowMajor, CblasNoTrans, CblasTrans, Int32(count), Int32(rows), Int32(columns), 1, x,
      Int32(columns),
      weights, Int32(columns), 0, y, Int32(stride))
  }
}
