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
  /// Results that an earlier run has left.
  let completed: Int

  /// Opens the file, keeps the results of an earlier run of the same batch and cuts off an incomplete last line.
  ///
  /// - Throws: ``CommandError`` when the file holds anything else: it is then left as it is.
  init(path: String, records: [(id: DocumentIdentifier, settings: String)], input: String) throws {
    file = try ResumableLines(path: path)
    for (index, line) in file.lines.enumerated() {
      let place = "\(path) line \(index + 1)"
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
    completed = file.lines.count
    // A file that is not a batch's output may have no line's end at all; only what looks like the beginning of a
    // result is cut off.
    guard file.rest.isEmpty || file.rest.first == UInt8(ascii: "{") else {
      throw CommandError("\(path) line \(completed + 1) is not a result; choose another --output")
    }
    try file.beginAppending()
  }

  /// Appends a result. On failure the file is cut back to its whole lines.
  func append(_ result: BatchResult) throws { try file.append(JSONOutput.line(result)) }
}
