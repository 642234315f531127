import FileFormats
import Foundation
import RiskControl

/// The files of all shards of one whole.
public struct ShardSet {
  /// What they have in common; of the first, where they have not.
  public let description: ShardDescription
  private let files: [File]

  /// A shard's file, mapped.
  private struct File {
    var path: String
    var header: ShardHeader
    var headerLine: Data
    var data: Data
    /// Of the lines after the first, without their ends.
    var lines: [Range<Int>]
  }

  /// Reads the files and refuses what does not belong together.
  ///
  /// - Parameter paths: In any order.
  /// - Throws: ``CertificationError``. Its kind is `.unfinished` where shards are missing or not whole yet. It is
  ///   `.shards` where one is there twice, or is of another model, other options or other documents.
  public init(paths: [String]) throws {
    guard !paths.isEmpty else { throw CertificationError(.unfinished, "there are no shards to merge") }
    var files: [File] = []
    var places: [Int: String] = [:]
    for path in paths {
      let file = try Self.open(path)
      let shard = file.header.description.shard
      if let first = files.first, let other = first.header.difference(to: file.header) {
        throw CertificationError(
          .shards, "\(path) does not belong to \(first.path): it is of \(other)")
      }
      if let earlier = places.updateValue(path, forKey: shard.index) {
        throw CertificationError(.shards, "shard \(shard) is there twice: \(earlier) and \(path)")
      }
      files.append(file)
    }
    let description = files[0].header.description
    let missing = (1...description.shard.count).filter { places[$0] == nil }
    guard missing.isEmpty else {
      let named = missing.prefix(10).map(String.init).joined(separator: ", ")
      let rest = missing.count > 10 ? " and \(missing.count - 10) others" : ""
      throw CertificationError(
        .unfinished,
        "of \(description.shard.count) shards \(missing.count == 1 ? "this is" : "these are") missing: \(named)\(rest)"
      )
    }
    self.description = description
    self.files = files
  }

