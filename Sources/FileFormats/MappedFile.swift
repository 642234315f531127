#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// A whole file mapped into memory for reading.
///
/// `@unchecked Sendable`: the mapping is private and read-only, its address and length never change, and it is
/// released only in `deinit`, when nothing refers to it any more.
///
/// The mapping shows the file as it is. A file that another program cuts short while it is mapped makes the
/// system end the process at the next access; files should be replaced by renaming, not rewritten in place.
package final class MappedFile: @unchecked Sendable {
  package let path: String
  /// All bytes of the file; valid as long as this object lives. Never empty.
  package let bytes: UnsafeRawBufferPointer

  /// Opens a regular file for reading; the caller closes it.
  ///
  /// - Throws: ``FileError`` for what is missing, unreadable or not a regular file.
  static func openForReading(_ path: String) throws(FileError) -> (descriptor: Int32, byteCount: Int) {
    guard !path.utf8.contains(0) else { throw unreadable(path, "a path with a NUL character") }
    // Without O_NONBLOCK, opening a named pipe would wait for a writer.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw unreadable(path, systemMessage(errno)) }
    var status = stat()
    let problem =
      fstat(descriptor, &status) != 0
      ? systemMessage(errno)
      : status.st_mode & S_IFMT == S_IFDIR
        ? "a directory"
        : status.st_mode & S_IFMT != S_IFREG ? "something that is not a regular file" : nil
    if let problem {
      close(descriptor)
      throw unreadable(path, problem)
    }
    return (descriptor, Int(status.st_size))
  }

  static func unreadable(_ path: String, _ found: String) -> FileError {
    FileError(kind: .unreadable, file: path, field: "", expected: "a readable file", found: found)
  }

  /// Maps the file at `path`.
  ///
  /// - Throws: ``FileError`` for what is missing, unreadable, empty or not a regular file.
  package init(path: String) throws(FileError) {
    let (descriptor, length) = try Self.openForReading(path)
    defer { close(descriptor) }
    guard length > 0 else { throw Self.unreadable(path, "an empty file") }
    let address = mmap(nil, length, PROT_READ, MAP_PRIVATE, descriptor, 0)
    guard let address, address != MAP_FAILED else { throw Self.unreadable(path, Self.systemMessage(errno)) }
    self.path = path
    self.bytes = UnsafeRawBufferPointer(start: address, count: length)
  }

  /// Refuses what Git leaves in place of a large file that was not fetched.
  package func refusePointer() throws(FileError) {
    guard bytes.starts(with: "version https://git-lfs.github.com/spec/".utf8) else { return }
    throw FileError(
      kind: .unreadable, file: path, field: "", expected: "the file itself",
      found: "a Git LFS pointer to it: run \"git lfs pull\" in its repository")
  }

  deinit {
    munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
  }

  /// Tells the system that the pages touching `range` are not needed soon. They are read again when used.
  ///
  /// - Parameter range: byte offsets; what lies outside the file is left out.
  package func releasePages(_ range: Range<Int>) {
    let range = range.clamped(to: 0..<bytes.count)
    guard !range.isEmpty, let base = bytes.baseAddress else { return }
    let pageSize = max(Int(sysconf(Int32(_SC_PAGESIZE))), 1)
    // The mapping begins on a page. Whole pages are dropped even where a neighbour shares them: nothing is lost.
    let start = range.lowerBound / pageSize * pageSize
    _ = madvise(
      UnsafeMutableRawPointer(mutating: base + start), range.upperBound - start, MADV_DONTNEED)
  }

  /// Whether something is at `path`, readable or not.
  package static func exists(_ path: String) -> Bool { mode(path) != nil }

  package static func isDirectory(_ path: String) -> Bool {
    mode(path).map { $0 & S_IFMT == S_IFDIR } ?? false
  }

  private static func mode(_ path: String) -> mode_t? {
    var status = stat()
    return stat(path, &status) == 0 ? status.st_mode : nil
  }

  static func systemMessage(_ code: Int32) -> String {
    switch code {
    case ENOENT, ENOTDIR: "no such file"
    case EACCES, EPERM: "a file that may not be read"
    case EISDIR: "a directory"
    default: strerror(code).map { String(cString: $0) } ?? "error \(code)"
    }
  }
}
