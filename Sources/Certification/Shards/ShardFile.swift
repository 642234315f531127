import FileFormats
import Foundation
import RiskControl

/// The file that a shard's results go to: written under another name, and given its own when it is whole.
public struct ShardFile {
  /// Where it is when it is whole.
  public let path: String

  /// Names the file of a shard.
  public init(path: String) { self.path = path }

  /// Where it is before: a shard that was interrupted goes on from there.
  public var partialPath: String { path + ".partial" }

  /// Whether an earlier run has finished the shard.
  ///
  /// Nothing but the file's first line is looked at, so that a shard which is done costs no more than the digests of
  /// its model and documents.
  ///
  /// - Parameters:
  ///   - description: Of the shard; its digest of the model does not count.
  ///   - modelDigest: SHA-256 of the model, asked for only where there is a file.
  /// - Throws: ``CertificationError`` for a file that is something else.
  public func isFinished(as description: ShardDescription, modelDigest: () throws -> String) throws -> Bool {
    guard FileManager.default.fileExists(atPath: path) else { return false }
    var description = description
    description.modelDigest = try modelDigest()
    guard let header = try Self.firstLine(path).flatMap({ ShardHeader(line: $0) }) else {
      throw CertificationError(
        .shards, "\(path) is there already and is no shard of egress; choose another --output")
    }
    let found = header.description
    let other =
      description.difference(to: found) ?? (found.shard == description.shard ? nil : "another shard")
    if let other {
      throw CertificationError(
        .shards, "\(path) is a shard of \(other); choose another --output, or remove the shards")
    }
    return true
  }

  /// The bytes before the first line's end; `nil` where there is none.
  private static func firstLine(_ path: String) throws -> Data? {
    guard let file = FileHandle(forReadingAtPath: path) else {
      throw CertificationError(.storage, "cannot read \(path)")
    }
    defer { try? file.close() }
    var line = Data()
    while true {
      let chunk: Data
      do {
        chunk = try file.read(upToCount: 1 << 16) ?? Data()
      } catch {
        throw CertificationError(.storage, "cannot read \(path): \(error.localizedDescription)")
      }
      if let end = chunk.firstIndex(of: UInt8(ascii: "\n")) { return line + chunk[..<end] }
      if chunk.isEmpty { return nil }
      line += chunk
    }
  }
}

/// The first line of a shard of a batch of documents.
package struct BatchShardHeader: Codable {
  package var shard: ShardDescription
  /// SHA-256 of everything that can change an output but the documents.
  package var settings: String
  /// Present where both ways of decoding are compared.
  package var evaluation: EvaluationFacts?
  /// Present where answers are calibrated.
  package var answers: AnswerWays?

  package init(
    shard: ShardDescription, settings: String, evaluation: EvaluationFacts? = nil, answers: AnswerWays? = nil
  ) {
    self.shard = shard
    self.settings = settings
    self.evaluation = evaluation
    self.answers = answers
  }

  /// Of a calibration of answers: a certificate says everything that can change one.
  package init(shard: ShardDescription, answers: AnswerWays) throws {
    self.init(
      shard: shard, settings: FileDigest.sha256(text: try CanonicalJSON.line(answers)), answers: answers)
  }

  /// The line, without its end.
  package func line() throws -> String {
    try CanonicalJSON.line(self)
  }

  /// Whether an earlier run of the same shard has begun with this line.
  package func isContinued(by line: some Sequence<UInt8>) throws -> Bool {
    guard let own = ShardHeader(line: try self.line().utf8), let other = ShardHeader(line: line) else {
      return false
    }
    return own.difference(to: other) == nil && other.description.shard == shard.shard
  }
}
