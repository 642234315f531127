import CTensorKernels
import TensorKernels
import TestSupport
import Testing

@Suite("Products of 16-bit weights")
struct HalfProductTests {
  private static let shapes = [(1, 1), (16, 31), (17, 33), (40, 96), (70, 250)]

  /// Weights as the matrix should hold them.
  private static func weights(
    rows: Int, columns: Int, format: BlockFormat, pool: WorkerPool
  ) throws -> (matrix: HalfMatrix, weights: [Float]) {
    var random = SplitMix64(seed: UInt64(rows + columns))
    let bytes = format.randomBlocks(count: rows * columns, scale: 0.3, using: &random)
    var weights = [Float](repeating: 0, count: rows * columns)
    let matrix = try bytes.withUnsafeBytes { bytes in
      _ = weights.withUnsafeMutableBufferPointer { format.dequantize(bytes, into: $0) }
      return try HalfMatrix(rows: rows, columns: columns, format: format, source: bytes, pool: pool)
    }
    return (matrix, weights)
  }

  @Test(
    "agree with a sum in double precision, whatever the batch, and write no further",
    arguments: InstructionSet.available, [BlockFormat.f16, .bf16, .f32])
  func productsAgree(_ set: InstructionSet, _ format: BlockFormat) throws {
    let pool = try WorkerPool(threads: 2)
    for (rows, columns) in Self.shapes {
      let (matrix, weights) = try Self.weights(rows: rows, columns: columns, format: format, pool: pool)
      var random = SplitMix64(seed: 3)
      let most = 9
      let x = randomFloats(most * columns, in: -2...2, using: &random)
      var alone: [[Float]] = []
      for count in 1...most {
        let stride = rows + 3
        var y = [Float](repeating: .nan, count: most * stride)
        y.withUnsafeMutableBufferPointer {
          matrix.multiply(
            x, count: count, into: $0.baseAddress!, stride: stride, instructionSet: set, pool: pool)
        }
        for token in 0..<most {
          let row = Array(y[token * stride..<token * stride + rows])
          #expect(y[token * stride + rows..<(token + 1) * stride].allSatisfy { $0.isNaN })
          guard token < count else {
            #expect(row.allSatisfy { $0.isNaN })
            continue
          }
          if token < alone.count {
            #expect(row == alone[token], "token \(token) of \(count)")
          } else {
            alone.append(row)
          }
        }
      }
      for token in 0..<most {
        for row in 0..<rows {
          var (sum, magnitude) = (0.0, 0.0)
          for column in 0..<columns {
            let product = Double(weights[row * columns + column]) * Double(x[token * columns + column])
            sum += product
            magnitude += abs(product)
          }
          // Half a step of bfloat16's eight bits, where weights of 32 are rounded.
          let rounding = format == .f32 ? 0x1p-9 : 1e-6
          #expect(abs(Double(alone[token][row]) - sum) <= rounding * magnitude + 1e-30)
        }
      }
    }
  }

  @Test("round to the nearest bfloat16, and never to what is no number")
  func rounding() throws {
    let pool = try WorkerPool(threads: 1)
    let cases: [(Float, Float)] = [
      (1, 1), (-0.0, -0.0), (1 + 0x1p-8, 1), (1 + 0x3p-8, 1 + 0x1p-6), (1 + 0x1.8p-8, 1 + 0x1p-7),
      (.greatestFiniteMagnitude, 0x1.FEp127), (-.greatestFiniteMagnitude, -0x1.FEp127), (0x1p-133, 0x1p-133),
    ]
    let matrix = try cases.map(\.0).withUnsafeBytes {
      try HalfMatrix(rows: 1, columns: cases.count, format: .f32, source: $0, pool: pool)
    }
    for (column, item) in cases.enumerated() {
      let bits = UInt32(matrix.matrix.data[16 * column]) << 16
      #expect(bits == item.1.bitPattern, "\(item.0)")
    }
    #expect(throws: KernelError.notFinite(2)) {
      try [1, 2, Float.nan].withUnsafeBytes {
        try HalfMatrix(rows: 1, columns: 3, format: .f32, source: $0, pool: pool)
      }
    }
    // The first of two, which lie in other rows than the first sixteen.
    var many = [Float](repeating: 1, count: 50 * 3)
    many[37 * 3 + 1] = .infinity
    many[20 * 3 + 2] = .nan
    #expect(throws: KernelError.notFinite(20 * 3 + 2)) {
      try many.withUnsafeBytes { try HalfMatrix(rows: 50, columns: 3, format: .f32, source: $0, pool: pool) }
    }
  }
}
