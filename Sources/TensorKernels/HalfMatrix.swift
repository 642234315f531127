import CTensorKernels
import Foundation
import Synchronization

/// A matrix of 16-bit floats for products in single precision, 16 rows interleaved.
///
/// Weights in half precision stay in it; bfloat16 stays too, and is what all other formats are rounded to.
package final class HalfMatrix: Sendable {
  package let rows: Int
  package let columns: Int
  // Immutable after init; `slab` keeps the memory behind `matrix.data`.
  package nonisolated(unsafe) let matrix: ek_half_matrix
  private let slab: WeightMemory.Slab

  /// Bytes that one pass over the matrix reads.
  package var byteCount: Int { rowBlocks * columns * 32 }
  package var rowBlocks: Int { (rows + 15) / 16 }

  /// - Parameters:
  ///   - source: `rows` rows of `columns` weights in `format`, exactly as many bytes as that takes.
  ///   - memory: Where the weights go; matrices that are read one after the other share one.
  /// - Throws: ``KernelError/resources(_:)``, and ``KernelError/notFinite(_:)`` for weights that are no finite numbers.
  package init(
    rows: Int, columns: Int, format: BlockFormat, source: UnsafeRawBufferPointer,
    memory: WeightMemory = WeightMemory(), pool: WorkerPool
  ) throws(KernelError) {
    self.rows = rows
    self.columns = columns
    let byteCount = (rows + 15) / 16 * columns * 32
    guard let (memory, slab) = memory.allocate(byteCount) else {
      throw .resources("\(byteCount) bytes of memory")
    }
    self.slab = slab
    let isBFloat16 = format != .f16
    matrix = ek_half_matrix(
      data: UnsafePointer(memory.assumingMemoryBound(to: UInt16.self)), rows: Int32(rows),
      columns: Int32(columns), is_bfloat16: isBFloat16)
    let rowBytes = columns / format.blockLength * format.bytesPerBlock
    let target = UInt(bitPattern: memory)
    let origin = UInt(bitPattern: source.baseAddress)
    let firstFault = Atomic(Int.max)
    pool.run(chunks: (rows + 15) / 16) { block in
      guard let into = UnsafeMutablePointer<UInt16>(bitPattern: target + UInt(block * columns * 32)),
        let from = UnsafeRawPointer(bitPattern: origin + UInt(block * 16 * rowBytes))
      else { return }
      let sixteen = UnsafeRawBufferPointer(start: from, count: min(16, rows - block * 16) * rowBytes)
      if let fault = format.firstNonFinite(in: sixteen) {
        firstFault.min(block * 16 * columns + fault, ordering: .relaxed)
        return
      }
      if rows - block * 16 < 16 { into.update(repeating: 0, count: columns * 16) }
      withUnsafeTemporaryAllocation(of: Float.self, capacity: columns) { values in
        for lane in 0..<min(16, rows - block * 16) {
          let stored = UnsafeRawBufferPointer(start: from + lane * rowBytes, count: rowBytes)
          _ = format.dequantize(stored, into: values)
          for column in 0..<columns {
            into[16 * column + lane] =
              isBFloat16 ? Self.bfloat16(values[column]) : ek_float_to_half(values[column])
          }
        }
      }
    }
    let fault = firstFault.load(ordering: .relaxed)
    guard fault == .max else { throw .notFinite(fault) }
  }

  /// The nearest number of bfloat16, of two equally near the even one; what would be infinite is the largest there is.
  static func bfloat16(_ value: Float) -> UInt16 {
    let bits = value.bitPattern
    let rounded = UInt16(truncatingIfNeeded: (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    return rounded & 0x7FFF == 0x7F80 ? rounded - 1 : rounded
  }

  /// y = x Wᵀ, shared out among the threads of a pool.
  ///
  /// - Parameters:
  ///   - x: (count, columns), row-major.
  ///   - y: `count` rows of `rows` numbers, `stride` apart. A row does not depend on how many there are.
  package func multiply(
    _ x: UnsafePointer<Float>, count: Int, into y: UnsafeMutablePointer<Float>, stride: Int,
    instructionSet: InstructionSet, pool: WorkerPool
  ) {
    // As many bytes a piece as in products of quantised weights.
    let bytes = min(max(byteCount / (pool.threadCount * 4), 24 << 10), 256 << 10)
    let step = max(bytes / max(columns * 32, 1) / 2, 1) * 2
    let kernels = instructionSet.kernels.pointee
    pool.run(chunks: (rowBlocks + step - 1) / step) { piece in
      withUnsafePointer(to: matrix) { matrix in
        kernels.half_matmul(
          matrix, Int32(piece * step), Int32(min((piece + 1) * step, rowBlocks)), x, columns, Int32(count), y,
          stride)
      }
    }
  }
}
