import DecoderModels
import EarlyExit

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// A line of a batch's results.
struct BatchResult: Codable {
  var id: BatchIdentifier
  /// What it was made with: see ``BatchSettings``. Absent in files of the first version.
  var settings: String?
  var text: String
  var tokenIds: [TokenID]
  var promptTokenIds: [TokenID]
  var stopReason: StopReason
  /// Present where tokens could leave early.
  var averageExitLayer: Double?
}

/// The file that a batch writes its results to, a whole line at a time.
final class BatchOutput {
  private let descriptor: Int32
  private let name: String
  private let output: TextOutput
  /// Bytes of whole lines, or `nil` for something that is not a file, such as a pipe.
  private var length: Int?
  /// Results that an earlier run has left.
  private(set) var completed = 0

  /// Opens the file, keeps the results of an earlier run of the same batch and cuts off an incomplete last line.
  ///
  /// - Throws: ``CommandError`` when the file holds anything else: it is then left as it is.
  init(path: String, records: [(id: BatchIdentifier, settings: String)], input: String) throws {
    name = path
    if path == "-" {
      descriptor = dup(STDOUT_FILENO)
    } else {
      descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    }
    guard descriptor >= 0 else { throw CommandError("cannot write to \(path): \(systemMessage())") }
    output = TextOutput(descriptor: descriptor, name: path == "-" ? "standard output" : path)
    var status = stat()
    guard path != "-", fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else { return }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      throw CommandError("another egress is writing to \(path)")
    }
    try resume(records, input: input)
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  /// Appends a result. On failure the file is cut back to its whole lines.
  func append(_ result: BatchResult) throws {
    let line = try JSONOutput.line(result) + "\n"
    do {
      try output.write(line)
    } catch {
      if let length { _ = ftruncate(descriptor, off_t(length)) }
      throw error
    }
    if let known = length { length = known + line.utf8.count }
  }

  private func resume(_ records: [(id: BatchIdentifier, settings: String)], input: String) throws {
    let (bytes, _) = try TextInput.bytes(path: name)
    var start = 0
    while let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) {
      let place = "\(name) line \(completed + 1)"
      guard let result = try? JSONOutput.decode(BatchResult.self, from: bytes[start..<end]) else {
        throw CommandError("\(place) is not a result; choose another --output")
      }
      guard completed < records.count else {
        throw CommandError("\(name) has more results than \(input) has documents; choose another --output")
      }
      guard result.id == records[completed].id else {
        throw CommandError(
          "\(place) is for \(result.id), where \(input) has \(records[completed].id); choose another --output"
        )
      }
      guard result.settings == records[completed].settings else {
        throw CommandError(
          "\(place) was made with another model, with other options or of another text; give the same again, or "
            + "choose another --output")
      }
      completed += 1
      start = end + 1
    }
    // A file that is not a batch's output may have no line's end at all; only what looks like the beginning of a
    // result is cut off.
    let rest = bytes[start...]
    guard rest.isEmpty || rest.first == UInt8(ascii: "{") else {
      throw CommandError("\(name) line \(completed + 1) is not a result; choose another --output")
    }
    guard ftruncate(descriptor, off_t(start)) == 0, lseek(descriptor, off_t(start), SEEK_SET) >= 0 else {
      throw CommandError("cannot write to \(name): \(systemMessage())")
    }
    length = start
  }
}
