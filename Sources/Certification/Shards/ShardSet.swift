import FileFormats
import Foundation
import RiskControl

/// The files of all shards of one whole.
public struct ShardSet {
  /// What they have in common; of the first, where they have not.
  public let description: ShardDescription
  let files: [File]

  /// A shard's file, mapped.
  struct File {
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
  public init(paths: [String]) throws { try self.init(paths.map(Self.open)) }

  /// Reads the files of all policies that one calibration chooses among; of anything else, a single set.
  ///
  /// - Parameter paths: In any order.
  /// - Returns: A set for each policy, in the order of the paths.
  /// - Throws: As ``init(paths:)`` does.
  public static func candidates(paths: [String]) throws -> [ShardSet] {
    let files = try paths.map(open)
    var (names, groups): ([String?], [String?: [File]]) = ([], [:])
    for file in files {
      try check(file, with: files[0]) { $0.withoutCandidate }
      let name = file.header.description.candidate
      if groups[name] == nil { names.append(name) }
      groups[name, default: []].append(file)
    }
    return names.isEmpty ? [try ShardSet([])] : try names.map { try ShardSet(groups[$0] ?? []) }
  }

  private static func check(_ file: File, with first: File, by part: (ShardHeader) -> ShardHeader) throws {
    guard let other = part(first.header).difference(to: part(file.header)) else { return }
    throw CertificationError(.shards, "\(file.path) does not belong to \(first.path): it is of \(other)")
  }

  private init(_ files: [File]) throws {
    guard let first = files.first else {
      throw CertificationError(.unfinished, "there are no shards to merge")
    }
    var places: [Int: String] = [:]
    for file in files {
      let shard = file.header.description.shard
      try Self.check(file, with: first) { $0 }
      if let earlier = places.updateValue(file.path, forKey: shard.index) {
        throw CertificationError(.shards, "shard \(shard) is there twice: \(earlier) and \(file.path)")
      }
    }
    let description = first.header.description
    let missing = (1...description.shard.count).filter { places[$0] == nil }
    guard missing.isEmpty else {
      let named = missing.prefix(10).map(String.init).joined(separator: ", ")
      let whose = description.candidate.map { " of \($0)" } ?? ""
      let rest = missing.count > 10 ? " and \(missing.count - 10) others" : ""
      throw CertificationError(
        .unfinished,
        "of \(description.shard.count) shards\(whose) \(missing.count == 1 ? "this is" : "these are") missing: "
          + named + rest)
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

  /// The documents of a file that are in some shard, in the file's order, where shards do not have all that follow one
  /// another.
  ///
  /// - Throws: ``CertificationError`` for another file, and for documents that no shard has.
  public func documentsOfShards(path: String) throws -> [DocumentRecord] {
    try checkDocuments(path: path)
    let ids = Set(
      try files.flatMap { file in try file.lines.map { try id(of: file.data[$0], in: file.path) } })
    let records = try DocumentFile.read(path: path).filter { ids.contains($0.id) }
    guard records.count == description.documents else {
      throw CertificationError(
        .shards,
        "the shards have \(records.count) of \(description.documents) documents; remove them and run them again"
      )
    }
    return records
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
    var places: [DocumentIdentifier: (file: Int, line: Range<Int>)] = [:]
    for (index, file) in files.enumerated() {
      for (number, range) in file.lines.enumerated() {
        let place = "\(file.path) line \(number + 2)"
        let id = try id(of: file.data[range], in: place)
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

  private func id(of line: Data, in place: String) throws -> DocumentIdentifier {
    struct Named: Decodable { var id: DocumentIdentifier }
    guard let id = try? JSONOutput.decode(Named.self, from: line).id else {
      throw CertificationError(.shards, "\(place) is damaged; remove the shard and run it again")
    }
    return id
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
