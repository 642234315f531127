import Foundation

/// A file of lines that a long job appends to, and that an interrupted one leaves with an incomplete last line.
///
/// Nothing is changed before ``beginAppending()``, so that a file that turns out to be something else stays as it is.
package final class ResumableLines {
  /// Whole lines that an earlier run has left, without their ends.
  package let lines: [ArraySlice<UInt8>]
  /// What follows the last line's end.
  package let rest: ArraySlice<UInt8>
  private let descriptor: Int32
  private let name: String
  /// Bytes of whole lines, or `nil` for something that is not a file, such as a pipe.
  private var length: Int?

  /// Opens or makes a file; `-` is standard output, which keeps nothing.
  ///
  /// - Throws: ``CertificationError`` for one that cannot be written, or that another process is writing to.
  package init(path: String) throws {
    let isStandard = path == "-"
    name = isStandard ? "standard output" : path
    descriptor = isStandard ? dup(STDOUT_FILENO) : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else {
      throw CertificationError(.storage, "cannot write to \(path): \(systemMessage())")
    }
    var status = stat()
    guard !isStandard, fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      lines = []
      rest = []
      return
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw CertificationError(.storage, "another egress is writing to \(path)")
    }
    let bytes = try Self.contents(descriptor, name: name)
    let end = bytes.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0
    lines = bytes[..<end].split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .dropLast()
    rest = bytes[end...]
    length = end
  }

  /// What is in the file.
  private static func contents(_ descriptor: Int32, name: String) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = buffer.withUnsafeMutableBytes { systemRead(descriptor, $0) }
      if count < 0 {
        if errno == EINTR { continue }
        throw CertificationError(.storage, "cannot read \(name): \(systemMessage())")
      }
      if count == 0 { return bytes }
      bytes.append(contentsOf: buffer[..<count])
    }
  }

  private func write(_ bytes: [UInt8]) throws {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { systemWrite(descriptor, $0) }
      if count < 0 {
        if errno == EINTR { continue }
        throw CertificationError(.storage, "cannot write to \(name): \(systemMessage())")
      }
      rest = rest.dropFirst(count)
    }
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Cuts off an incomplete last line.
  package func beginAppending() throws {
    guard let length else { return }
    guard ftruncate(descriptor, off_t(length)) == 0, lseek(descriptor, off_t(length), SEEK_SET) >= 0
    else {
      throw CertificationError(.storage, "cannot write to \(name): \(systemMessage())")
    }
  }

  /// Refuses to begin again what another process has finished since this one looked.
  package func checkUnfinished(_ path: String) throws {
    guard access(path, F_OK) == 0 else { return }
    unlink(name)
    throw CertificationError(.storage, "another egress has finished \(path) in the meantime")
  }

  /// Gives the file its last name, once everything is on the disk.
  package func finish(as path: String) throws {
    guard fsync(descriptor) == 0, rename(name, path) == 0 else {
      throw CertificationError(.storage, "cannot write to \(path): \(systemMessage())")
    }
  }

  /// Appends a line. On failure the file is cut back to its whole lines.
  package func append(_ line: String) throws {
    do {
      try write(Array((line + "\n").utf8))
    } catch {
      if let length { _ = ftruncate(descriptor, off_t(length)) }
      throw error
    }
    if let known = length { length = known + line.utf8.count + 1 }
  }
}

/// What the operating system says about its last failure.
private func systemMessage() -> String { String(cString: strerror(errno)) }

// A method hides the system's function of its name.
private func systemRead(_ descriptor: Int32, _ bytes: UnsafeMutableRawBufferPointer) -> Int {
  read(descriptor, bytes.baseAddress, bytes.count)
}

private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
  write(descriptor, bytes.baseAddress, bytes.count)
}
