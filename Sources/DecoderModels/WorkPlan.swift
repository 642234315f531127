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
    /// What the same thread will probably read next.
    var next: Streams?

    /// The places where the piece begins to read.
    var streams: Streams? {
      guard steps > 0, let data = matrix.data else { return nil }
      func row(_ s: Int) -> UnsafePointer<UInt8>? {
        UnsafePointer(data + (Int(begin) + s * max(Int(stride), 1)) * matrix.row_block_bytes)
      }
      return (row(0), row(1), row(2), row(3))
    }

    func run(
      _ kernels: ek_kernels, _ x: ek_activations, count: Int32, _ y: UnsafeMutablePointer<Float>,
      stride yStride: Int, accumulate: Bool
    ) {
      guard steps > 0 else { return }
      withUnsafePointer(to: matrix) { matrix in
        withUnsafePointer(to: x) { x in
          guard stride > 0 else {
            kernels.matmul(
              matrix, begin, begin + steps, x, 0, count, y + offset, yStride, accumulate)
            return
          }
          guard var next else {
            kernels.matvec4(matrix, begin, stride, steps, x, 0, y + offset, accumulate, nil)
            return
          }
          withUnsafeBytes(of: &next) { next in
            kernels.matvec4(
              matrix, begin, stride, steps, x, 0, y + offset, accumulate,
              next.assumingMemoryBound(to: UnsafePointer<UInt8>?.self).baseAddress)
          }
        }
      }
    }
  }

  typealias Streams = (
    UnsafePointer<UInt8>?, UnsafePointer<UInt8>?, UnsafePointer<UInt8>?, UnsafePointer<UInt8>?
  )

  // Pieces point into packed matrices, which the projection that owns the plan keeps alive; `next` is only a hint.
  nonisolated(unsafe) private(set) var pieces: [Piece]
  private let threads: Int

  /// Pieces of a product of many tokens, which share each weight that is read.
  init(manyTokens parts: [Projection.Part], threads: Int, unit: Int) {
    var pieces: [Piece] = []
    for part in parts {
      guard case .packed(let packed) = part.weights else { continue }
      // About this many bytes a piece: enough to hide the claim, few enough to share out evenly.
      let bytes = min(max(packed.byteCount / (threads * 4), 24 << 10), 256 << 10)
      let steps = max(bytes / packed.matrix.row_block_bytes / unit, 1) * unit
      for start in Swift.stride(from: 0, to: packed.rowBlocks, by: steps) {
        pieces.append(
          Piece(
            matrix: packed.matrix, offset: part.offset, begin: Int32(start), stride: 0,
            steps: Int32(min(steps, packed.rowBlocks - start))))
      }
    }
    self.pieces = pieces
    self.threads = threads
  }

  /// Pieces of a product of one token, whose time is that of reading the weights: every thread reads a share of its
  /// own, at four far places at once, and asks for the next piece while it reads one.
  ///
  /// - Parameters:
  ///   - unit: pieces begin and end at multiples of so many row blocks.
  ///   - paired: whether the parts are cut alike, each into as many pieces, instead of one after the other.
  init(oneToken parts: [Projection.Part], threads: Int, unit: Int, paired: Bool) {
    self.threads = threads
    pieces = []
    let groups = paired ? parts.map { [$0] } : [parts]
    for group in groups {
      let shares = (0..<threads).map { Self.share($0, of: group, threads: threads, unit: unit) }
      let longest = shares.reduce(0) { max($0, $1.count) }
      // Shares of equal length, so that a thread's own chunks of the pool's are its share.
      for share in shares {
        pieces += share
        if let piece = share.last ?? shares.joined().first {
          let empty = Piece(matrix: piece.matrix, offset: piece.offset, begin: 0, stride: 0, steps: 0)
          pieces += repeatElement(empty, count: longest - share.count)
        }
      }
    }
    let pairs = pieces.count / groups.count
    let order =
      paired && groups.count == 2 ? (0..<pairs).flatMap { [$0, pairs + $0] } : Array(pieces.indices)
    for (index, following) in zip(order, order.dropFirst()) { pieces[index].next = pieces[following].streams }
  }

  private static func share(_ thread: Int, of parts: [Projection.Part], threads: Int, unit: Int) -> [Piece] {
    let total = parts.reduce(0) { $0 + $1.byteCount }
    let bounds = (total * thread / threads, total * (thread + 1) / threads)
    var pieces: [Piece] = []
    var passed = 0
    for part in parts {
      guard case .packed(let packed) = part.weights, packed.byteCount > 0 else { continue }
      let blocks = packed.rowBlocks
      let size = packed.matrix.row_block_bytes
      func block(_ byte: Int) -> Int {
        let at = min(max(byte - passed, 0), packed.byteCount)
        return at == packed.byteCount ? blocks : at / size / unit * unit
      }
      let begin = block(bounds.0)
      let end = block(bounds.1)
      passed += packed.byteCount
      guard begin < end else { continue }
      func add(_ begin: Int, _ stride: Int, _ steps: Int) {
        pieces.append(
          Piece(
            matrix: packed.matrix, offset: part.offset, begin: Int32(begin), stride: Int32(stride),
            steps: Int32(steps)))
      }
      let quarter = (end - begin) / (4 * unit) * unit
      if quarter > 0 {
        let steps = max(max(quarter * size / 4, 8 << 10) / size / unit, 1) * unit
        for start in Swift.stride(from: 0, to: quarter, by: steps) {
          add(begin + start, quarter, min(steps, quarter - start))
        }
      }
      if begin + 4 * quarter < end { add(begin + 4 * quarter, 0, end - begin - 4 * quarter) }
    }
    return pieces
  }

  /// Makes each thread ask for its first bytes of `following` while it reads its last of this.
  mutating func link(to following: WorkPlan) {
    guard following.threads == threads, !pieces.isEmpty, !following.pieces.isEmpty else { return }
    for thread in 0..<threads {
      let own = pieces.count / threads, others = following.pieces.count / threads
      let target = following.pieces[thread * others..<(thread + 1) * others].first { $0.steps > 0 }
      let last = pieces[thread * own..<(thread + 1) * own].lastIndex { $0.steps > 0 }
      if let target, let last { pieces[last].next = target.streams }
    }
  }
}
