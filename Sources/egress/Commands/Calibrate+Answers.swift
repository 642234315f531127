import ArgumentParser
import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding

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
    let all = Array(try DocumentFile.read(data).prefix(documents.limit ?? .max))
    try AnswerCalibrator.check(all, loss: loss, name: data)
    let path = path(for: settings.epsilon)
    if !force, FileManager.default.fileExists(atPath: path), try AnswerCertificate.read(path: path) == nil {
      throw CommandError(
        "\(path) is no certificate of answers; name another file, or give --force to replace it")
    }
    let loaded = try subject.load()
    let made = try guarding.make(
      loaded, records: all, stem: documents.stem, maxTokens: documents.maxTokens
    ) { _ in }
    let (decoding, ways) = try waysOfDecoding(loaded)
    let calibrator = AnswerCalibrator(
      decoding, records: Array(all.dropFirst(made?.documents ?? 0)), loss: loss, applicability: made?.guard,
      maxTokens: documents.maxTokens)
    let lines = try ways.map { try answers(calibrator, by: $0, isAlone: ways.count == 1) }
    let found = try calibrator.certify(ways, lines, settings: settings)
    try AnswerLine.write(found.lines, to: documents.stem + ".answers.jsonl")
    try found.certificate.write(to: path)
    if ways.count > 1 {
      Console.note(AnswerCertificateText.choice(ways.map(\.name), lines, found.chosen))
    }
    if made == nil, !guarding.noGuard { Console.note(CalibrationGuard.absence(calibrator.records.count)) }
    try TextOutput.standard.write(
      format == .json
        ? String(decoding: found.certificate.jsonData(), as: UTF8.self)
        : AnswerCertificateText.describe(found.certificate, found.result, path: path)
          + AnswerCertificateText.curve(settings, found.lines))
    throw ExitCode(found.certificate.threshold == nil ? 2 : 0)
  }

  private func answers(_ calibrator: AnswerCalibrator, by way: AnswerCalibrator.Way, isAlone: Bool) throws
    -> [AnswerLine]
  {
    let bar = ProgressBar(
      total: calibrator.records.count, what: way.strategy == nil ? "answers" : "answers at \(way.name)")
    Interrupt.watch()
    defer { bar.clear() }
    let lines = try calibrator.answers(
      by: way.strategy, hasCost: !isAlone, shouldStop: { Interrupt.isRequested }
    ) { bar.show(done: $0) }
    guard let lines else { throw ExitCode(Interrupt.exitCode) }
    return lines
  }

  /// How answers come about, fastest first: at full depth, or at each threshold of --grid.
  private func waysOfDecoding(_ loaded: LoadedModel) throws -> (
    subject: DecodingSubject, ways: [AnswerCalibrator.Way]
  ) {
    guard let grid = documents.grid?.values else {
      return (try loaded.subject(), [.init(name: "full depth", strategy: nil)])
    }
    guard let name = drafting.draft else {
      let subject = try loaded.subject(exits)
      // The strictest are the slowest; at 1 no exit is looked at.
      return (
        subject,
        try grid.sorted().map { threshold in
          .init(
            name: "threshold \(TableText.short(threshold))",
            strategy: threshold == 1
              ? nil
              : try exits.strategy(
                try exits.policy(threshold: threshold, heads: subject.heads), heads: subject.heads,
                model: loaded.model)
          )
        }
      )
    }
    let draft = try LoadedDraft(name, for: loaded, threads: self.subject.threads)
    return (
      try loaded.subject(draft: draft),
      try grid.sorted(by: >).map { threshold in
        .init(
          name: "rollback \(TableText.short(threshold))",
          strategy: try SpeculationStrategy(
            [draft.source], for: loaded.model, rule: .rollback(threshold: threshold),
            fallback: drafting.fallback?.values.first ?? draft.usualFallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength)
        )
      }
    )
  }
}
