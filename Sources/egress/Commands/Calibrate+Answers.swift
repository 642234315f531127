import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import TextLosses

/// Certified answers: the confidence from which on they are given.
extension Calibrate {
  /// The value of --risk.
  static let selective = "selective"

  var isSelective: Bool { risk == Self.selective }

  func validateAnswers() throws {
    let others: [(String, Bool)] = [
      ("lowest", documents.lowest != nil), ("fallback", drafting.fallback?.values.count ?? 0 > 1),
      ("every-threshold", documents.everyThreshold), ("shard", documents.sharding.shard != nil),
      ("prices", documents.prices != nil), ("sign", sign != nil),
    ]
    let policy = documents.grid == nil ? exits.given + drafting.given : []
    if let name = policy.first ?? others.first(where: { $0.1 })?.0 {
      throw ValidationError(
        "--\(name) has no effect with --risk selective.")
    }
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
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let (subject, ways) = try waysOfDecoding(loaded)
    let written = try ways.map { way in
      try answerLines(
        records, try answers(loaded.model, records, applicability, strategy: way.strategy, named: way.name),
        loss,
        hasCost: ways.count > 1)
    }
    let calibration = try SelectiveCalibration(settings)
    let (chosen, result) =
      ways.count == 1
      ? (0, try calibrate(calibration, written[0]))
      : try calibration.calibrate(
        policies: written.map { $0.map(\.sample) })
    let lines = written[chosen]
    try write(
      try lines.map { try JSONOutput.line($0) + "\n" }.joined(), to: documents.stem + ".answers.jsonl")
    let given = lines.filter(\.isCandidate)
    let (confidences, losses) = (given.map(\.confidence), given.map(\.loss))
    let certificate = AnswerCertificate(
      result, settings: settings, confidences: confidences, losses: losses,
      declined: lines.count - given.count,
      metric: loss.name,
      policy: try CertifiedAnswers.Policy(
        subject, regime: regime, applicability: applicability?.reference, strategy: ways[chosen].strategy
      )
      .json(),
      program: EgressVersion.program)
    try certificate.write(to: path)
    if ways.count > 1 { Console.note(Self.choice(ways.map(\.name), written, chosen)) }
    if applicability == nil, !guarding.noGuard { Console.note(CalibrationGuard.absence(records.count)) }
    try TextOutput.standard.write(
      format == .json
        ? String(decoding: certificate.jsonData(), as: UTF8.self)
        : Self.describe(certificate, result, path: path)
          + Self.curve(settings, confidences, losses, lines.count))
    throw ExitCode(certificate.threshold == nil ? 2 : 0)
  }

  private typealias Way = (name: String, strategy: (any DecodingStrategy)?)

  /// How answers come about, fastest first: at full depth, or at each threshold of --grid.
  private func waysOfDecoding(_ loaded: LoadedModel) throws -> (subject: DecodingSubject, ways: [Way]) {
    guard let grid = documents.grid?.values else { return (try loaded.subject(), [("full depth", nil)]) }
    guard let name = drafting.draft else {
      let subject = try loaded.subject(exits)
      // The strictest are the slowest; at 1 no exit is looked at.
      return (
        subject,
        try grid.sorted().map { threshold in
          (
            "threshold \(TableText.short(threshold))",
            threshold == 1
              ? nil
              : try exits.strategy(
                try exits.policy(threshold: threshold, heads: subject.heads), heads: subject.heads,
                model: loaded.model)
          )
        }
      )
    }
    let draft = try LoadedDraft(name, for: loaded, threads: threads)
    return (
      try loaded.subject(draft: draft),
      try grid.sorted(by: >).map { threshold in
        (
          "rollback \(TableText.short(threshold))",
          try SpeculationStrategy(
            [draft.source], for: loaded.model, rule: .rollback(threshold: threshold),
            fallback: drafting.fallback?.values.first ?? draft.usualFallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength)
        )
      }
    )
  }

  private func answerLines(
    _ records: [DocumentRecord], _ generations: [Generation], _ loss: SequenceLoss, hasCost: Bool
  ) throws -> [AnswerLine] {
    zip(records, generations).compactMap { record, generation in
      guard case .answer(let question) = record.item.task else { return nil }
      let answer = DocumentAnswer(generation, document: record.original, question: question)
      let text = generation.text.trimmingWhitespace()
      return AnswerLine(
        id: record.id, text: text, answered: answer.answered, inside: generation.applicability?.isInside,
        confidence: answer.confidence ?? 0, loss: loss.loss(text, references: record.references ?? []),
        layers: hasCost ? generation.averageLayer : nil)
    }
  }

  private func calibrate(
    _ calibration: SelectiveCalibration, _ lines: [AnswerLine]
  ) throws -> SelectiveCalibration.Result {
    let given = lines.filter(\.isCandidate)
    return try calibration.calibrate(confidences: given.map(\.confidence), losses: given.map(\.loss))
  }

  private static func choice(_ names: [String], _ lines: [[AnswerLine]], _ chosen: Int) -> String {
    let layers = lines[chosen].compactMap(\.layers)
    let mean = layers.isEmpty ? nil : layers.reduce(0, +) / Double(layers.count)
    return "of \(names.joined(separator: ", ")), the fastest that answers about as many is \(names[chosen])"
      + (mean.map { "; a token passes \($0.formatted(places: 1)) layers on average" } ?? "")
  }

  private func answers(
    _ model: LanguageModel, _ records: [DocumentRecord], _ applicability: PolicyGuard?,
    strategy: (any DecodingStrategy)?, named name: String
  ) throws -> [Generation] {
    let batch = BatchDecoder(model: model, shouldStop: { Interrupt.isRequested })
    for record in records {
      var options = try model.options(for: record, maxTokens: documents.maxTokens)
      options.recordsProbabilities = true
      options.applicability = applicability?.found
      batch.submit(
        prompt: try model.wholePrompt(for: record, options: options), options: options,
        strategy: strategy ?? FullDepth())
    }
    let bar = ProgressBar(total: records.count, what: strategy == nil ? "answers" : "answers at \(name)")
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
        "\(TableText.short(certificate.epsilon)) (\(certificate.metric) of the answers given; "
          + "\(certificate.bound.rawValue), delta "
          + "\(TableText.short(certificate.delta)); \(certificate.sampleCount) tested, "
          + "\(certificate.designCount) chose where to begin)"
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
    lines.append(("guarantee", certificate.statement))
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
