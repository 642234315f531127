#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// What tells, without reading it, whether a file is as it was: its length, and when it was written to last.
package struct FileState: Codable, Sendable, Equatable {
  package let path: String
  package let byteCount: Int
  /// Nanoseconds since 1970; of far centuries, which a file may claim, what is left of them in 64 bits.
  package let modified: Int

  /// - Throws: ``FileError`` for what is missing or cannot be looked at.
  package init(of path: String) throws(FileError) {
    var status = stat()
    guard stat(path, &status) == 0 else { throw MappedFile.unreadable(path, MappedFile.systemMessage(errno)) }
    self.path = path
    byteCount = Int(status.st_size)
    #if canImport(Darwin)
      let time = status.st_mtimespec
    #else
      let time = status.st_mtim
    #endif
    modified = Int(time.tv_sec) &* 1_000_000_000 &+ Int(time.tv_nsec)
  }
}
