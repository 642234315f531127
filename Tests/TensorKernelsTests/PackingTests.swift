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
    "of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q3_K, Q6_K, IQ4_NL and MXFP4 keeps every number",
    arguments: [BlockFormat.q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .q3_K, .q6_K, .iq4_NL, .mxfp4],
    [Float(0.3), 3e-4, 100])
  func losslessFormats(_ format: BlockFormat, _ scale: Float) throws {
    // What remains is the rounding of the reference's own last addition.
    let error = try largestError(
      format, rows: 37, columns: format.blockLength == 256 ? 512 : 320, scale: scale)
    #expect(error <= 0x1p-23)
  }

  @Test(
    "of Q4_K and Q5_K rounds scales and minimums to half precision", arguments: [BlockFormat.q4_K, .q5_K])
  func kQuants(_ format: BlockFormat) throws {
    let pool = try WorkerPool(threads: 1)
    // Small scales too: products with a half-precision number stay multiples of 2^-24, so subnormal ones are exact.
    for scale in [0.3, 3e-3, 3e-5] as [Float] {
      var random = SplitMix64(seed: 4)
      let (rows, columns) = (19, 512)
      let bytes = format.randomBlocks(count: rows * columns, scale: scale, using: &random)
      let matrix = try bytes.withUnsafeBytes {
        try PackedMatrix(rows: rows, columns: columns, format: format, source: $0, pool: pool)
      }
      for row in 0..<rows {
        for superblock in 0..<columns / 256 {
          let at = (row * columns / 256 + superblock) * format.bytesPerBlock
          let block = bytes[at..<at + 16].map { UInt16($0) }
          let scale = Double(Float(halfBits: block[0] | block[1] << 8))
          let minimum = Double(Float(halfBits: block[2] | block[3] << 8))
          let packed = block[4...].map { Int($0) }
          for j in 0..<8 {
            let first = j < 4 ? packed[j] & 63 : (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4)
            let second = j < 4 ? packed[j + 4] & 63 : (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4)
            let expectedScale = scale * Double(first)
            let expectedMinimum = -minimum * Double(second)
            let part = matrix.parts(row, superblock * 256 + j * 32)
            try #require(abs(Double(part.scale) - expectedScale) <= 0x1p-11 * abs(expectedScale))
            try #require(abs(Double(part.minimum) - expectedMinimum) <= 0x1p-11 * abs(expectedMinimum))
          }
        }
      }
    }
    // Two rounded parts; with both at most twice the block's range here.
    let error = try largestError(format, rows: 19, columns: 512, scale: 0.3)
    #expect(error <= 0x1p-9)
  }

  @Test("of IQ4_XS rounds the scales of 32 weights to half precision", arguments: [Float(0.3), 30])
  func roundedScales(_ scale: Float) throws {
    let error = try largestError(.iq4_XS, rows: 37, columns: 512, scale: scale)
    #expect(error <= 0x1p-11)
    #expect(error > 0x1p-14)
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
    "of Q2_K and floats errs by at most half a step of 8 bits",
    arguments: [BlockFormat.q2_K, .f32, .f16, .bf16])
  func requantisedFormats(_ format: BlockFormat) throws {
    let columns = format.blockLength == 256 ? 512 : 301
    let error = try largestError(format, rows: 37, columns: columns, scale: 0.3)
    // Half a step of the rounded scale: 0.5 · (1 + 2^-11) / 127. That much is reached, and no more.
    #expect(error <= 0.5 / 127 * (1 + 0x1p-10))
    #expect(error >= 0.4 / 127)
  }

  /// Bytes of 16 rows of 256 weights, to be compared with what the formats take in a file.
  @Test(
    "takes the bytes of a format's own width",
    arguments: zip(
      [BlockFormat.q4_0, .q4_K, .q5_0, .q5_1, .q5_K, .q3_K, .q6_K, .q8_0, .f16],
      [2560, 2560, 2816, 3072, 3072, 3360, 3360, 4352, 4352]))
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
