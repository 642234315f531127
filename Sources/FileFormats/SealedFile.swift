import Crypto

#if canImport(Darwin)
  import Darwin
#elseif canImport(Musl)
  import Musl
#else
  import Glibc
#endif

/// Reads a file whose last 32 bytes are the SHA-256 of all before them, once, from its beginning.
///
/// What is read lies in memory of the reader's own: a file that another program changes meanwhile is refused at worst,
/// where a mapping would show the change or end the process.
package final class SealedFileReader {
  /// Bytes of the seal.
  package static let sealByteCount = SHA256.byteCount

  package let path: String
  /// Bytes before the seal.
  package let byteCount: Int
  private let descriptor: Int32
  private var hash = SHA256()

  /// - Throws: ``FileError`` for what is missing, unreadable, or too short for a seal.
  package init(path: String) throws(FileError) {
    self.path = path
    let (descriptor, length) = try MappedFile.openForReading(path)
    self.descriptor = descriptor
    byteCount = max(0, length - SHA256.byteCount)
    guard length > SHA256.byteCount else {
      throw .damaged(path, "", expected: "a file with a SHA-256 at its end", found: "\(length) bytes")
    }
  }

  deinit { close(descriptor) }

  /// Reads the next bytes, as many as `target` has room for.
  ///
  /// - Throws: ``FileError`` where the file has fewer, or the system cannot read them.
  package func read(into target: UnsafeMutableRawBufferPointer) throws(FileError) {
    try readAll(into: target)
    hash.update(bufferPointer: UnsafeRawBufferPointer(target))
  }

  /// Reads the next bytes.
  ///
  /// - Parameter count: At most ``byteCount``, so that memory stays in proportion to the file.
  package func read(_ count: Int) throws(FileError) -> [UInt8] {
    guard (0...byteCount).contains(count) else {
      throw .damaged(path, "", expected: "\(count) bytes", found: "\(byteCount)")
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 16)
    defer { buffer.deallocate() }
    try read(into: buffer)
    return Array(buffer)
  }

  /// Compares the seal with what has been read; to be called once, when ``byteCount`` bytes have been.
  package func checkSeal() throws(FileError) {
    let seal = UnsafeMutableRawBufferPointer.allocate(byteCount: SHA256.byteCount, alignment: 16)
    defer { seal.deallocate() }
    try readAll(into: seal)
    guard hash.finalize().elementsEqual(seal) else {
      throw .damaged(path, "", expected: "the contents that were written", found: "others, by their SHA-256")
    }
  }

  /// Whether the last bytes of a mapped file are the SHA-256 of those before.
  package static func isSealed(_ file: MappedFile) -> Bool {
    guard file.bytes.count > sealByteCount else { return false }
    let end = file.bytes.count - sealByteCount
    var hash = SHA256()
    for begin in stride(from: 0, to: end, by: 1 << 20) {
      let chunk = begin..<min(begin + 1 << 20, end)
      hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: file.bytes[chunk]))
    }
    return hash.finalize().elementsEqual(file.bytes[end...])
  }

  private func readAll(into target: UnsafeMutableRawBufferPointer) throws(FileError) {
    var filled = 0
    while filled < target.count, let start = target.baseAddress {
      let count = systemRead(descriptor, start + filled, target.count - filled)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        throw FileError(
          kind: .unreadable, file: path, field: "", expected: "a readable file",
          found: MappedFile.systemMessage(errno))
      }
      guard count > 0 else {
        throw .damaged(path, "", expected: "more bytes", found: "the end of the file")
      }
      filled += count
    }
  }
}

/// Writes a file beside the one that it replaces, ends it with the SHA-256 of what was written, and gives it its name
/// when all of it is on the disk. Whoever opens the name finds the old contents or the new ones.
package final class SealedFileWriter {
  private let path: String
  private let partial: String
  private let descriptor: Int32
  private var hash = SHA256()
  private var isFinished = false

  /// - Returns: `nil` where another process is writing the same file.
  /// - Throws: ``FileError`` where the folder is missing or cannot be written to.
  package init?(path: String) throws(FileError) {
    self.path = path
    partial = path + ".partial"
    var found: Int32?
    // Between opening and locking, another writer may have given the file its last name.
    for _ in 0..<100 where found == nil {
      let descriptor = open(partial, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0o600)
      guard descriptor >= 0 else { throw Self.failure(path, errno) }
      guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
        let code = errno
        close(descriptor)
        if code == EWOULDBLOCK { return nil }
        throw Self.failure(path, code)
      }
      var (own, named) = (stat(), stat())
      guard fstat(descriptor, &own) == 0, own.st_mode & S_IFMT == S_IFREG else {
        close(descriptor)
        throw Self.failure(path, EEXIST)
      }
      if stat(partial, &named) == 0, named.st_ino == own.st_ino, named.st_dev == own.st_dev {
        found = descriptor
      } else {
        close(descriptor)
      }
    }
    guard let found else { return nil }
    descriptor = found
    // What a process left that was killed.
    guard ftruncate(descriptor, 0) == 0 else { throw Self.failure(path, errno) }
  }

  deinit {
    if !isFinished { unlink(partial) }
    close(descriptor)
  }

  /// Appends bytes.
  package func write(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    hash.update(bufferPointer: bytes)
    try writeAll(bytes)
  }

  /// Appends the seal and replaces the file.
  package func finish() throws(FileError) {
    let seal = UnsafeMutableRawBufferPointer.allocate(byteCount: SHA256.byteCount, alignment: 16)
    defer { seal.deallocate() }
    seal.copyBytes(from: Array(hash.finalize()))
    try writeAll(UnsafeRawBufferPointer(seal))
    guard fsync(descriptor) == 0, rename(partial, path) == 0 else { throw Self.failure(path, errno) }
    isFinished = true
  }

  private func writeAll(_ bytes: UnsafeRawBufferPointer) throws(FileError) {
    var written = 0
    while written < bytes.count, let start = bytes.baseAddress {
      let count = systemWrite(descriptor, start + written, bytes.count - written)
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw Self.failure(path, errno) }
      written += count
    }
  }

  private static func failure(_ path: String, _ code: Int32) -> FileError {
    FileError(
      kind: .unreadable, file: path, field: "", expected: "a file that can be written",
      found: strerror(code).map { String(cString: $0) } ?? "error \(code)")
  }
}

// Methods hide the system's functions of their names.
private func systemRead(_ descriptor: Int32, _ target: UnsafeMutableRawPointer, _ count: Int) -> Int {
  read(descriptor, target, count)
}

private func systemWrite(_ descriptor: Int32, _ source: UnsafeRawPointer, _ count: Int) -> Int {
  write(descriptor, source, count)
}
