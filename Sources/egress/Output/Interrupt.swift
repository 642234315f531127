import Foundation
import Synchronization

/// Ctrl-C, and a scheduler's SIGTERM, as a wish that work looks at between tokens, so that what was written so far
/// stands.
enum Interrupt {
  private static let flag = Atomic(false)

  private static let isTermination = Atomic(false)

  /// Exit code of an interrupted command: 130 after Ctrl-C, 143 after SIGTERM.
  static var exitCode: Int32 { isTermination.load(ordering: .relaxed) ? 143 : 130 }

  /// Seconds after which SIGTERM ends the process even within a token: schedulers kill soon after. Lines are written
  /// whole, and what is left of one is cut off by the next run.
  private static let patience: UInt32 = 1

  /// From now on SIGTERM ends the process at once. Without this the first process of a container would not notice it.
  static func endOnTermination() {
    signal(SIGTERM) { _ in _exit(143) }
  }

  static var isRequested: Bool { flag.load(ordering: .relaxed) }

  /// From now on Ctrl-C and SIGTERM set the flag; a second one ends the process at once. Called after the input is
  /// read, which Ctrl-C should end the usual way.
  static func watch() {
    // Initialises the flags here: a signal handler must not be the first to touch them.
    flag.store(false, ordering: .relaxed)
    _ = exitCode
    signal(SIGINT) { _ in
      if Interrupt.flag.exchange(true, ordering: .relaxed) { _exit(Interrupt.exitCode) }
    }
    signal(SIGTERM) { _ in
      Interrupt.isTermination.store(true, ordering: .relaxed)
      if Interrupt.flag.exchange(true, ordering: .relaxed) { _exit(Interrupt.exitCode) }
      alarm(Interrupt.patience)
    }
    signal(SIGALRM) { _ in _exit(Interrupt.exitCode) }
    // A program that starts this one from a thread with its signals blocked hands that down.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    sigaddset(&signals, SIGTERM)
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  /// From now on Ctrl-C ends the process again.
  static func ignoreNoMore() { signal(SIGINT, SIG_DFL) }
}
