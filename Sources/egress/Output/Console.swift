import Foundation
import Generation

/// Messages for the user, on standard error.
enum Console {
  /// Whether standard error is a terminal, where progress may be shown.
  static let isTerminal = isatty(STDERR_FILENO) == 1

  /// Colours only where they can be seen and are not refused (no-color.org).
  private static let hasColor = isTerminal && allowsColor
  /// The same for standard output.
  static let outputHasColor = isatty(STDOUT_FILENO) == 1 && allowsColor

  private static let allowsColor: Bool = {
    func value(_ name: String) -> String { getenv(name).map { String(cString: $0) } ?? "" }
    return value("NO_COLOR").isEmpty && value("TERM") != "dumb"
  }()

  static func error(_ message: String) { write("egress:", color: "31", message) }
  static func warning(_ message: String) { write("egress:", color: "33", message) }
  static func note(_ message: String) { write("egress:", color: "2", message) }

  /// Shows text that is not a line of its own, such as a progress bar.
  static func show(_ text: String) {
    // Nothing can be said when standard error itself fails.
    try? TextOutput(descriptor: STDERR_FILENO, name: "standard error").write(text)
  }

  private static func write(_ label: String, color: String, _ message: String) {
    show((hasColor ? "\u{1B}[\(color)m\(label)\u{1B}[0m" : label) + " " + message + "\n")
  }
}

/// A line that shows how far a long job is; on a terminal only.
struct ProgressBar {
  private let total: Int
  private let what: String
  private let start = ContinuousClock.now

  init(total: Int, what: String) {
    self.total = total
    self.what = what
  }

  func show(done: Int, detail: String = "") {
    guard Console.isTerminal, total > 0 else { return }
    let width = 30
    let filled = min(width, done * width / total)
    let bar = String(repeating: "█", count: filled) + String(repeating: "·", count: width - filled)
    Console.show("\r\u{1B}[K\(bar) \(done)/\(total) \(what)\(detail)")
  }

  /// Shows how many are done a second and what is left of the time too, once the pace is known.
  ///
  /// - Parameter first: Those that were done before the bar was there.
  func show(done: Int, since first: Int) {
    let elapsed = start.duration(to: .now).seconds
    guard done > first, done < total, elapsed > 0 else { return show(done: done) }
    let pace = Double(done - first) / elapsed
    let left = Int((Double(total - done) / pace).rounded(.up))
    let time =
      left < 60 ? "\(left) s" : left < 3600 ? "\(left / 60) min" : "\(left / 3600) h \(left % 3600 / 60) min"
    show(done: done, detail: ", \(pace.formatted(places: pace < 10 ? 2 : 0)) a second, \(time) left")
  }

  /// Clears the line, so that what follows starts on an empty one.
  func clear() {
    if Console.isTerminal, total > 0 { Console.show("\r\u{1B}[K") }
  }
}
