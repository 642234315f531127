import CTensorKernels
import RealModule
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

  /// ln Σ exp(logit), to a relative error of about 1e-6 in the sum: in pieces whose sums are added in double precision,
  /// because the flat tail of a vocabulary of 262,144 adds up 1e-4 of rounding in single precision.
  public static func logSumExp(_ logits: UnsafeBufferPointer<Float>) -> Double {
    guard let start = logits.baseAddress else { return -.infinity }
    var index = 0
    let largest = kernels.pointee.maximum(start, logits.count, &index)
    let piece = 4096
    var sum = 0.0
    for first in stride(from: 0, to: logits.count, by: piece) {
      sum += Double(kernels.pointee.sum_exp(start + first, min(piece, logits.count - first), largest))
    }
    return Double(largest) + Double.log(sum)
  }
}
