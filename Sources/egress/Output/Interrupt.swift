import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C as a wish that work looks at between tokens, so that what was written so far stands.
enum Interrupt {
  private static let flag = Atomic(false)

  /// Exit code of an interrupted command.
  static let exitCode: Int32 = 130

  static var isRequested: Bool { flag.load(ordering: .relaxed) }

  /// From now on Ctrl-C sets the flag; a second one ends the process at once. Called after the input is read, which
  /// Ctrl-C should end the usual way.
  static func watch() {
    // Initialises the flag here: a signal handler must not be the first to touch it.
    flag.store(false, ordering: .relaxed)
    signal(SIGINT) { _ in
      if Interrupt.flag.exchange(true, ordering: .relaxed) { _exit(Interrupt.exitCode) }
    }
    // A program that starts this one from a thread with its signals blocked hands that down.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_UNBLOCK, &signals, nil)
  }

  /// From now on Ctrl-C ends the process again.
  static func ignoreNoMore() { signal(SIGINT, SIG_DFL) }
}
