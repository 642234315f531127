import FileFormats
import Foundation
import Generation

/// A document of a batch: its identifier, which goes to the output as it came, and what to do.
public struct DocumentRecord {
  /// What the file calls it.
  public var id: DocumentIdentifier
  /// What is asked about which document.
  public var item: DocumentBatch.Item
  /// The document with the white space at its ends.
  public var original: String
  /// What a good output may be; `nil` where the document has none.
  public var references: [String]?

  /// Puts a record together.
  public init(
    id: DocumentIdentifier, item: DocumentBatch.Item, original: String? = nil,
    references: [String]? = nil
  ) {
    self.id = id
    self.item = item
    self.original = original ?? item.document
    self.references = references
  }
}

/// What a document of a batch says about the work on it.
public struct RecordedRequest {
  /// What is asked about the document.
  public var question: String?
  /// What a summary is to be about.
  public var query: String?

  /// A request with a question, or with a query, or with neither.
  public init(question: String? = nil, query: String? = nil) {
    self.question = question
    self.query = query
  }

  /// The task of a document that is answered from where it brings a question, and summarised otherwise.
  public var task: DocumentTask {
    question.map { .answer(question: $0) } ?? .summary(SummaryRequest(focus: focus))
  }

  /// The query, unless it is empty.
  public var focus: String? {
    let text = query?.trimmingWhitespace() ?? ""
    return text.isEmpty ? nil : text
  }
}

/// An identifier is a text or a whole number.
public enum DocumentIdentifier: Codable, Sendable, Hashable, CustomStringConvertible {
  /// A text.
  case text(String)
  /// A whole number.
  case number(Int)

  /// Reads a number or a text.
  public init(from decoder: any Decoder) throws {
    let value = try decoder.singleValueContainer()
    self =
      if let number = try? value.decode(Int.self) { .number(number) } else {
        .text(try value.decode(String.self))
      }
  }

  /// Writes the identifier as it came: a number or a text.
  public func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    switch self {
    case .text(let text): try value.encode(text)
    case .number(let number): try value.encode(number)
    }
  }

  /// The identifier as JSON: a text in quotes, or a number.
  public var description: String {
    switch self {
    case .text(let text): "\"\(text)\""
    case .number(let number): "\(number)"
    }
  }
}

/// A JSON Lines file of documents.
public enum DocumentFile {
  private struct Line: Decodable {
    var id: DocumentIdentifier
    var document: String
    var request: RecordedRequest
    var references: [String]?

    enum CodingKeys: CodingKey { case id, document, question, query, references }

    init(from decoder: any Decoder) throws {
      let fields = try decoder.container(keyedBy: CodingKeys.self)
      id = try fields.decode(DocumentIdentifier.self, forKey: .id)
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
  /// - Parameters:
  ///   - path: The file.
  ///   - makeTask: What to do with a document that says this about the work on it.
  /// - Throws: ``CertificationError`` naming the line.
  public static func read(
    path: String, makeTask: (RecordedRequest) throws -> DocumentTask = { $0.task }
  ) throws -> [DocumentRecord] {
    let bytes: Data
    do {
      bytes = try Data(contentsOf: URL(fileURLWithPath: path))
    } catch {
      throw CertificationError(.documents, "cannot read \(path): \(error.localizedDescription)")
    }
    return try read([UInt8](bytes), name: path, makeTask: makeTask)
  }

  /// Reads and checks a file's bytes.
  ///
  /// - Parameters:
  ///   - bytes: The file, UTF-8.
  ///   - name: What the file is called in messages.
  ///   - makeTask: What to do with a document that says this about the work on it.
  /// - Throws: ``CertificationError`` naming the line.
  public static func read(
    _ bytes: [UInt8], name: String, makeTask: (RecordedRequest) throws -> DocumentTask = { $0.task }
  ) throws -> [DocumentRecord] {
    var records: [DocumentRecord] = []
    var lines: [DocumentIdentifier: Int] = [:]
    for (index, line) in bytes.split(
      separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false
    )
    .enumerated() {
      if line.allSatisfy({
        $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\r") || $0 == UInt8(ascii: "\t")
      }) {
        continue
      }
      let place = "\(name) line \(index + 1)"
      guard String(validating: line, as: UTF8.self) != nil else {
        throw CertificationError(.documents, "\(place) is not UTF-8 text")
      }
      let parsed: Line
      do {
        parsed = try JSONOutput.decode(Line.self, from: line)
      } catch let error as DecodingError {
        throw CertificationError(.documents, "\(place): \(error.sentence)")
      }
      if let earlier = lines.updateValue(index + 1, forKey: parsed.id) {
        throw CertificationError(
          .documents, "\(place): line \(earlier) has the id \(parsed.id) already")
      }
      let document = parsed.document.trimmingWhitespace()
      guard !document.isEmpty else {
        throw CertificationError(.documents, "\(place): the document is empty")
      }
      let task: DocumentTask
      do {
        task = try makeTask(parsed.request)
      } catch {
        throw CertificationError(.documents, "\(place): \(error)")
      }
      records.append(
        DocumentRecord(
          id: parsed.id, item: .init(task: task, document: document), original: parsed.document,
          references: parsed.references))
    }
    guard !records.isEmpty else { throw CertificationError(.documents, "\(name) is empty") }
    return records
  }
}

extension DecodingError {
  /// What is wrong with a line of JSON.
  package var sentence: String {
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
