import FileFormats
import Foundation
import RiskControl

/// What the lines of shards are of.
extension ShardSet {
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

  /// What a calibration's shards were run with.
  ///
  /// - Throws: ``CertificationError`` where the shards are not of a calibration.
  public func runSettings() throws -> RunSettings { try runHeader().settings }

  /// The file of runs that one machine writes.
  ///
  /// - Parameters:
  ///   - records: The documents.
  ///   - prices: What the parts of decoding cost; `nil` where the shards say it, as those of an adaptation do.
  /// - Throws: As ``lines(for:)`` does, and where nothing says what the parts cost.
  public func runs(for records: [DocumentRecord], prices: SweepCosts? = nil) throws -> Data {
    var header = try runHeader()
    header.costs = prices ?? header.costs
    guard header.costs != nil else {
      throw CertificationError(.shards, "the shards do not say what decoding costs, and there are no prices")
    }
    return Data((try header.line() + "\n").utf8) + (try lines(for: records))
  }

  private func runHeader() throws -> RunHeader {
    guard var header = try? JSONDecoder().decode(RunHeader.self, from: files[0].headerLine) else {
      throw CertificationError(.shards, "\(files[0].path) is no shard of a calibration")
    }
    header.shard = nil
    return header
  }

  /// The answers of a calibration: what a certificate says of each way that they came about in, and all questions'
  /// answers by way.
  ///
  /// - Throws: ``CertificationError`` where the shards are of something else.
  public func answers(to records: [DocumentRecord]) throws -> (ways: AnswerWays, lines: [[AnswerLine]]) {
    guard let ways = (try? JSONDecoder().decode(BatchShardHeader.self, from: files[0].headerLine))?.answers
    else {
      throw CertificationError(.shards, "\(files[0].path) is no shard of answers")
    }
    let questions = try lines(of: records.map(\.id)).map { path, bytes in
      guard let line = try? JSONOutput.decode(AnswersLine.self, from: bytes),
        line.answers.count == ways.names.count
      else { throw CertificationError(.shards, "\(path) is damaged; remove the shard and run it again") }
      return line.answers
    }
    return (ways, ways.names.indices.map { way in questions.map { $0[way] } })
  }
}
