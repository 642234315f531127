import FileFormats
import TensorKernels

/// A named tensor whose bytes stay in the mapped file. With an adapter, they are computed whenever they are read.
///
/// It keeps the file mapped for as long as it lives. Shape, format and byte count agree with each other and lie
/// within the file: that was checked when the checkpoint was opened.
public struct MappedTensor: Sendable {
  /// The name by GGUF's convention, whatever the file calls it.
  public let name: String
  /// Outermost dimension first: (rows, columns) for a matrix. Columns are consecutive in memory.
  public let shape: [Int]
  /// How the bytes encode numbers.
  public let format: BlockFormat
  /// Bytes in the file: rows × blocks of a row × bytes of a block.
  public let byteCount: Int

  let file: MappedFile
  let offset: Int
  /// What the numbers are computed from; `nil` for those of the file.
  private(set) var merged: MergedMatrix?

  init(
    name: String, shape: [Int], format: BlockFormat, byteCount: Int, file: MappedFile, offset: Int
  ) {
    self.name = name
    self.shape = shape
    self.format = format
    self.byteCount = byteCount
    self.file = file
    self.offset = offset
  }

  /// A matrix with an adapter's update, as F32. It is in the place of the one that it is based on, and its errors are
  /// the adapter's.
  init(_ merged: MergedMatrix) {
    self.init(
      name: merged.base.name, shape: merged.base.shape, format: .f32,
      byteCount: merged.base.elementCount * MemoryLayout<Float>.size, file: merged.outer.file, offset: 0)
    self.merged = merged
  }

  /// The same tensor under another name.
  func renamed(_ name: String) -> MappedTensor {
    MappedTensor(
      name: name, shape: shape, format: format, byteCount: byteCount, file: file, offset: offset)
  }

  /// Path of the file that the tensor is in.
  public var path: String { file.path }

  /// Number of weights: the product of the shape.
  public var elementCount: Int { shape.reduce(1, *) }

  /// Calls `body` with the stored bytes, row after row. They may begin at any address, aligned or not.
  public func withUnsafeBytes<Result, Failure: Error>(
    _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if let merged {
      return try merged.makeFloats().withUnsafeBufferPointer { values throws(Failure) in
        try body(UnsafeRawBufferPointer(values))
      }
    }
    defer { withExtendedLifetime(file) {} }
    return try body(UnsafeRawBufferPointer(rebasing: file.bytes[offset..<offset + byteCount]))
  }

  /// Lets the system drop the tensor's pages from memory; a later access reads them from the file again.
  ///
  /// Worth calling once the weights have been repacked into a form of their own.
  public func releasePages() {
    if let merged { return merged.base.releasePages() }
    file.releasePages(offset..<offset + byteCount)
  }

  /// The weights as floats, row after row: `elementCount` numbers.
  public func makeFloats() -> [Float] {
    if let merged { return merged.makeFloats() }
    return Array(unsafeUninitializedCapacity: elementCount) { output, count in
      count = withUnsafeBytes { format.dequantize($0, into: output) }
    }
  }

  /// Some rows of the weights as floats, or some numbers of a vector; those that there are.
  public func makeFloats(rows: Range<Int>) -> [Float] {
    let count = shape.first ?? 0
    let rows = rows.clamped(to: 0..<count)
    guard !rows.isEmpty else { return [] }
    let width = elementCount / count
    if merged != nil { return Array(makeFloats()[rows.lowerBound * width..<rows.upperBound * width]) }
    let stride = byteCount / count
    return Array(unsafeUninitializedCapacity: rows.count * width) { output, filled in
      filled = withUnsafeBytes {
        format.dequantize(
          UnsafeRawBufferPointer(rebasing: $0[rows.lowerBound * stride..<rows.upperBound * stride]),
          into: output)
      }
    }
  }
}
