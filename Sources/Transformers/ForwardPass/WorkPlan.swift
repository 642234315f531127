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
    /// Where the same thread will probably read next.
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
      _ kernels: ek_kernels, _ x: ek_activations, count: Int32, _ y: Rows, accumulate: Bool
    ) {
      guard steps > 0 else { return }
      withUnsafePointer(to: matrix) { matrix in
        withUnsafePointer(to: x) { x in
          guard stride > 0 else {
            kernels.matmul(
              matrix, begin, begin + steps, x, 0, count, y.start + offset, y.stride, accumulate, next?.0)
            return
          }
          guard var next else {
            kernels.matvec4?(matrix, begin, stride, steps, x, 0, y.start + offset, accumulate, nil)
            return
          }
          withUnsafeBytes(of: &next) { next in
            kernels.matvec4?(
              matrix, begin, stride, steps, x, 0, y.start + offset, accumulate,
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
  /// Whether a chunk of the pool's is a piece of the first part and the same piece of the second.
  private let isPaired: Bool

  /// Pieces that are read from their beginning to their end.
  ///
  /// - Parameters:
  ///   - unit: pieces begin and end at multiples of so many row blocks.
  ///   - paired: whether the parts are cut alike, each into as many pieces, and computed together.
  init(parts: [Projection.Part], threads: Int, unit: Int, paired: Bool) {
    self.threads = threads
    isPaired = paired && parts.count == 2
    pieces = []
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
    linkPieces()
  }

  /// Pieces of a product of one token, whose time is that of reading the weights: every thread reads a share of its
  /// own, at four far places at once, and asks for the next piece while it reads one.
  ///
  /// Parameters are those of the other initializer.
  init(farPlacesOf parts: [Projection.Part], threads: Int, unit: Int, paired: Bool) {
    self.threads = threads
    isPaired = paired && parts.count == 2
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
    linkPieces()
  }

  /// The pieces that a thread begins with, in their order: its share of the pool's chunks.
  private func share(of thread: Int) -> [Int] {
    let chunks = isPaired ? pieces.count / 2 : pieces.count
    let own = chunks * thread / threads..<chunks * (thread + 1) / threads
    return (isPaired ? own.flatMap { [$0, chunks + $0] } : Array(own)).filter { pieces[$0].steps > 0 }
  }

  private mutating func linkPieces() {
    for thread in 0..<threads {
      let share = share(of: thread)
      for (index, following) in zip(share, share.dropFirst()) {
        pieces[index].next = pieces[following].streams
      }
    }
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
    guard following.threads == threads else { return }
    for thread in 0..<threads {
      if let last = share(of: thread).last, let target = following.share(of: thread).first {
        pieces[last].next = following.pieces[target].streams
      }
    }
  }
}
