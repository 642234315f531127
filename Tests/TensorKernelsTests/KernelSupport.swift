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

  init(_ values: [Float], columns: Int, parts: Int = 1, with kernels: ek_kernels) {
    self.parts = parts
    let count = values.count / columns
    kBlocks = (columns + 31) / 32
    // Guards behind the last row show writes past the end.
    quants = Array(repeating: 77, count: count * kBlocks * 32 + 1)
    scales = Array(repeating: 77, count: count * kBlocks * parts + 1)
    sums = Array(repeating: 77, count: count * kBlocks * parts + 1)
    for token in 0..<count {
      values.withUnsafeBufferPointer { values in
        quants.withUnsafeMutableBufferPointer { quants in
          scales.withUnsafeMutableBufferPointer { scales in
            sums.withUnsafeMutableBufferPointer { sums in
              kernels.quantize(
                values.baseAddress! + token * columns, columns, Int32(parts),
                quants.baseAddress! + token * kBlocks * 32,
                scales.baseAddress! + token * kBlocks * parts, sums.baseAddress! + token * kBlocks * parts)
            }
          }
        }
      }
    }
  }

  mutating func withView<R>(_ body: (UnsafePointer<ek_activations>) -> R) -> R {
    quants.withUnsafeMutableBufferPointer { quants in
      scales.withUnsafeMutableBufferPointer { scales in
        sums.withUnsafeMutableBufferPointer { sums in
          var view = ek_activations(
            quants: quants.baseAddress, scales: scales.baseAddress, sums: sums.baseAddress,
            k_blocks: Int32(kBlocks), parts: Int32(parts))
          return body(&view)
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

  /// Weight (row, column) as its three parts, read from the layout that CTensorKernels.h describes.
  func parts(_ row: Int, _ column: Int) -> (quant: Int32, scale: Float, minimum: Float) {
    let base = matrix.data! + row / 16 * matrix.row_block_bytes
    let kBlocks = Int(matrix.k_blocks)
    let (lane, k, i) = (row % 16, column / 32, column % 32)
    let quantBytes = matrix.bits == 4 ? 256 : 512
    func half(_ at: Int) -> Float { Float(halfBits: UInt16(base[at]) | UInt16(base[at + 1]) << 8) }
    let scaleAt = kBlocks * quantBytes + k * 32 + 2 * lane
    let minimum = matrix.has_minimum != 0 ? half(scaleAt + kBlocks * 32) : 0
    if matrix.bits == 4 {
      let byte = base[k * 256 + i / 8 * 64 + lane * 4 + i % 4]
      return (Int32(i % 8 < 4 ? byte & 15 : byte >> 4), half(scaleAt), minimum)
    }
    return (Int32(Int8(bitPattern: base[k * 512 + i / 4 * 64 + lane * 4 + i % 4])), half(scaleAt), minimum)
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
