import CTensorKernels
import Foundation
import Synchronization
import TensorKernels
import TestSupport
import Testing

@Suite("Products of packed matrices")
struct PackedProductTests {
  struct Shape: Sendable { let rows, columns: Int }

  static func shapes(_ format: BlockFormat) -> [Shape] {
    switch format.blockLength {
    case 1: [(1, 1), (16, 31), (17, 33), (5, 250), (70, 96), (40, 521)].map(Shape.init)
    case 32: [(1, 32), (16, 64), (15, 96), (33, 32), (70, 544), (144, 512)].map(Shape.init)
    default: [(1, 256), (17, 512), (70, 768)].map(Shape.init)
    }
  }

  @Test(
    "agree with a sum in double precision, and to the bit with fused multiply-adds",
    arguments: InstructionSet.available, BlockFormat.allCases)
  func productsAgree(_ set: InstructionSet, _ format: BlockFormat) throws {
    let pool = try WorkerPool(threads: 1)
    for shape in Self.shapes(format) {
      for seed in 1...2 as ClosedRange<UInt64> {
        let matrix = try PackedMatrix.random(
          rows: shape.rows, columns: shape.columns, format: format, seed: seed, pool: pool
        ).packed
        var random = SplitMix64(seed: seed + 100)
        let count = 5
        var values = randomFloats(count * shape.columns, in: -2...2, using: &random)
        for i in 0..<min(32, shape.columns) { values[i] = 0 }
        let parts = Int(seed)
        var x = QuantizedTokens(values, columns: shape.columns, parts: parts, with: set.functions)
        let y = matrix.multiply(&x, count: count, with: set.functions)
        for token in 0..<count {
          for row in 0..<matrix.paddedRows {
            var (sum, magnitude, fused) = (0.0, 0.0, Float(0))
            for k in 0..<x.kBlocks {
              let block = token * x.kBlocks + k
              let blockScales = x.scales[block * parts..<(block + 1) * parts]
              let hasMinimum = matrix.matrix.has_minimum != 0
              // Halves of a block may have scales and minimums of their own.
              let ofHalves = matrix.matrix.factors == 2
              let groups = ofHalves ? 2 : parts
              for group in 0..<groups {
                let scale = blockScales[blockScales.startIndex + (parts == 1 ? 0 : group)]
                let first = k * 32 + group * 32 / groups
                var (dot, quantSum): (Int32, Int32) = (0, 0)
                for i in group * 32 / groups..<(group + 1) * 32 / groups {
                  let stored = matrix.parts(row, k * 32 + i)
                  let quant = x.quants[block * 32 + i]
                  dot += stored.quant * Int32(quant)
                  quantSum += Int32(quant)
                  let weight = Double(stored.scale) * Double(stored.quant) + Double(stored.minimum)
                  sum += weight * Double(quant) * Double(scale)
                  magnitude += abs(weight * Double(quant) * Double(scale))
                }
                fused.addProduct(Float(dot), matrix.parts(row, first).scale * scale)
                if hasMinimum, ofHalves {
                  fused.addProduct(matrix.parts(row, first).minimum, scale * Float(quantSum))
                }
              }
              let blockSum = x.sums[block * parts..<(block + 1) * parts].reduce(0, +)
              if hasMinimum, !ofHalves {
                fused.addProduct(matrix.parts(row, k * 32).minimum, blockSum)
              }
            }
            let got = y[token * (matrix.paddedRows + 3) + row]
            // A minimum of the size of the weights' range cancels, so the bound is generous but still 20 bits.
            try #require(abs(Double(got) - sum) <= 2e-6 * magnitude + 1e-30)
            if set != .portable { try #require(got == fused) }
          }
          try #require(y[token * (matrix.paddedRows + 3) + matrix.paddedRows].isNaN, "a write past the rows")
        }
      }
    }
  }

  /// The plain rounding that the packer's search must not be worse than, in double precision.
  private static func evenStepsError(_ block: ArraySlice<Float>) -> Double {
    guard let low = block.min(), let high = block.max(), low < high else { return 0 }
    let step = Double(high - low) / 15
    return block.reduce(0) { sum, weight in
      let quant = ((Double(weight) - Double(low)) / step).rounded()
      let difference = Double(weight) - (Double(low) + quant * step)
      return sum + difference * difference
    }
  }

  @Test("of 4 bits are rounded at least as well as by even steps", arguments: [BlockFormat.f32, .f16, .bf16])
  func fourBitsAreRoundedWell(_ format: BlockFormat) throws {
    let pool = try WorkerPool(threads: 2)
    let (rows, columns) = (37, 200)
    var random = SplitMix64(seed: 21)
    let bytes = format.randomBlocks(count: rows * columns, scale: 0.3, using: &random)
    var weights = [Float](repeating: 0, count: rows * columns)
    let packed = try bytes.withUnsafeBytes { bytes in
      _ = weights.withUnsafeMutableBufferPointer { format.dequantize(bytes, into: $0) }
      return try PackedMatrix(
        rows: rows, columns: columns, format: format, isRoundedTo4Bits: true, source: bytes, pool: pool)
    }
    #expect(packed.matrix.bits == 4 && packed.matrix.has_minimum == 1)
    var (total, plain) = (0.0, 0.0)
    for row in 0..<rows {
      for start in stride(from: 0, to: columns, by: 32) {
        var error = 0.0
        let end = min(start + 32, columns)
        for column in start..<end {
          let stored = packed.parts(row, column)
          #expect((0...15).contains(stored.quant))
          let difference =
            Double(weights[row * columns + column])
            - (Double(stored.scale) * Double(stored.quant) + Double(stored.minimum))
          error += difference * difference
        }
        // The last block of a row is filled up with zeros.
        guard end - start == 32 else { continue }
        total += error
        let even = Self.evenStepsError(weights[row * columns + start..<row * columns + end])
        plain += even
        // The stored scale and minimum are rounded to half precision; even steps here are not.
        #expect(error <= even * 1.02 + 1e-9, "row \(row), columns from \(start)")
      }
    }
    #expect(total < plain)
  }

  @Test(
    "of dequantised weights are as close as the packed format allows", arguments: InstructionSet.available,
    BlockFormat.allCases)
  func productsOfWeightsAgree(_ set: InstructionSet, _ format: BlockFormat) throws {
    let pool = try WorkerPool(threads: 2)
    let (rows, columns) = (40, 512)
    let (matrix, weights) = try PackedMatrix.random(
      rows: rows, columns: columns, format: format, seed: 9, pool: pool)
    var random = SplitMix64(seed: 10)
    var x = QuantizedTokens(
      randomFloats(columns, in: -1...1, using: &random), columns: columns, with: set.functions)
    let y = matrix.multiply(&x, count: 1, with: set.functions)
    // Half the step of 8 bits for the formats that are requantised; else only sums are rounded.
    let allowed = format.isUnquantized ? 1.0 / 254 : 1e-6
    for row in 0..<rows {
      var (sum, magnitude) = (0.0, 0.0)
      for i in 0..<columns {
        let product = Double(weights[row * columns + i]) * Double(x.quants[i]) * Double(x.scales[i / 32])
        sum += product
        magnitude += abs(product)
      }
      try #require(abs(Double(y[row]) - sum) <= allowed * magnitude)
    }
  }

  @Test(
    "of a token do not depend on its batch, to the bit",
    arguments: InstructionSet.available.flatMap { set in [1, 2].map { (set, $0) } },
    [BlockFormat.q2_K, .q4_0, .q4_1, .q4_K, .iq4_NL, .iq4_XS, .q5_0, .q5_1, .q5_K, .q6_K, .q8_0])
  func batchesAreInvariant(_ setAndParts: (set: InstructionSet, parts: Int), _ format: BlockFormat) throws {
    let set = setAndParts.set
    let pool = try WorkerPool(threads: 1)
    let kernels = set.functions
    let (rows, columns, tokens) = (16 * 9, format.blockLength == 256 ? 768 : 17 * 32, 36)
    let matrix = try PackedMatrix.random(rows: rows, columns: columns, format: format, seed: 5, pool: pool)
      .packed
    var random = SplitMix64(seed: 6)
    var x = QuantizedTokens(
      randomFloats(tokens * columns, in: -3...3, using: &random), columns: columns, parts: setAndParts.parts,
      with: kernels)
    let stride = matrix.paddedRows + 3
    let start = randomFloats(tokens * stride, in: -1...1, using: &random)
    for accumulate in [false, true] {
      // One row block and one token at a time.
      var single = start
      x.withView { x in
        withUnsafePointer(to: matrix.matrix) { w in
          single.withUnsafeMutableBufferPointer { y in
            for token in 0..<tokens {
              for block in 0..<Int32(9) {
                kernels.matmul(
                  w, block, block + 1, x, Int32(token), 1, y.baseAddress! + token * stride, 0, accumulate,
                  nil)
              }
            }
          }
        }
      }
      for first in 0...3 {
        for count in 1...32 {
          let part = Array(start[first * stride..<(first + count) * stride])
          let y: [Float]
          if accumulate {
            y = matrix.multiply(&x, first: first, count: count, with: kernels, onto: part)
          } else {
            var all = matrix.multiply(&x, first: first, count: count, with: kernels)
            // Between the rows of two tokens nothing is written.
            for token in 0..<count {
              let between = token * stride + matrix.paddedRows..<(token + 1) * stride
              try #require(all[between].allSatisfy { $0.isNaN })
              all.replaceSubrange(between, with: part[between])
            }
            y = all
          }
          try #require(
            y.elementsEqual(single[first * stride..<(first + count) * stride]), "\(first) \(count)")
        }
      }
      // Every range of row blocks: pairs, fours and single ones.
      for begin in 0..<9 {
        for end in begin...9 {
          for count in [1, 2, 3, 4, 5, 8, 17, 18, 19, 20] {
            var y = start
            x.withView { x in
              withUnsafePointer(to: matrix.matrix) {
                kernels.matmul(
                  $0, Int32(begin), Int32(end), x, 0, Int32(count), &y, stride, accumulate,
                  $0.pointee.data)
              }
            }
            // Inside the tokens and row blocks asked for, what single ones give; elsewhere nothing is written.
            var expected = start
            for token in 0..<count {
              let rows = token * stride + begin * 16..<token * stride + end * 16
              expected.replaceSubrange(rows, with: single[rows])
            }
            try #require(y == expected, "row blocks \(begin)..<\(end), \(count) tokens")
          }
        }
      }
      // Four far row blocks at a time, where that is a kernel.
      guard kernels.matvec4 != nil else { continue }
      for (begin, apart, steps) in [(0, 2, 2), (1, 2, 1), (0, 2, 1), (1, 2, 2), (0, 1, 1), (5, 1, 1)] {
        for token in 0..<tokens {
          var y = Array(start[token * stride..<(token + 1) * stride])
          x.withView { x in
            withUnsafePointer(to: matrix.matrix) {
              kernels.matvec4?(
                $0, Int32(begin), Int32(apart), Int32(steps), x, Int32(token), &y, accumulate, nil)
            }
          }
          var expected = Array(start[token * stride..<(token + 1) * stride])
          for s in 0..<4 {
            let rows = (begin + s * apart) * 16..<(begin + s * apart + steps) * 16
            expected.replaceSubrange(
              rows, with: single[token * stride + rows.lowerBound..<token * stride + rows.upperBound])
          }
          try #require(y == expected, "matvec4 from \(begin), \(apart) apart, \(steps) steps")
        }
      }
    }
  }

