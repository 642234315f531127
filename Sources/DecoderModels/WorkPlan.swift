import CTensorKernels
import TensorKernels

/// A projection cut into pieces that threads claim one by one.
struct WorkPlan: Sendable {
  /// Row blocks begin + s · stride + j of one part, for s in 0..<4 and j in 0..<steps; when `stride` is 0, row
  /// blocks begin..<begin + steps.
  struct Piece {
    var matrix: ek_matrix
    /// Where the part's rows begin in the result.
    var offset: Int
    var begin: Int32
    var stride: Int32
    var steps: Int32

    func run(
      _ kernels: ek_kernels, _ x: ek_activations, count: Int32, _ y: UnsafeMutablePointer<Float>,
      stride yStride: Int, accumulate: Bool
    ) {
      withUnsafePointer(to: matrix) { matrix in
        withUnsafePointer(to: x) { x in
          if stride > 0 {
            kernels.matvec4(matrix, begin, stride, steps, x, 0, y + offset, accumulate)
          } else {
            kernels.matmul(
              matrix, begin, begin + steps, x, 0, count, y + offset, yStride, accumulate)
          }
        }
      }
    }
  }

  // Pieces point into packed matrices, which the projection that owns the plan keeps alive.
  nonisolated(unsafe) let pieces: [Piece]

  /// - Parameters:
  ///   - oneToken: whether each piece walks four far places at once, which is faster when weights come from memory
  ///     (34 against 31 GB/s measured with two threads) and useless when several tokens share them.
  ///   - unit: pieces begin and end at multiples of so many row blocks.
  init(_ parts: [Projection.Part], threads: Int, oneToken: Bool, unit: Int) {
    var pieces: [Piece] = []
    for part in parts {
      guard case .packed(let packed) = part.weights else { continue }
      let blocks = packed.rowBlocks
      func add(_ begin: Int, _ stride: Int, _ steps: Int) {
        pieces.append(
          Piece(
            matrix: packed.matrix, offset: part.offset, begin: Int32(begin), stride: Int32(stride),
            steps: Int32(steps)))
      }
      var begin = 0
      // About this many bytes a piece: enough to hide the claim, few enough to share out evenly.
      let bytes = min(max(packed.byteCount / (threads * 4), 24 << 10), 256 << 10)
      if oneToken {
        let quarter = blocks / (4 * unit) * unit
        let steps = min(max(bytes / (4 * packed.matrix.row_block_bytes) / unit, 1) * unit, max(quarter, 1))
        for start in Swift.stride(from: 0, to: quarter, by: steps) {
          add(start, quarter, min(steps, quarter - start))
        }
        begin = 4 * quarter
      }
      let steps = max(bytes / packed.matrix.row_block_bytes / unit, 1) * unit
      for start in Swift.stride(from: begin, to: blocks, by: steps) {
        add(start, 0, min(steps, blocks - start))
      }
    }
    self.pieces = pieces
  }
}
