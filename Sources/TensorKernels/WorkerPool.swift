import CTensorKernels
import Synchronization

/// A fixed set of threads for parallel loops.
///
/// Chunks are claimed one by one from a shared counter, and the calling thread can do all of them alone, so a
/// worker whose core is taken by another program delays nothing but the chunk it has begun.
public final class WorkerPool: Sendable {
  /// Threads, the caller's included.
  public let threadCount: Int
  // The pointer is freed in deinit only; the C pool is made for use from one thread at a time, which `lock` ensures.
  private nonisolated(unsafe) let pool: OpaquePointer
  private let lock = Mutex(())

  /// Processors that this process may run on: on Linux those of its affinity mask, which may be fewer than the machine
  /// has.
  public static var usableProcessorCount: Int { Int(ek_usable_processors()) }

  /// - Parameter threads: 1…256.
  /// - Throws: ``KernelError/resources(_:)`` when a thread cannot be made.
  public init(threads: Int) throws(KernelError) {
    let count = min(max(threads, 1), 256)
    guard let pool = ek_pool_create(Int32(count)) else { throw .resources("\(count) threads") }
    self.threadCount = count
    self.pool = pool
  }

  deinit { ek_pool_destroy(pool) }

  /// Counts forks and the calling thread's waits from now on.
  package func beginMeasuring() { lock.withLock { _ in ek_pool_measure(pool, true) } }

  /// Forks since measuring began, and the seconds that the calling thread waited at their ends, its own share done.
  package func endMeasuring() -> (forks: Int, waiting: Double) {
    lock.withLock { _ in
      var forks: UInt64 = 0
      let waited = ek_pool_waited(pool, &forks)
      ek_pool_measure(pool, false)
      return (Int(forks), Double(waited) / 1e9)
    }
  }

  /// Calls `body` once for each number in `0..<chunks`, in any order and on any thread; returns when all are done.
  ///
  /// Not reentrant: `body` must not call `run` on the same pool.
  package func run(chunks: Int, _ body: (Int) -> Void) {
    guard chunks > 1, threadCount > 1 else {
      for chunk in 0..<max(chunks, 0) { body(chunk) }
      return
    }
    withoutActuallyEscaping(body) { body in
      lock.withLock { _ in
        withUnsafePointer(to: body) { context in
          ek_pool_run(
            pool, Int32(chunks),
            { context, chunk in
              context?.assumingMemoryBound(to: ((Int) -> Void).self).pointee(Int(chunk))
            }, UnsafeMutableRawPointer(mutating: context))
        }
      }
    }
  }
}