  private static func open(_ path: String) throws -> File {
    let data: Data
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path), options: .mappedIfSafe)
    } catch {
      throw CertificationError(.unfinished, "cannot read \(path): \(error.localizedDescription)")
    }
    var lines: [Range<Int>] = []
    var start = 0
    data.withUnsafeBytes { bytes in
      for end in bytes.indices where bytes[end] == UInt8(ascii: "\n") {
        lines.append(start..<end)
        start = end + 1
      }
    }
    guard let first = lines.first, let header = ShardHeader(line: data[first]) else {
      throw CertificationError(.shards, "\(path) is no shard of egress")
    }
    let (found, expected) = (lines.count - 1, header.description.lines)
    guard found == expected, start == data.count else {
      guard found <= expected else {
        throw CertificationError(.shards, "\(path) has \(found) documents, and should have \(expected)")
      }
      throw CertificationError(
        .unfinished, "\(path) is not whole: it has \(found) of \(expected) documents; run the shard again")
    }
    return File(
      path: path, header: header, headerLine: data[first], data: data, lines: Array(lines.dropFirst()))
  }

  /// The folder of the first file.
  public var folder: String { (files[0].path as NSString).deletingLastPathComponent }

  /// The documents of a file that the shards are of, in the file's order.
  ///
  /// - Throws: ``CertificationError`` for another file.
  public func documents(path: String) throws -> [DocumentRecord] {
    try checkDocuments(path: path)
    let records = try DocumentFile.read(path: path)
    return Array(records.dropFirst(description.skipped).prefix(description.documents))
  }

  /// Sees to it that a file is the one that the shards are of.
  ///
  /// - Throws: ``CertificationError`` for another file.
  package func checkDocuments(path: String) throws {
    let found: String
    do {
      found = try FileDigest.sha256(path: path)
    } catch {
      throw CertificationError(.documents, "the documents of the shards: \(error)")
    }
    guard found == description.dataDigest else {
      throw CertificationError(
        .documents,
        "\(path) is not the file that the shards are of: SHA-256 \(description.dataDigest), found \(found)")
    }
  }

  /// The shards' lines as a run on one machine writes them: in the order of the documents.
  ///
  /// - Throws: ``CertificationError`` for a document that is in no shard, or in two, or in another than its own.
  public func lines(for records: [DocumentRecord]) throws -> Data {
    var whole = Data()
    for line in try lines(of: records.map(\.id)) {
      whole += line.bytes
      whole.append(UInt8(ascii: "\n"))
    }
    return whole
  }

  /// The line of each document, without its end, and the shard's file that it is in.
  ///
  /// - Throws: As ``lines(for:)`` does.
  package func lines(of ids: [DocumentIdentifier]) throws -> [(path: String, bytes: Data)] {
    struct Named: Decodable { var id: DocumentIdentifier }
    var places: [DocumentIdentifier: (file: Int, line: Range<Int>)] = [:]
    for (index, file) in files.enumerated() {
      for (number, range) in file.lines.enumerated() {
        let place = "\(file.path) line \(number + 2)"
        guard let id = try? JSONOutput.decode(Named.self, from: file.data[range]).id else {
          throw CertificationError(.shards, "\(place) is damaged; remove the shard and run it again")
        }
        guard file.header.description.shard.contains(id) else {
          throw CertificationError(.shards, "\(place): document \(id) belongs to another shard")
        }
        if places.updateValue((index, range), forKey: id) != nil {
          throw CertificationError(.shards, "\(place): document \(id) is there twice")
        }
      }
    }
    let lines = try ids.map { id in
      guard let place = places.removeValue(forKey: id) else {
        throw CertificationError(.shards, "document \(id) is in no shard")
      }
      return (path: files[place.file].path, bytes: files[place.file].data[place.line])
    }
    if let id = places.keys.first {
      throw CertificationError(.shards, "document \(id) of the shards is not among the documents")
    }
    return lines
  }

  /// What both ways of decoding come to over all documents.
  ///
  /// - Throws: ``CertificationError`` where the shards are not of an evaluation.
  package func evaluation(of records: [DocumentRecord]) throws -> Evaluation.Result {
    guard let header = try? JSONDecoder().decode(BatchShardHeader.self, from: files[0].headerLine),
      let facts = header.evaluation
    else { throw CertificationError(.shards, "\(files[0].path) is no shard of an evaluation") }
    let documents = try lines(of: records.map(\.id)).map { path, bytes in
      guard let line = try? JSONOutput.decode(EvaluationLine.self, from: bytes) else {
        throw CertificationError(.shards, "\(path) is damaged; remove the shard and run it again")
      }
      return line.result
    }
    guard let result = Evaluation.Result(facts, documents: documents) else {
      throw CertificationError(.shards, "the shards have no documents")
    }
    return result
  }

  /// What a calibration's shards were run with, and what the parts of decoding cost.
  ///
  /// - Throws: ``CertificationError`` where the shards are not of a calibration.
  public func runSettings() throws -> RunSettings { try runHeader().settings }

  /// The file of runs that one machine writes.
  public func runs(for records: [DocumentRecord]) throws -> Data {
    let header = try runHeader().line()
    return Data((header + "\n").utf8) + (try lines(for: records))
  }

  private func runHeader() throws -> RunHeader {
    guard var header = try? JSONDecoder().decode(RunHeader.self, from: files[0].headerLine) else {
      throw CertificationError(.shards, "\(files[0].path) is no shard of a calibration")
    }
    header.shard = nil
    return header
  }

  /// Puts a merged file in place, in one step.
  ///
  /// - Parameters:
  ///   - contents: The merged file.
  ///   - path: Where it goes.
  ///   - isForced: Replaces a file that holds something else.
  /// - Throws: ``CertificationError`` for a file that holds something else.
  public static func write(_ contents: Data, to path: String, replacing isForced: Bool) throws {
    if FileManager.default.fileExists(atPath: path) {
      if FileManager.default.contents(atPath: path) == contents { return }
      guard isForced else {
        throw CertificationError(
          .shards,
          "\(path) is there already and holds something else; choose another --output, or give --force to replace it"
        )
      }
    }
    do {
      try contents.write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CertificationError(.storage, "cannot write to \(path): \(error.localizedDescription)")
    }
  }
}
