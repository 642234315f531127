import ArgumentParser
import Certification
import FileFormats
import Foundation
import RiskControl

/// One machine's part of a calibration, and all parts together.
extension Calibrate {
  /// Where a shard's results go.
  func path(of shard: Shard, _ file: String) -> String { "\(documents.stem).\(shard.name).\(file)" }

  /// What a shard is of, as far as it is known before the model is loaded; `nil`, and said, where an earlier run has
  /// finished it.
  func begin(_ shard: Shard, file: String) throws -> ShardDescription? {
    let data = documents.data ?? ""
    let description = ShardDescription(
      shard, command: Self._commandName, arguments: ShardOptions.arguments, data: data,
      dataDigest: try FileDigest.sha256(path: data), modelDigest: "", output: documents.stem, documents: 0,
      lines: 0)
    let isDone = try ShardOptions.isDone(
      description, path: path(of: shard, file), modelDigest: subject.digest)
    return isDone ? nil : description
  }

  /// Makes of all shards what the calibration on one machine makes.
  func merge(_ set: ShardSet, replacing isForced: Bool) throws {
    guard let data = documents.data else {
      throw CommandError("the shards are of a calibration whose options are not known")
    }
    try loss.isSelective ? mergeAnswers(set, data) : mergeRuns(set, data, replacing: isForced)
  }

  private func mergeRuns(_ set: ShardSet, _ data: String, replacing isForced: Bool) throws {
    guard let facts = set.description.decoder else {
      throw CommandError("the shards are of a calibration whose decoder is not known")
    }
    let settings = try rule.settings(isGrowing: true)
    let (metric, risk) = try quality()
    let calibrator = try Calibrator(set, metric: metric, risk: risk, documentsPath: data)
    let stem = documents.stem
    let files = try certificateFiles(
      settings, subjects: [calibrator.subject()], sampleCount: calibrator.records.count)
    if let reference = calibrator.sweep.settings.policy.applicability {
      try PolicyGuard.place(reference, from: set.folder, at: stem + ".guard.safetensors")
    }
    let path = stem + ".runs.jsonl"
    try ShardSet.write(set.runs(for: calibrator.records), to: path, replacing: isForced)
    guard let lines = try calibrator.complete(calibrator.openRuns(path)) else {
      throw CommandError("\(path) does not have every document")
    }
    try certify(
      [Candidate(name: "shards", stem: stem, calibrator: calibrator)], outputs: [lines], settings: settings,
      facts: facts, files: files)
  }

  private func mergeAnswers(_ set: ShardSet, _ data: String) throws {
    let settings = try answerSettings()
    try checkAnswerCertificate(settings)
    let (ways, lines) = try set.answers(to: set.documents(path: data))
    if let reference = ways.applicability {
      try PolicyGuard.place(reference, from: set.folder, at: documents.stem + ".guard.safetensors")
    }
    try certify(ways, lines, settings: settings)
  }
}
