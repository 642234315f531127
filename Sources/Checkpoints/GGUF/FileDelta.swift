import CZlib
import Crypto
import FileFormats

/// A file as its difference from another: what training changed of a model, in as few bytes as that takes.
///
/// The result is put together of ranges of the base and of new bytes, and then some of its nibbles (4-bit codes of
/// weights) move on by a number modulo 16. Which nibbles move is stored as the gaps between them, a byte each where
/// they are short, since gaps and numbers compressed by themselves come close to their entropy.
///
/// Layout, little-endian: `EGRDELTA`, version `UInt32` 1; of base and result a length `UInt64` and a SHA-256; the
/// number of segments `UInt32`, and each as a byte 0, offset and length `UInt64` in the base, or a byte 1, a length
/// `UInt64` and the bytes; then `UInt64` numbers of changes, of bytes of gaps, of these compressed, and of differences
/// compressed; then the two zlib streams. A gap of `g` nibbles between two that change is `g / 255` bytes of 255 and
/// one of `g % 255`. Differences stand two to a byte, the lower half first.
public struct FileDelta {
  /// SHA-256 of the file that the delta is to be applied to, in hexadecimal.
  public let baseDigest: String
  /// SHA-256 of the file that it makes, in hexadecimal.
  public let resultDigest: String
  /// Bytes of the file that it makes.
  public let resultSize: Int
  /// Nibbles that change.
  public let changes: Int

  private enum Segment {
    case base(Range<Int>)
    case bytes(Range<Int>)
  }

  private let file: MappedFile
  private let baseSize: Int
  private let segments: [Segment]
  private let gaps: [UInt8]
  private let differences: [UInt8]

  /// Reads a delta and checks all of it.
  ///
  /// - Throws: ``CheckpointError`` for a file that is cut short or altered so that it cannot be a delta.
  /// - Complexity: O(bytes of the file + changes).
  public init(path: String) throws {
    let file = try MappedFile(path: path)
    var cursor = ByteCursor(file)
    let magic = try cursor.skip(8, "magic number")
    guard file.bytes[magic..<magic + 8].elementsEqual(Array("EGRDELTA".utf8)) else {
      throw CheckpointError.damaged(path, "magic number", expected: "EGRDELTA", found: "other bytes")
    }
    let version = try cursor.read(UInt32.self, "version")
    guard version == 1 else {
      throw CheckpointError.unsupported(path, "version", expected: "1", found: "\(version)")
    }
    func size(_ field: String) throws -> Int {
      let stored = try cursor.read(UInt64.self, field)
      // Sums of two such numbers cannot overflow.
      guard stored <= 1 << 60 else {
        throw CheckpointError.damaged(path, field, expected: "a size in bytes", found: "\(stored)")
      }
      return Int(stored)
    }
    func digest(_ field: String) throws -> String {
      let start = try cursor.skip(32, field)
      return FileDigest.hexadecimal(file.bytes[start..<start + 32])
    }
    let baseSize = try size("base size")
    let baseDigest = try digest("base digest")
    let resultSize = try size("result size")
    let resultDigest = try digest("result digest")

    var segments: [Segment] = []
    var length = 0
    for index in 0..<(try cursor.read(UInt32.self, "segments")) {
      let field = "segment \(index)"
      switch try cursor.read(UInt8.self, field) {
      case 0:
        let (start, count) = (try size(field), try size(field))
        guard start + count <= baseSize else {
          throw CheckpointError.damaged(
            path, field, expected: "bytes of a base of \(baseSize)", found: "\(start) to \(start + count)")
        }
        segments.append(.base(start..<start + count))
        length += count
      case 1:
        let count = try cursor.readCount(bytesEach: 1, field)
        let start = try cursor.skip(count, field)
        segments.append(.bytes(start..<start + count))
        length += count
      case let kind:
        throw CheckpointError.damaged(path, field, expected: "kind 0 or 1", found: "\(kind)")
      }
      guard length <= resultSize else { break }
    }
    guard length == resultSize else {
      throw CheckpointError.damaged(
        path, "segments", expected: "\(resultSize) bytes together", found: "\(length)")
    }

    let changes = try size("changes")
    let gapBytes = try size("bytes of gaps")
    // Of which each ends one gap, or stands for 255 nibbles of the result.
    guard changes <= gapBytes, gapBytes - changes <= resultSize / 127 + 1 else {
      throw CheckpointError.damaged(
        path, "bytes of gaps", expected: "those of \(changes) changes in \(resultSize) bytes",
        found: "\(gapBytes)")
    }
    let packedGaps = try cursor.readCount(bytesEach: 1, "compressed gaps")
    let packedDifferences = try cursor.readCount(bytesEach: 1, "compressed differences")
    let gaps = try Self.inflate(&cursor, packedGaps, to: gapBytes, "gaps")
    let differences = try Self.inflate(&cursor, packedDifferences, to: (changes + 1) / 2, "differences")
    guard cursor.remaining == 0 else {
      throw CheckpointError.damaged(
        path, "end", expected: "the end of the file", found: "\(cursor.remaining) more bytes")
    }
    var (ends, nibbles) = (0, 0)
    for byte in gaps {
      nibbles += Int(byte)
      if byte != 255 { (ends, nibbles) = (ends + 1, nibbles + 1) }
    }
    guard ends == changes, gaps.last != 255, nibbles <= 2 * resultSize else {
      throw CheckpointError.damaged(
        path, "gaps", expected: "\(changes) within \(2 * resultSize) nibbles",
        found: "\(ends) up to \(nibbles)")
    }
    self.file = file
    self.baseSize = baseSize
    self.baseDigest = baseDigest
    self.resultSize = resultSize
    self.resultDigest = resultDigest
    self.segments = segments
    self.changes = changes
    self.gaps = gaps
    self.differences = differences
  }

