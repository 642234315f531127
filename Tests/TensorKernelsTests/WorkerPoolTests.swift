import CTensorKernels
import Foundation
import Synchronization
import TensorKernels
import TestSupport
import Testing

@Suite("Worker pool")
struct WorkerPoolTests {
  /// Seconds until a test gives up waiting for what never comes. However busy the machine, nothing here takes long.
  private let patience = 900.0

  /// How often each chunk ran. Chunks are distinct addresses, so only a chunk run twice at once could be miscounted,
  /// and `total` would tell.
  private final class Tally: @unchecked Sendable {
    // Element i is written by the thread that runs chunk i only; read when no run is in progress.
    private let counts: UnsafeMutableBufferPointer<Int>
    private let total = Atomic(0)
    private var expected: [Int]

    init(_ capacity: Int) {
      counts = .allocate(capacity: capacity)
      counts.initialize(repeating: 0)
      expected = Array(repeating: 0, count: capacity)
    }

    deinit { counts.deallocate() }

    func run(_ pool: WorkerPool, chunks: Int) {
      pool.run(chunks: chunks) {
        counts[$0] += 1
        total.wrappingAdd(1, ordering: .relaxed)
      }
      for i in 0..<chunks { expected[i] += 1 }
    }

    var isExact: Bool {
      counts.elementsEqual(expected) && total.load(ordering: .relaxed) == expected.reduce(0, +)
    }
  }

  #if os(Linux)
    @Test("counts the processors that this process may run on, not those of the machine")
    func processors() throws {
      let count = WorkerPool.usableProcessorCount
      let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") })
      let allowed = line.split(separator: "\t")[1].split(separator: ",").reduce(0) { sum, range in
        let ends = range.split(separator: "-").compactMap { Int($0) }
        return sum + (ends.last ?? 0) - (ends.first ?? 0) + 1
      }
      #expect(count == allowed)
    }
  #endif

  @Test("runs each chunk exactly once, 100,000 times", arguments: [1, 2, 3])
  func tinyRuns(_ threads: Int) throws {
    let pool = try WorkerPool(threads: threads)
    let tally = Tally(8)
    var random = SplitMix64(seed: 1)
    var wrong = 0
    for run in 0..<100_000 {
      tally.run(pool, chunks: Int.random(in: 0...8, using: &random))
      // Looked at while workers of this run may still be on their way to sleep.
      if run % 64 == 0, !tally.isExact { wrong += 1 }
    }
    #expect(wrong == 0)
    #expect(tally.isExact)
  }

  @Test("makes what the chunks wrote visible to the caller, and the caller's to the chunks")
  func visibility() throws {
    let pool = try WorkerPool(threads: 3)
    let cells = UnsafeMutableBufferPointer<Int>.allocate(capacity: 64)
    defer { cells.deallocate() }
    cells.initialize(repeating: 0)
    let address = UInt(bitPattern: cells.baseAddress)
    for run in 1...5000 {
      for i in cells.indices { cells[i] = run * i }
      pool.run(chunks: 64) { i in
        guard let cells = UnsafeMutablePointer<Int>(bitPattern: address) else { return }
        cells[i] += run
      }
      try #require(cells.indices.allSatisfy { cells[$0] == run * ($0 + 1) })
    }
  }

  @Test("with many more threads than cores finishes")
  func oversubscription() throws {
    let pool = try WorkerPool(threads: 64)
    #expect(pool.threadCount == 64)
    let tally = Tally(200)
    for run in 0..<300 { tally.run(pool, chunks: [2, 63, 64, 65, 200][run % 5]) }
    #expect(tally.isExact)
  }

