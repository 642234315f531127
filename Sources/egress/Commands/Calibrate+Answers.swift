import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import TextLosses

/// Certified answers: the confidence from which on they are given.
extension Calibrate {
  /// The value of --risk.
  static let selective = "selective"

  var isSelective: Bool { risk == Self.selective }

  func validateAnswers() throws {
    let given =
      exits.given + drafting.given
      + (documents.grid == nil ? [] : ["grid"]) + (documents.lowest == nil ? [] : ["lowest"])
      + (documents.everyThreshold ? ["every-threshold"] : []) + (sign == nil ? [] : ["sign"])
    if let name = given.first { throw ValidationError("--\(name) has no effect with --risk selective.") }
    guard rule.epsilon.values.count == 1 else {
      throw ValidationError("--risk selective takes one --epsilon.")
    }
    _ = try answerLoss()
    do {
      _ = try SelectiveCalibration(answerSettings())
    } catch let error as RiskControlError {
      throw ValidationError(error.description)
    }
  }

  private func answerLoss() throws -> SequenceLoss {
    let name = metric ?? "token-f1"
    guard case .text(let loss)? = QualityMetric(name: name), loss.readsReferences else {
      throw ValidationError(
        "--risk selective takes a --metric of texts with references, such as token-f1 or exact-match.")
    }
    return loss
  }

  /// Losses of 0 and 1 have an exact bound.
  private func answerSettings() throws -> CalibrationSettings {
    var settings = try rule.settings(isGrowing: false)
    if rule.bound == nil, metric == "exact-match" { settings.bound = .binomial }
    return settings
  }

  /// A line of NAME.answers.jsonl.
  private struct Line: Encodable {
    var id: DocumentIdentifier
    var text: String
    var answered: Bool
    var inside: Bool?
    var confidence: Double
    var loss: Double
  }

  func runOnAnswers(_ data: String) throws {
    let settings = try answerSettings()
    let loss = try answerLoss()
    let all = Array(try DocumentFile.read(data).prefix(documents.limit ?? .max))
    for record in all {
      guard case .answer = record.item.task else {
        throw CommandError("\(data): document \(record.id) has no question, which --risk selective needs")
      }
      guard let references = record.references, !references.isEmpty else {
        throw CommandError("\(data): document \(record.id) has no references (an array of texts)")
      }
    }
    if let reason = loss.vacuity(references: all.map { $0.references ?? [] }) {
      throw CommandError("\(data): \(reason)")
    }
    let path = path(for: settings.epsilon)
    if !force, FileManager.default.fileExists(atPath: path), try AnswerCertificate.read(path: path) == nil {
      throw CommandError(
        "\(path) is no certificate of answers; name another file, or give --force to replace it")
    }
    let loaded = try ModelOptions.load(
      model ?? ModelManifest.defaultName, threads: threads, compute: compute ?? .quantized, adapter: adapter)
    let made = try guarding.make(
      loaded, records: all, stem: documents.stem, maxTokens: documents.maxTokens
    ) { _ in }
    let applicability = made?.guard
    let records = Array(all.dropFirst(made?.documents ?? 0))
    let generations = try answers(loaded.model, records, applicability)
    var lines: [Line] = []
    for (record, generation) in zip(records, generations) {
      guard case .answer(let question) = record.item.task else { continue }
      let answer = DocumentAnswer(generation, document: record.original, question: question)
      let text = generation.text.trimmingWhitespace()
      lines.append(
        Line(
          id: record.id, text: text, answered: answer.answered, inside: generation.applicability?.isInside,
          confidence: answer.confidence ?? 0, loss: loss.loss(text, references: record.references ?? [])))
    }
    try write(
      try lines.map { try JSONOutput.line($0) + "\n" }.joined(), to: documents.stem + ".answers.jsonl")
    let given = lines.filter { $0.answered && $0.inside != false }
    let (confidences, losses) = (given.map(\.confidence), given.map(\.loss))
    let result = try SelectiveCalibration(settings).calibrate(confidences: confidences, losses: losses)
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let certificate = AnswerCertificate(
      result, settings: settings, confidences: confidences, losses: losses,
      declined: lines.count - given.count,
      metric: loss.name,
      policy: try CertifiedAnswers.Policy(
        loaded.subject(), regime: regime, applicability: applicability?.reference
      )
      .json(),
      program: EgressVersion.program)
    try certificate.write(to: path)
    if applicability == nil, !guarding.noGuard { Console.note(CalibrationGuard.absence(records.count)) }
    try TextOutput.standard.write(
      format == .json
        ? String(decoding: certificate.jsonData(), as: UTF8.self)
        : Self.describe(certificate, result, path: path)
          + Self.curve(settings, confidences, losses, lines.count))
    throw ExitCode(certificate.threshold == nil ? 2 : 0)
  }

