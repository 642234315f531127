import Checkpoints
import FileFormats
import Foundation
import TensorKernels

/// Matrices as they were packed, in the order in which a model is read.
final class PackedMatrices {
  var matrices: [(name: String, matrix: PackedMatrix)] = []
}

/// A file with a model's matrices as they lie in memory once they are packed. It is mapped, and nothing is packed: the
/// pages are the system's, which gives them to all processes that read the same model.
///
/// After eight bytes, `EGRPACK` and a line's end, stand the length of the ``Contents`` in eight more, the least
/// significant first, the contents in JSON, zeros up to a page's beginning, the matrices, each at a multiple of 64, and
/// the SHA-256 of all that.
package final class PackedCopy: Sendable {
  /// What is in the file, and what it was made of.
  package struct Contents: Codable {
    struct Matrix: Codable {
      var name: String
      /// From the beginning of the matrices.
      var offset: Int
      var byteCount: Int
    }

    /// ``PackedMatrix/layoutVersion``
    var layout = PackedMatrix.layoutVersion
    var compute: String
    /// The files of the model when they were packed.
    var source: [FileState]
    var matrices: [Matrix] = []

    /// Of a checkpoint as it is now.
    ///
    /// - Throws: `DecoderError` where its weights are not packed, or computed by an adapter; `CheckpointError` where a file
    ///   is gone.
    package init(of checkpoint: Checkpoint, _ compute: ComputePath) throws {
      guard [.quantized, .fourBit].contains(compute) else {
        throw DecoderError.resources(
          "packed weights are not kept with compute \(compute.rawValue): leave one of them out")
      }
      guard let source = try checkpoint.fileStates() else {
        throw DecoderError.resources("packed weights are not kept with an adapter: leave one of them out")
      }
      (self.compute, self.source) = (compute.rawValue, source)
    }

    func isOf(_ other: Contents) -> Bool {
      layout == other.layout && compute == other.compute && source == other.source
    }
  }

  private static let magic = Array("EGRPACK\n".utf8)
  private static let page = 4096

  private let file: MappedFile
  private let ranges: [String: Range<Int>]

  /// A matrix that is in the file.
  package func matrix(_ name: String) -> PackedMatrix.Stored? {
    ranges[name].flatMap {
      PackedMatrix.Stored(UnsafeRawBufferPointer(rebasing: file.bytes[$0]), owner: file)
    }
  }

  /// Opens the copy of a model.
  ///
  /// All of it is compared with its SHA-256, unless it has been before and was not written to since.
  ///
  /// - Returns: `nil` for one of other files, or of these as they were at another time, and for that of another version.
  /// - Throws: `FileError` for a file that is no copy, or was altered or cut.
  package init?(path: String, of wanted: Contents) throws(FileError) {
    let file = try MappedFile(path: path)
    func damaged(_ field: String, _ expected: String, _ found: String) -> FileError {
      .damaged(path, field, expected: expected, found: found)
    }
    let head = Self.magic.count + 8
    guard file.bytes.count >= head + SealedFileReader.sealByteCount, file.bytes.starts(with: Self.magic)
    else {
      throw damaged("", "a copy of packed weights", "\(file.bytes.count) bytes of something else")
    }
    let length = UInt64(littleEndian: file.bytes.loadUnaligned(fromByteOffset: head - 8, as: UInt64.self))
    let end = file.bytes.count - SealedFileReader.sealByteCount
    guard length <= UInt64(end - head) else {
      throw damaged("length of the contents", "at most \(end - head) bytes", "\(length)")
    }
    let contents: Contents
    do {
      contents = try JSONDecoder().decode(
        Contents.self, from: Data(file.bytes[head..<head + Int(length)]))
    } catch {
      throw damaged("contents", "what was packed, in JSON", "something else")
    }
    guard contents.isOf(wanted) else { return nil }
    let start = Self.firstPage(after: head + Int(length))
    var ranges: [String: Range<Int>] = [:]
    for matrix in contents.matrices {
      let (begin, isFar) = start.addingReportingOverflow(matrix.offset)
      guard !isFar, matrix.offset >= 0, matrix.offset % 64 == 0, matrix.byteCount > 0, begin <= end,
        matrix.byteCount <= end - begin
      else {
        throw damaged(
          FileError.printable(matrix.name), "bytes within the file's \(end)",
          "\(matrix.byteCount) at \(matrix.offset)")
      }
      ranges[matrix.name] = begin..<begin + matrix.byteCount
    }
    let state = try FileState(of: path)
    if Self.checked(path) != state {
      guard SealedFileReader.isSealed(file) else {
        throw damaged("", "the contents that were written", "others, by their SHA-256")
      }
      Self.note(state)
    }
    self.file = file
    self.ranges = ranges
  }

  /// Writes a copy, in the place of one that is there.
  ///
  /// - Returns: Whether it was written; not where another process is writing the same file.
  /// - Throws: `FileError` where the folder or the disk does not take it; what was there stays.
  static func write(_ packed: PackedMatrices, as facts: Contents, to path: String) throws(FileError) -> Bool {
    guard let writer = try SealedFileWriter(path: path) else { return false }
    var contents = facts
    var offset = 0
    for (name, matrix) in packed.matrices {
      contents.matrices.append(.init(name: name, offset: offset, byteCount: matrix.byteCount))
      offset += (matrix.byteCount + 63) & ~63
    }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys]
    guard let text = try? encoder.encode(contents) else {
      throw .damaged(path, "contents", expected: "what JSON can say", found: "something else")
    }
    var head = Data(magic)
    withUnsafeBytes(of: UInt64(text.count).littleEndian) { head.append(contentsOf: $0) }
    head.append(text)
    head.append(Data(count: firstPage(after: head.count) - head.count))
    try append(head, to: writer)
    // Written in large pieces, the file lies in large pieces in the system's memory, and is read as fast as any.
    var piece = Data()
    for (_, matrix) in packed.matrices {
      piece.append(matrix.matrix.data, count: matrix.byteCount)
      piece.append(Data(count: (64 - matrix.byteCount % 64) % 64))
      if piece.count >= 32 << 20 {
        try append(piece, to: writer)
        piece.removeAll(keepingCapacity: true)
      }
    }
    try append(piece, to: writer)
    try writer.finish()
    note(try FileState(of: path))
    return true
  }

  private static func append(_ data: Data, to writer: SealedFileWriter) throws(FileError) {
    let result = data.withUnsafeBytes { bytes in
      Result { () throws(FileError) in try writer.write(bytes) }
    }
    try result.get()
  }

  private static func firstPage(after count: Int) -> Int { (count + page - 1) / page * page }

  /// How the file was when it was compared with its SHA-256 last.
  private static func checked(_ path: String) -> FileState? {
    guard let data = FileManager.default.contents(atPath: path + ".checked") else { return nil }
    return try? JSONDecoder().decode(FileState.self, from: data)
  }

  /// Without the note, which may fail as it likes, the file is compared again.
  private static func note(_ state: FileState) {
    try? JSONEncoder().encode(state).write(
      to: URL(fileURLWithPath: state.path + ".checked"), options: .atomic)
  }
}
