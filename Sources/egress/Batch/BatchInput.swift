import EarlyExit
import Generation

/// A document of a batch: its identifier, which goes to the output as it came, and what to do.
struct BatchRecord {
  var id: BatchIdentifier
  var item: DocumentBatch.Item
  /// The document with the white space at its ends.
  var original: String
  /// What a good output may be; `nil` where the document has none.
  var references: [String]?
}

/// What a document of a batch says about the work on it.
struct RecordedRequest {
  var question: String?
  /// What a summary is to be about.
  var query: String?

  /// The task of a document that is answered from where it brings a question, and summarised otherwise.
  var task: DocumentTask {
    question.map { .answer(question: $0) } ?? .summary(SummaryRequest(focus: focus))
  }

  /// The query, unless it is empty.
  var focus: String? {
    let text = query?.trimmingWhitespace() ?? ""
    return text.isEmpty ? nil : text
  }
}

/// An identifier is a text or a whole number.
enum BatchIdentifier: Codable, Hashable, CustomStringConvertible {
  case text(String)
  case number(Int)

  init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    self =
      if let number = try? value.decode(Int.self) { .number(number) } else {
        .text(try value.decode(String.self))
      }
  }

  func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    switch self {
    case .text(let text): try value.encode(text)
    case .number(let number): try value.encode(number)
    }
  }

  var description: String {
    switch self {
    case .text(let text): "\"\(text)\""
    case .number(let number): "\(number)"
    }
  }
}

/// A JSON Lines file of documents.
enum BatchInput {
  private struct Line: Decodable {
    var id: BatchIdentifier
    var document: String
    var request: RecordedRequest
    var references: [String]?

    enum CodingKeys: CodingKey { case id, document, question, query, references }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.container(keyedBy: CodingKeys.self)
      id = try fields.decode(BatchIdentifier.self, forKey: .id)
      document = try fields.decode(String.self, forKey: .document)
      request = RecordedRequest(
        question: try fields.decodeIfPresent(String.self, forKey: .question),
        query: try fields.decodeIfPresent(String.self, forKey: .query))
      // Whoever needs references says so; a file for summarising may have a field of that name for its own ends.
      references = try? fields.decode([String].self, forKey: .references)
    }
  }

  /// Reads and checks the whole file, so that a mistake in its last line does not show after an hour of work.
  ///
  /// - Throws: ``CommandError`` naming the line.
  static func read(
    _ path: String, makeTask: (RecordedRequest) throws -> DocumentTask = { $0.task }
  ) throws -> [BatchRecord] {
    let (bytes, name) = try TextInput.bytes(path: path)
    var records: [BatchRecord] = []
    var lines: [BatchIdentifier: Int] = [:]
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      .enumerated()
    {
      if line.allSatisfy({ $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\t") })
      {
        continue
      }
      let place = "\(name) line \(index + 1)"
      guard String(validating: line, as: UTF8.self) != nil else {
        throw CommandError("\(place) is not UTF-8 text")
      }
      let parsed: Line
      do {
        parsed = try JSONOutput.decode(Line.self, from: line)
      } catch let error as DecodingError {
        throw CommandError("\(place): \(error.sentence)")
      }
      if let earlier = lines.updateValue(index + 1, forKey: parsed.id) {
        throw CommandError("\(place): line \(earlier) has the id \(parsed.id) already")
      }
      let document = parsed.document.trimmingWhitespace()
      guard !document.isEmpty else { throw CommandError("\(place): the document is empty") }
      let task: DocumentTask
      do {
        task = try makeTask(parsed.request)
      } catch {
        throw CommandError("\(place): \(error)")
      }
      records.append(
        BatchRecord(
          id: parsed.id, item: .init(task: task, document: document), original: parsed.document,
          references: parsed.references))
    }
    guard !records.isEmpty else { throw CommandError("\(name) is empty") }
    return records
  }
}

extension DecodingError {
  /// What is wrong with a line of JSON.
  var sentence: String {
    switch self {
    case .keyNotFound(let key, _):
      "the field \(key.stringValue) is missing"
    case .typeMismatch(_, let context) where context.codingPath.isEmpty:
      "it is not a JSON object"
    case .typeMismatch(_, let context), .valueNotFound(_, let context):
      "the field \(context.codingPath.map(\.stringValue).joined(separator: ".")) is of the wrong kind"
    case .dataCorrupted: "it is not JSON"
    @unknown default: "it is not what is expected"
    }
  }
}