  @Test("of no tokens write nothing", arguments: InstructionSet.available)
  func emptyBatch(_ set: InstructionSet) throws {
    let pool = try WorkerPool(threads: 1)
    let matrix = try PackedMatrix.random(rows: 64, columns: 64, format: .q4_0, seed: 5, pool: pool).packed
    var x = QuantizedTokens(Array(repeating: 1, count: 64), columns: 64, with: set.functions)
    let start = [Float](repeating: 3, count: 200)
    #expect(matrix.multiply(&x, count: 0, with: set.functions, onto: start) == start)
  }

  @Test("do not depend on the number of threads, to the bit", arguments: InstructionSet.available)
  func threadsAreInvariant(_ set: InstructionSet) throws {
    var results: [[Float]] = []
    for threads in 1...3 {
      let pool = try WorkerPool(threads: threads)
      let matrix = try PackedMatrix.random(rows: 333, columns: 512, format: .q4_K, seed: 8, pool: pool).packed
      defer { withExtendedLifetime(matrix) {} }
      defer { withExtendedLifetime(matrix) {} }
      var random = SplitMix64(seed: 9)
      var x = QuantizedTokens(
        randomFloats(7 * 512, in: -1...1, using: &random), columns: 512, with: set.functions)
      var y = [Float](repeating: .nan, count: 7 * matrix.paddedRows)
      y.withUnsafeMutableBufferPointer { y in
        let address = UInt(bitPattern: y.baseAddress)
        x.withView { x in
          let view = x.pointee
          pool.run(chunks: matrix.rowBlocks) { block in
            withUnsafePointer(to: matrix.matrix) { w in
              withUnsafePointer(to: view) { x in
                set.functions.matmul(
                  w, Int32(block), Int32(block) + 1, x, 0, 7, UnsafeMutablePointer(bitPattern: address),
                  matrix.paddedRows, false, nil)
              }
            }
          }
        }
      }
      results.append(y)
    }
    #expect(results[0] == results[1] && results[0] == results[2])
    #expect(!results[0].contains { $0.isNaN })
  }
}