  @Test("wakes its workers after they have gone to sleep")
  func sleepingWorkers() throws {
    let pool = try WorkerPool(threads: 3)
    let tally = Tally(16)
    for _ in 0..<20 {
      Thread.sleep(forTimeInterval: 0.005)
      // A worker takes part: the caller's first chunk waits for another thread's.
      let others = Atomic(0)
      let caller = pthread_self()
      let deadline = Date(timeIntervalSinceNow: patience)
      pool.run(chunks: 2) { _ in
        if pthread_equal(pthread_self(), caller) == 0 {
          others.wrappingAdd(1, ordering: .relaxed)
        } else {
          while others.load(ordering: .relaxed) == 0, Date() < deadline { sched_yield() }
        }
      }
      try #require(others.load(ordering: .relaxed) >= 1)
      tally.run(pool, chunks: 16)
    }
    #expect(tally.isExact)
  }

  @Test("may be one of many, and end without a run or right after one")
  func manyPools() throws {
    var pools: [WorkerPool] = []
    for threads in 1...12 { pools.append(try WorkerPool(threads: threads)) }
    let tallies = pools.map { _ in Tally(32) }
    for round in 0..<50 {
      for (pool, tally) in zip(pools, tallies) { tally.run(pool, chunks: 1 + (round * 7) % 32) }
    }
    #expect(tallies.allSatisfy { $0.isExact })
    pools.removeAll()
    for round in 0..<200 {
      let pool = try WorkerPool(threads: 2 + round % 3)
      let tally = Tally(4)
      if round % 2 == 0 { tally.run(pool, chunks: 4) }
      #expect(tally.isExact)
    }
  }

  @Test("is shared by several callers, one run at a time")
  func severalCallers() async throws {
    let pool = try WorkerPool(threads: 2)
    let exact = await withTaskGroup(of: Bool.self) { group in
      for _ in 0..<4 {
        group.addTask {
          let tally = Tally(5)
          for _ in 0..<2000 { tally.run(pool, chunks: 5) }
          return tally.isExact
        }
      }
      return await group.reduce(true) { $0 && $1 }
    }
    #expect(exact)
  }

  @Test("finishes while other threads keep every core busy")
  func busyCores() throws {
    let spinners = Spinners()
    let count = min(ProcessInfo.processInfo.activeProcessorCount, 4)
    for _ in 0..<count { Thread.detachNewThread { spinners.spin() } }
    defer {
      spinners.stop.store(true, ordering: .relaxed)
      while spinners.running.load(ordering: .relaxed) > 0 { sched_yield() }
    }
    while spinners.running.load(ordering: .relaxed) < count { sched_yield() }
    let pool = try WorkerPool(threads: 3)
    let tally = Tally(8)
    for _ in 0..<300 { tally.run(pool, chunks: 8) }
    #expect(tally.isExact)
  }

  @Test("gives a worker that has lost its core nothing but the chunk it has begun")
  func heldWorkers() throws {
    let pool = try WorkerPool(threads: 3)
    let caller = pthread_self()
    for _ in 0..<200 {
      let held = Atomic(0)
      let done = Atomic(0)
      let late = Atomic(0)
      let deadline = Date(timeIntervalSinceNow: patience)
      pool.run(chunks: 8) { _ in
        if pthread_equal(pthread_self(), caller) != 0 {
          done.wrappingAdd(1, ordering: .sequentiallyConsistent)
        } else {
          // Stands still until the caller has done every other chunk; with a static split it never would.
          held.wrappingAdd(1, ordering: .sequentiallyConsistent)
          while held.load(ordering: .sequentiallyConsistent) + done.load(ordering: .sequentiallyConsistent)
            < 8
          {
            if Date() > deadline {
              late.wrappingAdd(1, ordering: .relaxed)
              return
            }
            sched_yield()
          }
        }
      }
      try #require(late.load(ordering: .relaxed) == 0)
      #expect(held.load(ordering: .relaxed) <= 2)
    }
  }

  private final class Spinners: Sendable {
    let stop = Atomic(false)
    let running = Atomic(0)

    func spin() {
      running.wrappingAdd(1, ordering: .relaxed)
      while !stop.load(ordering: .relaxed) {}
      running.wrappingSubtract(1, ordering: .relaxed)
    }
  }
}
