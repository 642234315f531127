import CTensorKernels
import Foundation
import Synchronization

/// A matrix repacked for the kernels: weights stay quantised, 16 rows interleaved.
///
/// Quantised formats keep their bits, 2 to 8. Nothing of them is rounded: the scales of K formats and IQ4_XS stay
/// products of a byte and a number of half precision, and IQ4 and MXFP4 keep the levels that their 4 bits stand for.
/// Powers of two of MXFP4 become numbers of half precision: weights below 2^-24 are multiples of that, and where one is
/// over 2^15 the matrix takes 8 bits. The float formats are requantised to 8 bits with one scale per 32 weights: a
/// weight's error is at most 0.394 % of the largest magnitude of its 32 (half a step), which random weights reach;
/// blocks whose magnitudes all lie below 0.008 lose up to 4e-6 more, as their scales are subnormal. On demand they are
/// rounded to 4 bits instead, with a scale and a minimum.
package final class PackedMatrix: Sendable {
  /// Changes with what the bytes of a packed matrix mean: those that were kept are packed again then.
  package static let layoutVersion = 1

  /// A matrix that was packed before.
  package struct Stored: Sendable {
    nonisolated(unsafe) let start: UnsafeRawPointer
    let byteCount: Int
    /// What keeps the bytes where they are.
    let owner: any AnyObject & Sendable

    /// - Parameter bytes: At a multiple of 64; alive as long as `owner` is.
    package init?(_ bytes: UnsafeRawBufferPointer, owner: any AnyObject & Sendable) {
      guard let start = bytes.baseAddress, UInt(bitPattern: start) % 64 == 0 else { return nil }
      self.start = start
      byteCount = bytes.count
      self.owner = owner
    }
  }

  package let rows: Int
  package let columns: Int
  // Immutable after init; `owner` keeps the memory behind `matrix.data`.
  package nonisolated(unsafe) let matrix: ek_matrix
  private let owner: any AnyObject & Sendable

  /// Bytes that one pass over the matrix reads.
  package var byteCount: Int { Int(matrix.row_blocks) * matrix.row_block_bytes }
  package var rowBlocks: Int { Int(matrix.row_blocks) }
  /// Rows rounded up to whole row blocks: the length of a result.
  package var paddedRows: Int { Int(matrix.row_blocks) * 16 }

  /// - Parameters:
  ///   - isRoundedTo4Bits: Whether float formats become 4 bits with a scale and a minimum per 32 weights, which are
  ///     chosen for a small sum of squared errors. Other formats are kept as they are.
  ///   - source: `rows` rows of `columns` weights in `format`, exactly as many bytes as that takes.
  ///   - stored: The same matrix, packed before from the same source: it is taken as it is, and the source is not read.
  ///     One of another length is passed over.
  ///   - memory: where the packed weights go; matrices that are read one after the other share one.
  /// - Throws: ``KernelError/resources(_:)``, and ``KernelError/notFinite(_:)`` for weights that are no finite numbers.
  package init(
    rows: Int, columns: Int, format: BlockFormat, isRoundedTo4Bits: Bool = false,
    source: UnsafeRawBufferPointer, stored: Stored? = nil,
    memory: WeightMemory = WeightMemory(), pool: WorkerPool
  ) throws(KernelError) {
    self.rows = rows
    self.columns = columns
    let rowBlocks = (rows + 15) / 16
    let kBlocks = (columns + 31) / 32
    var layout = ek_matrix()
    layout.row_blocks = Int32(rowBlocks)
    layout.k_blocks = Int32(kBlocks)
    ek_choose_layout(
      &layout, format.rawValue, source.baseAddress?.assumingMemoryBound(to: UInt8.self),
      source.count / format.bytesPerBlock)
    if format.isUnquantized && isRoundedTo4Bits {
      layout.bits = 4
      layout.has_minimum = 1
    }
    let rowBlockBytes = ek_row_block_bytes(
      layout.k_blocks, layout.bits, layout.has_minimum, layout.factors)
    layout.row_block_bytes = rowBlockBytes
    let byteCount = rowBlocks * rowBlockBytes
    if let stored, stored.byteCount == byteCount {
      owner = stored.owner
      layout.data = stored.start.assumingMemoryBound(to: UInt8.self)
      matrix = layout
      return
    }
    guard let (memory, slab) = memory.allocate(byteCount) else {
      throw .resources("\(byteCount) bytes of memory")
    }
    owner = slab
    layout.data = UnsafePointer(memory.assumingMemoryBound(to: UInt8.self))
    self.matrix = layout

    let rowBytes = columns / format.blockLength * format.bytesPerBlock
    let target = UInt(bitPattern: memory)
    let origin = UInt(bitPattern: source.baseAddress)
    let blocksPerChunk = max(1, rowBlocks / (pool.threadCount * 8))
    let firstFault = Atomic(Int.max)
    pool.run(chunks: (rowBlocks + blocksPerChunk - 1) / blocksPerChunk) { chunk in
      for block in chunk * blocksPerChunk..<min((chunk + 1) * blocksPerChunk, rowBlocks) {
        guard let into = UnsafeMutablePointer<UInt8>(bitPattern: target + UInt(block * rowBlockBytes)),
          let from = UnsafePointer<UInt8>(bitPattern: origin + UInt(block * 16 * rowBytes))
        else { continue }
        let sixteen = UnsafeRawBufferPointer(start: from, count: min(16, rows - block * 16) * rowBytes)
        if let fault = format.firstNonFinite(in: sixteen) {
          firstFault.min(block * 16 * columns + fault, ordering: .relaxed)
          return
        }
        // A whole row block is overwritten; the rows that a last one lacks must be zero.
        if rows - block * 16 < 16 { into.update(repeating: 0, count: rowBlockBytes) }
        Self.pack(
          into, layout: matrix, columns: columns, format: format, from: from, rowBytes: rowBytes,
          rows: min(16, rows - block * 16))
      }
    }
    let fault = firstFault.load(ordering: .relaxed)
    guard fault == .max else { throw .notFinite(fault) }
  }

  private static func pack(
    _ into: UnsafeMutablePointer<UInt8>, layout: ek_matrix, columns: Int, format: BlockFormat,
    from: UnsafePointer<UInt8>, rowBytes: Int, rows: Int
  ) {
    withUnsafePointer(to: layout) { layout in
      if ek_pack_rows(layout, into, format.rawValue, from, rowBytes, Int32(rows)) { return }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { values in
        for row in 0..<rows {
          let stored = UnsafeRawBufferPointer(start: from + row * rowBytes, count: rowBytes)
          _ = format.dequantize(stored, into: values)
          (layout.pointee.bits == 4 ? ek_pack_floats_in_4_bits : ek_pack_floats)(
            layout, into, Int32(row), values.baseAddress, columns)
        }
      }
    }
  }
}