  private func answers(
    _ model: LanguageModel, _ records: [DocumentRecord], _ applicability: PolicyGuard?
  ) throws -> [Generation] {
    let batch = BatchDecoder(model: model, shouldStop: { Interrupt.isRequested })
    for record in records {
      var options = try model.options(for: record, maxTokens: documents.maxTokens)
      options.recordsProbabilities = true
      options.applicability = applicability?.found
      batch.submit(prompt: try model.wholePrompt(for: record, options: options), options: options)
    }
    let bar = ProgressBar(total: records.count, what: "answers")
    Interrupt.watch()
    defer { bar.clear() }
    var done: [BatchDecoder.Ticket: Generation] = [:]
    while !batch.isIdle {
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      for (ticket, generation) in try batch.step() { done[ticket] = generation }
      bar.show(done: done.count)
    }
    return records.indices.compactMap { done[$0] }
  }

  private func write(_ text: String, to path: String) throws {
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(path): \(error.localizedDescription)")
    }
  }

  private static func describe(
    _ certificate: AnswerCertificate, _ result: SelectiveCalibration.Result, path: String
  ) -> String {
    var lines: [(String, String)] = [("outcome", certificate.outcome)]
    if let threshold = certificate.threshold { lines.append(("confidence", TableText.short(threshold))) }
    lines.append(
      (
        "epsilon",
        "\(TableText.short(certificate.epsilon)) (\(certificate.metric) of the answers given; \(certificate.bound.rawValue), delta "
          + "\(TableText.short(certificate.delta)); \(certificate.sampleCount) tested, \(certificate.designCount) chose where to begin)"
      ))
    if let bound = certificate.upperBound, let risk = certificate.observedRisk {
      lines.append(("upper bound", TableText.short(bound)))
      lines.append(("observed", TableText.short(risk)))
    } else {
      lines.append(
        (
          "why",
          "the first confidence tested, \(TableText.short(result.firstThreshold)), has the upper bound "
            + TableText.short(result.firstUpperBound)
        ))
    }
    lines.append(("answered", "\((100 * certificate.answeredShare).formatted(places: 1)) % of the questions"))
    lines.append(
      (
        "all answers",
        "loss \(certificate.riskOfAll.formatted(places: 4)); \(certificate.declinedCount) questions declined or outside"
      ))
    lines.append(("guarantee", certificate.guarantee))
    lines.append(("certificate", path))
    return lines.map { $0.0.padding(to: 12) + $0.1 }.joined(separator: "\n") + "\n"
  }

  /// What other ε would give, which certifies nothing: one ε has to be chosen before the losses are seen.
  private static func curve(
    _ settings: CalibrationSettings, _ confidences: [Double], _ losses: [Double], _ questions: Int
  ) throws -> String {
    var text = "\nof other epsilons, to choose for the next calibration:\n  epsilon  answered  confidence\n"
    for epsilon in [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5] {
      var one = settings
      one.epsilon = epsilon
      let result = try SelectiveCalibration(one).calibrate(confidences: confidences, losses: losses)
      let share = result.answeredShare * Double(confidences.count) / Double(max(questions, 1))
      text +=
        "  " + TableText.short(epsilon).padding(to: 9)
        + "\((100 * share).formatted(places: 1)) %".padding(to: 10)
        + (result.threshold.map { $0.formatted(places: 3) } ?? "-") + "\n"
    }
    return text
  }
}
