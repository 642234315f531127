import ArgumentParser

/// The bar of work that an interruption ends, and that the same command goes on with.
struct WorkProgress {
  private let path: String?
  private let total: Int
  private let bar: ProgressBar

  /// - Parameters:
  ///   - path: The file that results go to, where they stay after an interruption.
  ///   - before: What an earlier run has done.
  init(path: String? = nil, before: Int, total: Int, what: String) {
    (self.path, self.total) = (path, total)
    if let path, before > 0 { Console.note("\(path) has \(min(before, total)) of \(total) \(what) already") }
    bar = ProgressBar(total: total, what: what)
    Interrupt.watch()
    bar.show(done: before)
  }

  func show(_ done: Int) { bar.show(done: done) }

  func clear() { bar.clear() }

  /// How the command ends after an interruption.
  ///
  /// - Parameter done: What is in the file.
  func interrupted(_ done: Int? = nil) -> ExitCode {
    bar.clear()
    if let path, let done {
      Console.note("\(path) has \(done) of \(total) documents; the same command goes on from there")
    }
    return ExitCode(Interrupt.exitCode)
  }
}
