import Dispatch
import Synchronization

/// Waits for asynchronous work on the thread of a command that has nothing else to do.
enum Blocking {
  private final class Outcome: Sendable {
    let error = Mutex<(any Error)?>(nil)
  }

  static func run(_ body: @escaping @Sendable () async throws -> Void) throws {
    let outcome = Outcome()
    let done = DispatchSemaphore(value: 0)
    Task {
      do {
        try await body()
      } catch {
        outcome.error.withLock { $0 = error }
      }
      done.signal()
    }
    done.wait()
    if let error = outcome.error.withLock({ $0 }) { throw error }
  }
}
