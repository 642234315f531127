import ArgumentParser
import Certification
import Foundation
import RiskControl

/// Certified answers: the confidence from which on they are given.
extension Calibrate {
  /// Losses of 0 and 1 have an exact bound.
  func answerSettings() throws -> CalibrationSettings {
    var settings = try rule.settings(isGrowing: false)
    if rule.bound == nil, loss.metric == "exact-match" { settings.bound = .binomial }
    return settings
  }

  func runOnAnswers(_ data: String) throws {
    let settings = try answerSettings()
    let loss = try loss.answerLoss()
    let shard = try documents.sharding.chosen()
    let begun = try shard.map { try begin($0, file: "answers.jsonl") }
    if let begun, begun.allSatisfy({ $0 == nil }) { return }
    let all = Array(try DocumentFile.read(data).prefix(documents.limit ?? .max))
    try AnswerCalibrator.check(all, loss: loss, name: data)
    if shard == nil { try checkAnswerCertificate(settings) }
    let loaded = try subject.load()
    let made = try guarding.make(
      loaded, records: all, stem: documents.stem, maxTokens: documents.maxTokens
    ) { _ in }
    let (decoding, ways) = try waysOfDecoding(loaded)
    let calibrator = AnswerCalibrator(
      decoding, records: Array(all.dropFirst(made?.documents ?? 0)), loss: loss, applicability: made?.guard,
      maxTokens: documents.maxTokens)
    let described = try calibrator.described(ways)
    if let begun = begun?.first ?? nil {
      let part = calibrator.restricted(to: begun.shard)
      let description = begun.completed(
        modelDigest: try loaded.digest(), skipped: made?.documents ?? 0, documents: calibrator.records.count,
        lines: part.records.count)
      return try answer(part, by: ways, header: BatchShardHeader(shard: description, answers: described))
    }
    let progress = WorkProgress(before: 0, total: calibrator.records.count, what: "answers")
    defer { progress.clear() }
    var lines: [[AnswerLine]] = ways.map { _ in [] }
    let isWhole = try calibrator.answer(by: ways, shouldStop: { Interrupt.isRequested }) {
      question, answers in
      for (way, line) in answers.enumerated() { lines[way].append(line) }
      progress.show(question + 1)
    }
    guard isWhole else { throw progress.interrupted() }
    try certify(described, lines, settings: settings)
  }

  /// Answers a shard's questions, after those that an earlier run has left.
  private func answer(
    _ calibrator: AnswerCalibrator, by ways: [AnswerCalibrator.Way], header: BatchShardHeader
  ) throws {
    let path = Self.path(documents.stem, header.shard.shard, "answers.jsonl")
    let lines = try ShardLines(path: path, header: header, ids: calibrator.records.map(\.id))
    let progress = WorkProgress(
      path: path, before: lines.done.count, total: calibrator.records.count, what: "answers")
    defer { progress.clear() }
    let isWhole = try calibrator.answer(
      by: ways, skipping: lines.done.count, shouldStop: { Interrupt.isRequested }
    ) { question, answers in
      try lines.append(AnswersLine(id: calibrator.records[question].id, answers: answers))
      progress.show(question + 1)
    }
    guard isWhole else { throw progress.interrupted() }
    try lines.finish()
  }

  /// Refuses to write over what is no certificate of answers.
  func checkAnswerCertificate(_ settings: CalibrationSettings) throws {
    let path = path(for: settings.epsilon)
    guard !force, FileManager.default.fileExists(atPath: path), try AnswerCertificate.read(path: path) == nil
    else { return }
    throw CommandError(
      "\(path) is no certificate of answers; name another file, or give --force to replace it")
  }

  /// Certifies a confidence on all questions' answers, and ends with the status of the certificate.
  func certify(_ ways: AnswerWays, _ lines: [[AnswerLine]], settings: CalibrationSettings) throws {
    let path = path(for: settings.epsilon)
    let found = try ways.certify(lines, settings: settings)
    try AnswerLine.write(found.lines, to: documents.stem + ".answers.jsonl")
    try found.certificate.write(to: path)
    if ways.names.count > 1 {
      Console.note(AnswerCertificateText.choice(ways.names, lines, found.chosen))
    }
    if ways.applicability == nil, !guarding.noGuard {
      Console.note(CalibrationGuard.absence(found.lines.count))
    }
    try TextOutput.standard.write(
      format == .json
        ? String(decoding: found.certificate.jsonData(), as: UTF8.self)
        : AnswerCertificateText.describe(found.certificate, found.result, path: path)
          + AnswerCertificateText.curve(settings, found.lines))
    throw ExitCode(found.certificate.threshold == nil ? 2 : 0)
  }
}
