import CTensorKernels
import TensorKernels
import TestSupport

extension InstructionSet {
  static let available = allCases.filter(\.isAvailable)
  /// The C functions themselves.
  var functions: ek_kernels { kernels.pointee }
}

func randomFloats(_ count: Int, in range: ClosedRange<Float>, using random: inout SplitMix64) -> [Float] {
  (0..<count).map { _ in Float.random(in: range, using: &random) }
}

/// Rows of activations as `quantize` leaves them.
struct QuantizedTokens {
  let kBlocks: Int
  /// Of a k block, each with a scale.
  let parts: Int
  var quants: [Int8]
  var scales: [Float]
  var sums: [Float]
  var offsets: [Int32]

  init(_ values: [Float], columns: Int, parts: Int = 1, with kernels: ek_kernels) {
    self.parts = parts
    let count = values.count / columns
    let kBlocks = (columns + 31) / 32
    self.kBlocks = kBlocks
    // Guards behind the last row show writes past the end.
    quants = Array(repeating: 77, count: count * kBlocks * 32 + 1)
    scales = Array(repeating: 77, count: count * kBlocks * parts + 1)
    sums = Array(repeating: 77, count: count * kBlocks * parts + 1)
    offsets = Array(repeating: 77, count: count * kBlocks * 3 + 1)
    for token in 0..<count {
      values.withUnsafeBufferPointer { values in
        withView { x in
          let at = token * kBlocks
          kernels.quantize(
            values.baseAddress! + token * columns, columns, Int32(parts), x.pointee.quants + at * 32,
            x.pointee.scales + at * parts, x.pointee.sums + at * parts, x.pointee.offsets + at * 3)
        }
      }
    }
  }

  mutating func withView<R>(_ body: (UnsafePointer<ek_activations>) -> R) -> R {
    quants.withUnsafeMutableBufferPointer { quants in
      scales.withUnsafeMutableBufferPointer { scales in
        sums.withUnsafeMutableBufferPointer { sums in
          offsets.withUnsafeMutableBufferPointer { offsets in
            var view = ek_activations(
              quants: quants.baseAddress, scales: scales.baseAddress, sums: sums.baseAddress,
              offsets: offsets.baseAddress, k_blocks: Int32(kBlocks), parts: Int32(parts))
            return body(&view)
          }
        }
      }
    }
  }
}

extension PackedMatrix {
  /// A matrix of random blocks, with what its rows decode to: (rows, columns).
  static func random(
    rows: Int, columns: Int, format: BlockFormat, seed: UInt64, scale: Float = 0.3, pool: WorkerPool
  ) throws -> (packed: PackedMatrix, weights: [Float]) {
    var random = SplitMix64(seed: seed)
    let bytes = format.randomBlocks(count: rows * columns, scale: scale, using: &random)
    var weights = [Float](repeating: 0, count: rows * columns)
    let packed = try bytes.withUnsafeBytes { bytes in
      _ = weights.withUnsafeMutableBufferPointer { format.dequantize(bytes, into: $0) }
      return try PackedMatrix(rows: rows, columns: columns, format: format, source: bytes, pool: pool)
    }
    return (packed, weights)
  }

  /// Weight (row, column) as its three parts, read from the layout that CTensorKernels.h describes; scale and minimum
  /// are products with their factors, where there are any.
  func parts(_ row: Int, _ column: Int) -> (quant: Int32, scale: Float, minimum: Float) {
    let base = matrix.data! + row / 16 * matrix.row_block_bytes
    let kBlocks = Int(matrix.k_blocks)
    let (lane, k, i) = (row % 16, column / 32, column % 32)
    let bits = Int(matrix.bits)
    func half(_ at: Int) -> Float { Float(halfBits: UInt16(base[at]) | UInt16(base[at + 1]) << 8) }
    func signed(_ byte: UInt8) -> Int32 { Int32(Int8(bitPattern: byte)) }
    // The byte of this weight's place in one of the block's lines of 64, and a field of it.
    func line(_ index: Int) -> UInt8 { base[k * 64 * bits + index * 64 + lane * 4 + i % 4] }
    func field(_ index: Int, _ bits: Range<UInt8>) -> Int32 {
      Int32((line(index) >> bits.lowerBound) & (1 << UInt8(bits.count) - 1))
    }
    let quad = i / 4
    let first = quad / 4 * 3
    var quant =
      switch (bits, quad) {
      case (2, _): field(quad / 4, UInt8(quad % 4 * 2)..<UInt8(quad % 4 * 2 + 2))
      case (3, _):
        field(quad / 4, UInt8(quad % 4 * 2)..<UInt8(quad % 4 * 2 + 2)) + 4
          * field(2, UInt8(quad)..<UInt8(quad + 1))
      case (4, _): field(quad / 2, quad % 2 == 0 ? 0..<4 : 4..<8)
      case (5, 5): field(0, 5..<8) + 8 * field(1, 5..<7)
      case (5, 6): field(2, 5..<8) + 8 * field(3, 5..<7)
      case (5, 7): field(4, 5..<8) + 8 * field(1, 7..<8) + 16 * field(3, 7..<8)
      case (5, _): field(quad, 0..<5)
      case (6, 3), (6, 7): 16 * field(first, 6..<8) + 4 * field(first + 1, 6..<8) + field(first + 2, 6..<8)
      case (6, _): field(first + quad % 4, 0..<6)
      default: signed(line(quad))
      }
    let hasMinimum = matrix.has_minimum != 0
    if let levels = matrix.levels {
      quant = Int32(levels[Int(quant)])
    } else if bits < 8, !hasMinimum {
      quant -= 1 << Int32(bits - 1)
    }
    let after = kBlocks * 64 * bits
    let factors = Int(matrix.factors)
    guard factors > 0 else {
      let at = after + k * 32 + 2 * lane
      return (quant, half(at), hasMinimum ? half(at + kBlocks * 32) : 0)
    }
    let ofEach = hasMinimum ? 2 : 1
    let factorAt = after + k * 16 * factors * ofEach + (factors == 2 ? quad / 4 * 16 : 0) + lane
    let scaleAt = after + kBlocks * 16 * factors * ofEach + k / 8 * 32 * ofEach + 2 * lane
    return (
      quant, Float(signed(base[factorAt])) * half(scaleAt),
      hasMinimum ? Float(signed(base[factorAt + 16 * factors])) * half(scaleAt + 32) : 0
    )
  }

  /// y (count, stride) for tokens first..<first + count; `stride` is three more than the padded rows.
  func multiply(
    _ x: inout QuantizedTokens, first: Int = 0, count: Int, with kernels: ek_kernels,
    onto start: [Float]? = nil
  ) -> [Float] {
    let stride = paddedRows + 3
    var y = start ?? Array(repeating: .nan, count: count * stride)
    x.withView { x in
      withUnsafePointer(to: matrix) {
        kernels.matmul($0, 0, Int32(rowBlocks), x, Int32(first), Int32(count), &y, stride, start != nil, nil)
      }
    }
    return y
  }
}
