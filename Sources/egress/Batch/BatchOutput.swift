import Certification
import EarlyExit
import FileFormats
import Generation
import Transformers

/// A line of a batch's results.
struct BatchResult: Codable {
  var id: DocumentIdentifier
  /// What it was made with: see ``BatchSettings``. Absent in files of the first version.
  var settings: String?
  var text: String
  var tokenIds: [TokenID]
  var promptTokenIds: [TokenID]
  var stopReason: StopReason
  /// Present where tokens could leave early.
  var averageExitLayer: Double?
  /// Present where a certificate has a guard.
  var `guard`: GuardResult?
  /// Tokens that were kept where the output was brought back to full depth; absent where it was not.
  var trippedAt: Int?
  /// Present for answers.
  var answered: Bool?
  /// Present with a certificate of answers: whether this one is given.
  var given: Bool?
  var confidence: Double?
  var source: DocumentAnswer.Source?
  /// Present for summaries.
  var sentences: [SupportedSentence]?
}

/// The file that a batch writes its results to, a whole line at a time.
final class BatchOutput {
  private let file: ResumableLines
  private let shard: ShardFile?
  /// Results that an earlier run has left.
  let completed: Int

  /// Opens the file, keeps the results of an earlier run of the same batch and cuts off an incomplete last line.
  ///
  /// - Parameter header: The first line of a shard, which is written at its partial path until ``finish()``; `nil` for
  ///   all documents.
  /// - Throws: ``CommandError`` when the file holds anything else: it is then left as it is.
  init(
    path: String, records: [(id: DocumentIdentifier, settings: String)], input: String,
    header: BatchShardHeader? = nil
  ) throws {
    shard = header == nil ? nil : ShardFile(path: path)
    let path = shard?.partialPath ?? path
    file = try ResumableLines(path: path)
    if let shard { try file.checkUnfinished(shard.path) }
    if let header, let first = file.lines.first, try !header.isContinued(by: first) {
      throw CommandError(
        "\(path) was begun with another model, with other options or on other documents; give the same "
          + "again, or choose another --output")
    }
    let headerCount = header == nil ? 0 : 1
    let results = file.lines.dropFirst(headerCount)
    for (index, line) in results.enumerated() {
      let place = "\(path) line \(index + headerCount + 1)"
      guard let result = try? JSONOutput.decode(BatchResult.self, from: line) else {
        throw CommandError("\(place) is not a result; choose another --output")
      }
      guard index < records.count else {
        throw CommandError("\(path) has more results than \(input) has documents; choose another --output")
      }
      guard result.id == records[index].id else {
        throw CommandError(
          "\(place) is for \(result.id), where \(input) has \(records[index].id); choose another --output")
      }
      guard result.settings == records[index].settings else {
        throw CommandError(
          "\(place) was made with another model, with other options or of another text; give the same again, or "
            + "choose another --output")
      }
    }
    completed = results.count
    // A file that is not a batch's output may have no line's end at all; only what looks like the beginning of a
    // result is cut off.
    guard file.rest.isEmpty || file.rest.first == UInt8(ascii: "{") else {
      throw CommandError("\(path) line \(file.lines.count + 1) is not a result; choose another --output")
    }
    try file.beginAppending()
    if let header, file.lines.isEmpty { try file.append(header.line()) }
  }

  /// Gives a shard's file its own name: all results are in it.
  func finish() throws {
    if let shard { try file.finish(as: shard.path) }
  }

  /// Appends a result. On failure the file is cut back to its whole lines.
  func append(_ result: BatchResult) throws { try file.append(JSONOutput.line(result)) }
}