  private static func inflate(
    _ cursor: inout ByteCursor, _ packed: Int, to count: Int, _ field: String
  ) throws -> [UInt8] {
    let path = cursor.file.path
    let start = try cursor.skip(packed, field)
    let source = UnsafeRawBufferPointer(rebasing: cursor.file.bytes[start..<start + packed])
    var (status, length, used) = (Z_OK, uLongf(0), uLong(packed))
    // One byte of room, since zlib wants an address even for nothing.
    var result = [UInt8](unsafeUninitializedCapacity: max(count, 1)) { buffer, initialized in
      length = uLongf(buffer.count)
      status = uncompress2(
        buffer.baseAddress, &length, source.bindMemory(to: UInt8.self).baseAddress, &used)
      initialized = status == Z_OK ? Int(length) : 0
    }
    guard status == Z_OK, Int(length) == count, Int(used) == packed else {
      throw CheckpointError.damaged(
        path, field, expected: "\(packed) bytes of zlib that make \(count)",
        found: status == Z_OK ? "\(used) that make \(length)" : "other bytes")
    }
    result.removeLast(result.count - count)
    return result
  }

  /// Bytes of the file that the delta makes of `base`.
  ///
  /// - Parameters:
  ///   - base: Path of the file that it was made against; it stays as it is.
  ///   - write: Called with parts of the result, one after the other.
  /// - Throws: ``CheckpointError`` for a base of another size or hash, before anything is written, or a result of
  ///   another hash, after that; and what `write` throws.
  /// - Complexity: O(bytes of the result), holding a part of it at a time.
  public func apply(to base: String, write: (UnsafeRawBufferPointer) throws -> Void) throws {
    let source = try MappedFile(path: base)
    guard source.bytes.count == baseSize else {
      throw CheckpointError(
        kind: .unsupported, file: base, field: "",
        expected: "the \(baseSize) bytes that \(file.path) was made for",
        found: "\(source.bytes.count)")
    }
    let found = try FileDigest.sha256(path: base)
    guard found == baseDigest else {
      throw CheckpointError(
        kind: .unsupported, file: base, field: "",
        expected: "SHA-256 \(baseDigest), for which \(file.path) was made",
        found: found)
    }
    defer { withExtendedLifetime((source, file)) {} }
    var hash = SHA256()
    var walk = Walk(gaps: gaps, differences: differences)
    var done = 0
    for segment in segments {
      let bytes =
        switch segment {
        case .base(let range): UnsafeRawBufferPointer(rebasing: source.bytes[range])
        case .bytes(let range): UnsafeRawBufferPointer(rebasing: file.bytes[range])
        }
      for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
        var chunk = Array(bytes[start..<min(start + 1 << 20, bytes.count)])
        walk.change(&chunk, at: done)
        try chunk.withUnsafeBytes {
          hash.update(bufferPointer: $0)
          try write($0)
        }
        done += chunk.count
      }
    }
    let result = FileDigest.hexadecimal(hash.finalize())
    guard result == resultDigest else {
      throw CheckpointError.damaged(
        file.path, "result", expected: "SHA-256 \(resultDigest)", found: result)
    }
  }

  /// The place among the changes that the result has come to.
  private struct Walk {
    let gaps: [UInt8]
    let differences: [UInt8]
    var index = 0
    var change = 0
    /// The nibble that changes next, or `nil` when none does any more.
    var nibble: Int?

    init(gaps: [UInt8], differences: [UInt8]) {
      self.gaps = gaps
      self.differences = differences
      nibble = next(after: -1)
    }

    private mutating func next(after last: Int) -> Int? {
      var place = last + 1
      while index < gaps.count {
        let byte = gaps[index]
        index += 1
        place += Int(byte)
        if byte != 255 { return place }
      }
      return nil
    }

    mutating func change(_ chunk: inout [UInt8], at start: Int) {
      while let place = nibble, place / 2 < start + chunk.count {
        let difference = differences[change / 2] >> (change % 2 * 4) & 15
        let byte = chunk[place / 2 - start]
        chunk[place / 2 - start] =
          place % 2 == 0
          ? byte & 0xF0 | (byte &+ difference) & 15
          : byte & 15 | (byte &+ difference << 4) & 0xF0
        change += 1
        nibble = next(after: place)
      }
    }
  }
}
