import Foundation

/// Another program, run to its end.
enum Subprocess {
  enum Ending {
    case exited(Int32)
    case signalled(Int32)
    case notFound
  }

  /// Runs a program found on PATH. Its standard output goes to standard error: it is no result of ours.
  static func run(_ program: String, _ arguments: [String]) throws -> Ending {
    let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/local/bin:/usr/bin:/bin").split(
      separator: ":")
    let path = folders.map { "\($0)/\(program)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    guard let path else { return .notFound }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    process.standardOutput = FileHandle.standardError
    do {
      try process.run()
    } catch {
      throw CommandError("cannot run \(program): \(error.localizedDescription)")
    }
    process.waitUntilExit()
    return process.terminationReason == .exit
      ? .exited(process.terminationStatus) : .signalled(process.terminationStatus)
  }
}
