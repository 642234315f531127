import CTensorKernels
import Foundation
import TensorKernels
import TestSupport
import Testing

@Suite("Packing")
struct PackingTests {
  /// Largest |packed − decoded| / largest |decoded| of its block of 32, over random blocks.
  private func largestError(_ format: BlockFormat, rows: Int, columns: Int, scale: Float) throws -> Double {
    let pool = try WorkerPool(threads: 3)
    var worst = 0.0
    for seed in 1...3 as ClosedRange<UInt64> {
      let (matrix, weights) = try PackedMatrix.random(
        rows: rows, columns: columns, format: format, seed: seed, scale: scale, pool: pool)
      for row in 0..<rows {
        for start in stride(from: 0, to: columns, by: 32) {
          let block = start..<min(start + 32, columns)
          let peak = block.map { abs(Double(weights[row * columns + $0])) }.max() ?? 0
          for column in block {
            let part = matrix.parts(row, column)
            let packed = Double(part.scale) * Double(part.quant) + Double(part.minimum)
            worst = max(worst, abs(packed - Double(weights[row * columns + column])) / max(peak, 1e-30))
          }
        }
      }
      // Padding is zero, so rows and columns past the end add nothing.
      for row in 0..<matrix.paddedRows {
        for column in row < rows ? columns..<(columns + 31) / 32 * 32 : 0..<columns {
          let part = matrix.parts(row, column)
          #expect(Float(part.quant) * part.scale + part.minimum == 0)
        }
      }
    }
    return worst
  }

  @Test(
    "of every quantised format keeps every number",
    arguments: BlockFormat.allCases.filter { !$0.isUnquantized }, [Float(0.3), 3e-4, 100])
  func losslessFormats(_ format: BlockFormat, _ scale: Float) throws {
    // What remains is the rounding of the reference's own last addition.
    let error = try largestError(
      format, rows: 37, columns: format.blockLength == 256 ? 512 : 320, scale: scale)
    #expect(error <= 0x1p-23)
  }

  @Test("of MXFP4 takes 4 bits where half precision holds all powers of two, and 8 where not")
  func powersOfTwo() throws {
    let pool = try WorkerPool(threads: 1)
    // Exponents of three blocks; the numbers are 0, 0.5, … 6, −0, … −6, the last two exact in half precision to 2^15.
    for (exponents, bits) in [([127, 143, 110], 4), ([127, 144, 110], 8), ([146, 0, 120], 8)]
      as [([UInt8], Int32)]
    {
      let numbers = (0..<16).map { UInt8($0 << 4 | (15 - $0)) }
      let bytes = exponents.flatMap { [$0] + numbers }
      let matrix = try bytes.withUnsafeBytes {
        try PackedMatrix(rows: 1, columns: 96, format: .mxfp4, source: $0, pool: pool)
      }
      #expect(matrix.matrix.bits == bits)
      var weights = [Float](repeating: 0, count: 96)
      bytes.withUnsafeBytes { bytes in
        _ = weights.withUnsafeMutableBufferPointer { BlockFormat.mxfp4.dequantize(bytes, into: $0) }
      }
      for column in 0..<96 {
        let part = matrix.parts(0, column)
        let packed = part.scale * Float(part.quant)
        // 2^-127 times anything is nothing in half precision.
        #expect(packed == (exponents[column / 32] == 0 ? 0 : weights[column]))
      }
    }
  }

