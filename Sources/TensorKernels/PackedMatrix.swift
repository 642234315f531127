import CTensorKernels
import Foundation
import Synchronization

/// A matrix repacked for the kernels: weights stay quantised, 16 rows interleaved.
///
/// Formats of 16 even steps keep 4 bits with a scale and a minimum per 32 weights, those of 32 keep 5. Q6_K and Q3_K
/// keep 6 with a scale for each 16, a byte times the block's own. IQ4_NL, MXFP4 and Q8_0 have 8 bits with a scale per
/// 32. Of all these only scales and minimums of Q4_K and Q5_K, and scales of IQ4_XS, are rounded: to half precision,
/// by a relative error of at most 2^-11 each; and powers of two of MXFP4 that are not normal there. Q2_K and the float
/// formats are requantised to 8 bits with one scale per 32 weights: a weight's error is at most 0.394 % of the largest
/// magnitude of its 32 (half a step), which random weights reach; blocks whose magnitudes all lie below 0.008 lose up
/// to 4e-6 more, as their scales are subnormal. On demand the float formats are rounded to 4 bits instead.
package final class PackedMatrix: Sendable {
  package let rows: Int
  package let columns: Int
  // Immutable after init; `slab` keeps the memory behind `matrix.data`.
  package nonisolated(unsafe) let matrix: ek_matrix
  private let slab: WeightMemory.Slab

  /// Bytes that one pass over the matrix reads.
  package var byteCount: Int { Int(matrix.row_blocks) * matrix.row_block_bytes }
  package var rowBlocks: Int { Int(matrix.row_blocks) }
  /// Rows rounded up to whole row blocks: the length of a result.
  package var paddedRows: Int { Int(matrix.row_blocks) * 16 }

  /// - Parameters:
  ///   - isRoundedTo4Bits: Whether float formats become 4 bits with a scale and a minimum per 32 weights, which are
  ///     chosen for a small sum of squared errors. Other formats are kept as they are.
  ///   - source: `rows` rows of `columns` weights in `format`, exactly as many bytes as that takes.
  ///   - memory: where the packed weights go; matrices that are read one after the other share one.
  /// - Throws: ``KernelError/resources(_:)``, and ``KernelError/notFinite(_:)`` for weights that are no finite numbers.
  package init(
    rows: Int, columns: Int, format: BlockFormat, isRoundedTo4Bits: Bool = false,
    source: UnsafeRawBufferPointer,
    memory: WeightMemory = WeightMemory(), pool: WorkerPool
  ) throws(KernelError) {
    self.rows = rows
    self.columns = columns
    let layout =
      format.isUnquantized && isRoundedTo4Bits ? (bits: 4, hasMinimum: true) : Self.layout(of: format)
    let rowBlocks = (rows + 15) / 16
    let kBlocks = (columns + 31) / 32
    let rowBlockBytes = ek_row_block_bytes(Int32(kBlocks), layout.bits, layout.hasMinimum ? 1 : 0)
    let byteCount = rowBlocks * rowBlockBytes
    guard let (memory, slab) = memory.allocate(byteCount) else {
      throw .resources("\(byteCount) bytes of memory")
    }
    self.slab = slab
    self.matrix = ek_matrix(
      data: memory.assumingMemoryBound(to: UInt8.self), row_blocks: Int32(rowBlocks),
      k_blocks: Int32(kBlocks),
      bits: layout.bits, has_minimum: layout.hasMinimum ? 1 : 0, row_block_bytes: rowBlockBytes)

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
          into, kBlocks: kBlocks, columns: columns, format: format, bits: layout.bits, from: from,
          rowBytes: rowBytes,
          rows: min(16, rows - block * 16))
      }
    }
    let fault = firstFault.load(ordering: .relaxed)
    guard fault == .max else { throw .notFinite(fault) }
  }

  /// Bits per weight in memory, and whether blocks have a minimum beside their scale.
  private static func layout(of format: BlockFormat) -> (bits: Int32, hasMinimum: Bool) {
    switch format {
    case .q4_0, .q4_1, .q4_K: (4, true)
    case .q5_0: (5, false)
    case .q5_1, .q5_K: (5, true)
    case .q3_K, .q6_K: (6, false)
    case .q8_0, .q2_K, .iq4_NL, .iq4_XS, .mxfp4, .f32, .f16, .bf16: (8, false)
    }
  }

  private static func pack(
    _ into: UnsafeMutablePointer<UInt8>, kBlocks: Int, columns: Int, format: BlockFormat, bits: Int32,
    from: UnsafePointer<UInt8>, rowBytes: Int, rows: Int
  ) {
    if ek_pack_rows(into, Int32(kBlocks), format.rawValue, from, rowBytes, Int32(rows)) { return }
    withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { values in
      for row in 0..<rows {
        let stored = UnsafeRawBufferPointer(start: from + row * rowBytes, count: rowBytes)
        _ = format.dequantize(stored, into: values)
        (bits == 4 ? ek_pack_floats_in_4_bits : ek_pack_floats)(
          into, Int32(kBlocks), Int32(row), values.baseAddress, columns)
      }
    }
  }
}
