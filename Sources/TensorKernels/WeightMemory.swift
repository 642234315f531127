import Foundation
import Synchronization

/// Memory for packed matrices, taken from the system in large pieces that many matrices share.
///
/// A matrix of a small model is smaller than a huge page of the system; side by side they fill some, which spares the
/// walk of the page table that each 4 KiB of a sequential read would need.
package final class WeightMemory: Sendable {
  /// A piece of memory, freed with the last matrix in it.
  final class Slab: Sendable {
    nonisolated(unsafe) let start: UnsafeMutableRawPointer
    let byteCount: Int

    /// nil when the system has no memory for it.
    init?(byteCount: Int) {
      var allocated: UnsafeMutableRawPointer?
      let alignment = byteCount >= WeightMemory.hugePage ? WeightMemory.hugePage : 64
      guard posix_memalign(&allocated, alignment, max(byteCount, 64)) == 0, let start = allocated else {
        return nil
      }
      #if os(Linux)
        if alignment == WeightMemory.hugePage { madvise(start, byteCount, MADV_HUGEPAGE) }
      #endif
      self.start = start
      self.byteCount = byteCount
    }

    deinit { free(start) }
  }

  private static let hugePage = 2 << 20
  private static let slabSize = 8 * hugePage

  private struct State {
    var slab: Slab?
    var used = 0
  }

  private let state = Mutex(State())

  package init() {}

  /// `byteCount` bytes at a multiple of 64, alive as long as the slab that is returned with them.
  func allocate(_ byteCount: Int) -> (memory: UnsafeMutableRawPointer, slab: Slab)? {
    // What is nearly a slab itself gets one of its own.
    if byteCount > Self.slabSize / 2 { return Slab(byteCount: byteCount).map { ($0.start, $0) } }
    return state.withLock { state in
      let begin = (state.used + 63) & ~63
      if let slab = state.slab, begin + byteCount <= slab.byteCount {
        state.used = begin + byteCount
        return (slab.start + begin, slab)
      }
      guard let slab = Slab(byteCount: Self.slabSize) else { return nil }
      state.slab = slab
      state.used = byteCount
      return (slab.start, slab)
    }
  }
}
