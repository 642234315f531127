import ArgumentParser
import Certification
import FileFormats
import Foundation
import RiskControl

/// One machine's part of a calibration, and all parts together.
extension Calibrate {
  /// Where a shard's results go.
  static func path(_ stem: String, _ shard: Shard, _ file: String) -> String {
    "\(stem).\(shard.name).\(file)"
  }

  /// What the files of a shard are to be of, one for each of ``parts``, as far as it is known before the model is
  /// loaded; `nil`, and said, for one that an earlier run has finished.
  func begin(_ shard: Shard, file: String) throws -> [ShardDescription?] {
    let data = documents.data ?? ""
    let dataDigest = try FileDigest.sha256(path: data)
    return try parts.map { part in
      let description = ShardDescription(
        shard, command: Self._commandName, arguments: ShardOptions.arguments, data: data,
        dataDigest: dataDigest, modelDigest: "", output: documents.stem, documents: 0, lines: 0,
        candidate: part.candidate)
      let isDone = try ShardOptions.isDone(
        description, path: Self.path(part.stem, shard, file), modelDigest: subject.digest)
      return isDone ? nil : description
    }
  }

  /// Makes of all shards what the calibration on one machine makes.
  ///
  /// - Parameter sets: One for each of ``parts``, in any order.
  func merge(_ sets: [ShardSet], replacing isForced: Bool) throws {
    guard let data = documents.data else {
      throw CommandError("the shards are of a calibration whose options are not known")
    }
    try loss.isSelective ? mergeAnswers(sets[0], data) : mergeRuns(sets, data, replacing: isForced)
  }

  private func mergeRuns(_ sets: [ShardSet], _ data: String, replacing isForced: Bool) throws {
    guard documents.prices != nil else {
      throw ValidationError(
        "shards of a calibration need --prices, what the parts of decoding cost; egress bench makes them.")
    }
    guard let facts = sets[0].description.decoder else {
      throw CommandError("the shards are of a calibration whose decoder is not known")
    }
    let settings = try rule.settings(isGrowing: true)
    let (metric, risk) = try quality()
    let merged = try parts.map { part in
      guard let set = sets.first(where: { $0.description.candidate == part.candidate }) else {
        throw CertificationError(
          .unfinished, "the shards of \(part.candidate ?? "the calibration") are missing")
      }
      let calibrator = try Calibrator(set, metric: metric, risk: risk, documentsPath: data)
      let candidate = Candidate(
        name: part.candidate ?? "policy", stem: part.stem, calibrator: calibrator)
      return (set, candidate, try documents.prices(for: calibrator.sweep.settings.policy))
    }
    let candidates = merged.map(\.1)
    let files = try certificateFiles(
      settings, subjects: candidates.map { try $0.calibrator.subject() },
      sampleCount: candidates[0].calibrator.records.count)
    if let reference = candidates[0].calibrator.sweep.settings.policy.applicability {
      try PolicyGuard.place(reference, from: sets[0].folder, at: documents.stem + ".guard.safetensors")
    }
    let outputs = try merged.map { set, candidate, prices in
      let (calibrator, path) = (candidate.calibrator, candidate.stem + ".runs.jsonl")
      try ShardSet.write(
        set.runs(for: calibrator.records, prices: prices), to: path, replacing: isForced)
      guard let lines = try calibrator.complete(calibrator.openRuns(path)) else {
        throw CommandError("\(path) does not have every document")
      }
      return lines
    }
    try certify(candidates, outputs: outputs, settings: settings, facts: facts, files: files)
  }

  private func mergeAnswers(_ set: ShardSet, _ data: String) throws {
    guard documents.prices == nil else {
      throw ValidationError("--prices has no effect with --risk selective.")
    }
    let settings = try answerSettings()
    try checkAnswerCertificate(settings)
    let (ways, lines) = try set.answers(to: set.documents(path: data))
    if let reference = ways.applicability {
      try PolicyGuard.place(reference, from: set.folder, at: documents.stem + ".guard.safetensors")
    }
    try certify(ways, lines, settings: settings)
  }
}
