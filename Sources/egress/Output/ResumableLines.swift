#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A file of lines that a long job appends to, and that an interrupted one leaves with an incomplete last line.
///
/// Nothing is changed before ``beginAppending()``, so that a file that turns out to be something else stays as it is.
final class ResumableLines {
  /// Whole lines that an earlier run has left, without their ends.
  let lines: [ArraySlice<UInt8>]
  /// What follows the last line's end.
  let rest: ArraySlice<UInt8>
  private let descriptor: Int32
  private let name: String
  private let output: TextOutput
  /// Bytes of whole lines, or `nil` for something that is not a file, such as a pipe.
  private var length: Int?

  /// Opens or makes a file; `-` is standard output, which keeps nothing.
  ///
  /// - Throws: ``CommandError`` for one that cannot be written, or that another process is writing to.
  init(path: String) throws {
    let isStandard = path == "-"
    name = isStandard ? "standard output" : path
    descriptor = isStandard ? dup(STDOUT_FILENO) : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw CommandError("cannot write to \(path): \(systemMessage())") }
    output = TextOutput(descriptor: descriptor, name: name)
    var status = stat()
    guard !isStandard, fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      lines = []
      rest = []
      return
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw CommandError("another egress is writing to \(path)")
    }
    let (bytes, _) = try TextInput.bytes(path: path)
    let end = bytes.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    lines = bytes[..<end].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
    rest = bytes[end...]
    length = end
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Cuts off an incomplete last line.
  func beginAppending() throws {
    guard let length else { return }
    guard ftruncate(descriptor, off_t(length)) == 0, lseek(descriptor, off_t(length), SEEK_SET) >= 0 else {
      throw CommandError("cannot write to \(name): \(systemMessage())")
    }
  }

  /// Appends a line. On failure the file is cut back to its whole lines.
  func append(_ line: String) throws {
    do {
      try output.write(line + "\n")
    } catch {
      if let length { _ = ftruncate(descriptor, off_t(length)) }
      throw error
    }
    if let known = length { length = known + line.utf8.count + 1 }
  }
}