  @Test(
    "of numbers that are not finite is refused, with the place of the first", arguments: BlockFormat.allCases)
  func notFinite(_ format: BlockFormat) throws {
    let (rows, columns) = (37, 512)
    let pool = try WorkerPool(threads: 2)
    var random = SplitMix64(seed: 3)
    let sound = format.randomBlocks(count: rows * columns, scale: 0.3, using: &random)
    #expect(sound.withUnsafeBytes { format.firstNonFinite(in: $0) } == nil)
    let blocksPerRow = columns / format.blockLength
    for (row, block) in [(36, 0), (20, blocksPerRow - 1), (0, 0)] {
      var bytes = sound
      let index = row * blocksPerRow + block
      let at = index * format.bytesPerBlock
      switch format {
      case .f32: bytes.replaceSubrange(at..<at + 4, with: [0, 0, 0xC0, 0x7F])
      case .bf16: bytes.replaceSubrange(at..<at + 2, with: [0x80, 0xFF])
      case .mxfp4: bytes[at] = 255
      default:
        let scale =
          switch format {
          case .q2_K: 80
          case .q3_K: 108
          case .q6_K: 208
          default: 0
          }
        bytes.replaceSubrange(at + scale..<at + scale + 2, with: [0, 0x7C])
      }
      #expect(throws: KernelError.notFinite(index * format.blockLength)) {
        try bytes.withUnsafeBytes {
          _ = try PackedMatrix(rows: rows, columns: columns, format: format, source: $0, pool: pool)
        }
      }
      // What the check calls not finite decodes to numbers that are not, and all else to finite ones.
      var floats = [Float](repeating: 0, count: rows * columns)
      bytes.withUnsafeBytes { bytes in
        _ = floats.withUnsafeMutableBufferPointer { format.dequantize(bytes, into: $0) }
      }
      let found = floats.firstIndex { !$0.isFinite } ?? -1
      #expect(found / format.blockLength == index)
    }
  }

  @Test(
    "of floats errs by at most half a step of 8 bits", arguments: [BlockFormat.f32, .f16, .bf16])
  func requantisedFormats(_ format: BlockFormat) throws {
    let error = try largestError(format, rows: 37, columns: 301, scale: 0.3)
    // Half a step of the rounded scale: 0.5 · (1 + 2^-11) / 127. That much is reached, and no more.
    #expect(error <= 0.5 / 127 * (1 + 0x1p-10))
    #expect(error >= 0.4 / 127)
  }

  /// Bytes of 16 rows of 256 weights, to be compared with what the formats take in a file.
  @Test(
    "takes the bytes of a format's own width",
    arguments: zip(
      [
        BlockFormat.q2_K, .q4_0, .q4_1, .q4_K, .iq4_NL, .iq4_XS, .mxfp4, .q5_0, .q5_1, .q5_K, .q3_K, .q6_K,
        .q8_0,
        .f16,
      ],
      [1600, 2304, 2560, 2368, 2304, 2208, 2304, 2816, 3072, 2880, 1824, 3360, 4352, 4352]))
  func byteCounts(_ format: BlockFormat, _ bytes: Int) throws {
    let pool = try WorkerPool(threads: 1)
    // Row blocks fill whole lines of 64 bytes, and the last is as large as the others.
    for (rows, columns) in [(16, 512), (33, 512), (17, 256)] {
      let matrix = try PackedMatrix.random(rows: rows, columns: columns, format: format, seed: 1, pool: pool)
        .packed
      let rowBlock = (bytes * columns / 256 + 63) / 64 * 64
      #expect(matrix.byteCount == (rows + 15) / 16 * rowBlock)
    }
  }

  @Test("does not depend on the number of threads", arguments: [BlockFormat.q4_0, .q5_1, .f32])
  func threadsPackAlike(_ format: BlockFormat) throws {
    // With 128 columns a row block fills whole lines of 64 bytes: padding is not written and need not be equal.
    let bytes = try (1...3).map { threads in
      let matrix = try PackedMatrix.random(
        rows: 500, columns: 128, format: format, seed: 7, pool: WorkerPool(threads: threads)
      ).packed
      return withExtendedLifetime(matrix) { Data(bytes: $0.matrix.data, count: $0.byteCount) }
    }
    #expect(bytes[0] == bytes[1] && bytes[0] == bytes[2])
  }

  @Test("of extreme floats stays finite")
  func extremeFloats() throws {
    let pool = try WorkerPool(threads: 1)
    let rows: [[Float]] = [
      [.greatestFiniteMagnitude, 1, -3], [0x1p-140, -0x1p-140, 0], [.leastNonzeroMagnitude, 0, 0],
      [-0.0, 0, 0],
      [9e6, -9e6, 1],
    ]
    let matrix = try rows.flatMap { $0 }.withUnsafeBytes {
      try PackedMatrix(rows: rows.count, columns: 3, format: .f32, source: $0, pool: pool)
    }
    for row in 0..<16 {
      for column in 0..<32 {
        let part = matrix.parts(row, column)
        #expect((part.scale * Float(part.quant)).isFinite)
      }
    }
  }
}
