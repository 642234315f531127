import CTensorKernels
import Foundation
import TensorKernels

/// Reductions over a row of logits, vectorised: over a large vocabulary a plain loop costs a few per cent of a token.
public enum Logits {
  // Constant data of the C target.
  private nonisolated(unsafe) static let kernels = InstructionSet.fastest.kernels

  /// The index of the largest logit; of equal ones the first. Not-a-numbers are passed over; 0 if there is nothing
  /// else.
  public static func argmax(_ logits: UnsafeBufferPointer<Float>) -> Int {
    guard let start = logits.baseAddress else { return 0 }
    var index = 0
    _ = kernels.pointee.maximum(start, logits.count, &index)
    return index
  }

  /// ln Σ exp(logit), to a relative error of about 1e-6 in the sum.
  public static func logSumExp(_ logits: UnsafeBufferPointer<Float>) -> Double {
    guard let start = logits.baseAddress else { return -.infinity }
    var index = 0
    let largest = kernels.pointee.maximum(start, logits.count, &index)
    return Double(largest) + log(Double(kernels.pointee.sum_exp(start, logits.count, largest)))
  }
}
