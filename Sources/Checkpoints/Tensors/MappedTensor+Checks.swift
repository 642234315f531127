import FileFormats
import TensorKernels

extension BlockFormat {
  /// Bytes of a tensor whose innermost dimension comes last; nil when that is not a whole number of blocks, when
  /// a dimension is negative, or when the size overflows.
  func byteCount(ofShape shape: [Int]) -> Int? {
    guard (shape.last ?? 1) % blockLength == 0 else { return nil }
    var elements = 1
    for dimension in shape {
      let (product, overflow) = elements.multipliedReportingOverflow(by: dimension)
      guard dimension >= 0, !overflow else { return nil }
      elements = product
    }
    let (bytes, overflow) = (elements / blockLength).multipliedReportingOverflow(by: bytesPerBlock)
    return overflow ? nil : bytes
  }
}

extension MappedTensor {
  /// Refuses tensors of one file that share bytes: no writer makes them, and one would silently read the other.
  static func checkOverlap(
    of tensors: some Collection<MappedTensor>, in file: MappedFile
  ) throws(CheckpointError) {
    let sorted = tensors.filter { $0.byteCount > 0 }.sorted { $0.offset < $1.offset }
    for (first, second) in zip(sorted, sorted.dropFirst())
    where first.offset + first.byteCount > second.offset {
      throw .damaged(
        file.path, "tensor \(CheckpointError.printable(second.name))", expected: "bytes of its own",
        found: "bytes shared with tensor \(CheckpointError.printable(first.name))")
    }
  }

  /// The shape as text, such as `49152 × 576`.
  static func describe(_ shape: [Int]) -> String {
    shape.isEmpty ? "a single number" : shape.map(String.init).joined(separator: " × ")
  }
}
