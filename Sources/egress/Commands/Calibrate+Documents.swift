import ArgumentParser
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import LossTables
import RiskControl

extension Calibrate {
  /// Runs the model, makes the table of losses and calibrates on it.
  func runOnDocuments(_ settings: CalibrationSettings) throws {
    guard let data = documents.data else { return }
    let (metric, risk) = try quality()
    let all = try readRecords(data, metric: metric, risk: risk)
    // What cannot come out is told before anything is run.
    func checkFeasibility(_ count: Int) throws {
      for epsilon in rule.epsilon.values {
        // With several metrics these are theirs, and otherwise of one certificate each.
        var one = settings
        one.epsilon = epsilon
        try one.checkFeasibility(sampleCount: count, lossBound: metric.bound)
      }
    }
    try checkFeasibility(all.count)
    let loaded = try ModelOptions.load(
      model ?? ModelManifest.defaultName, threads: threads, compute: compute ?? .quantized)
    let draft = try drafting.draft.map { try LoadedDraft($0, for: loaded, threads: threads) }
    let stem = documents.stem
    let applicability = try CertificateGuard.make(
      loaded, records: all, options: guarding, stem: stem, maxTokens: documents.maxTokens,
      check: checkFeasibility)
    let records = Array(all.dropFirst(applicability?.documents ?? 0))
    // What a sweep decodes with: greedily, whole documents, one task a document.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    let candidates: [Candidate]
    if let draft {
      let fallbacks = drafting.fallback?.values ?? [draft.usualFallback]
      candidates = try fallbacks.map { fallback in
        Candidate(
          name: "fallback \(fallback)", stem: fallbacks.count == 1 ? stem : "\(stem).fallback-\(fallback)",
          sweep: try ThresholdSweep.drafts(
            loaded, draft: draft, fallback: fallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength,
            grid: documents.grid?.values, maxTokens: documents.maxTokens, regime: regime,
            applicability: applicability))
      }
    } else {
      candidates = [
        Candidate(
          name: "exits", stem: stem,
          sweep: try ThresholdSweep.exits(
            loaded, options: exits, distance: metric.distance, grid: documents.grid?.values,
            isExhaustive: documents.everyThreshold,
            lowest: documents.lowest ?? 0, maxTokens: documents.maxTokens, regime: regime,
            applicability: applicability))
      ]
    }
    let subjects = candidates.map {
      Certificate.Subject(
        risk: risk.name, metric: metric.name, modelDigest: $0.sweep.modelDigest,
        policyDigest: $0.sweep.policyDigest, policy: $0.sweep.policy)
    }
    // Before hours of work, not after.
    let further = try furtherMetrics()
    let epsilons = further.isEmpty ? rule.epsilon.values : Array(rule.epsilon.values.prefix(1))
    let files = try epsilons.map { epsilon in
      let file = try CertificateFile(path: path(for: epsilon), replacing: force)
      var settings = settings
      settings.epsilon = epsilon
      try file.check(settings: settings, subjects: subjects, sampleCount: records.count)
      return file
    }
    // Policies are compared by what the same parts cost.
    var measured: JSONValue?
    func measure(_ sweep: ThresholdSweep) throws -> JSONValue {
      let costs = try measured ?? sweep.measure()
      measured = costs
      return costs
    }
    let outputs = try candidates.map { candidate in
      try runs(candidate.sweep, on: records, path: candidate.stem + ".runs.jsonl", data: data) {
        try measure(candidate.sweep)
      }
    }
    for one in [(metric: metric, risk: risk)] + further.map({ (metric: $0.metric, risk: $0.risk) }) {
      guard one.risk == .gap, case .text(let loss) = one.metric, loss.readsReferences,
        let lines = outputs.first
      else { continue }
      let losses = zip(lines, records).map { loss.loss($0.texts[0], references: $1.references ?? []) }
      if let reason = loss.vacuity(fullModelLosses: losses) { throw CommandError("\(data): \(reason)") }
    }
    let tables = try zip(candidates, outputs).map { candidate, lines in
      try writeLosses(
        lines, of: records, metric: metric, risk: risk, path: candidate.stem + ".losses.jsonl",
        isAlone: further.isEmpty)
    }
    var certificates: [Certificate]
    var chosen = 0
    if candidates.count == 1 {
      let others = try further.map { one in
        (
          table: try writeLosses(
            outputs[0], of: records, metric: one.metric, risk: one.risk,
            path: "\(candidates[0].stem).\(one.metric.name).losses.jsonl", isAlone: false),
          epsilon: one.epsilon, metric: "\(one.metric.name), \(one.risk.name)"
        )
      }
      certificates = try calibrateOne(settings, subjects[0], losses: tables[0], further: others)
    } else {
      let choice = try choose(
        settings, among: zip(candidates, tables).map { Calibration.Policy(name: $0.name, table: $1) })
      chosen = choice.chosen ?? 0
      certificates = [
        Certificate(
          choice.results[chosen], table: tables[chosen], settings: settings,
          policiesCompared: candidates.count, subject: subjects[chosen], program: Self.program)
      ]
    }
    let lines = outputs[chosen]
    for index in certificates.indices {
      certificates[index].auditEpsilon = try auditEpsilon(
        certificates[index], lines: lines, records: records, metric: metric, risk: risk)
    }
    if applicability != nil {
      let outside = lines.reduce(0) { $0 + ($1.inside == false ? 1 : 0) }
      for index in certificates.indices {
        certificates[index].outsideShare = Double(outside) / Double(max(lines.count, 1))
      }
    }
    let layerCount = loaded.model.decoder.configuration.layerCount
    let remarks = certificates.compactMap { certificate -> String? in
      guard let threshold = certificate.threshold else { return nil }
      func mean(_ values: (SweepLine) -> Double) -> Double {
        lines.map(values).reduce(0, +) / Double(lines.count)
      }
      let megabytes = (mean { $0.costs[$0.piece(at: threshold)] }, mean { $0.costs[0] })
      let milliseconds = (
        (certificate.cost ?? 0).formatted(places: 2), (certificate.safestCost ?? 0).formatted(places: 2)
      )
      if let draft {
        return
          "at epsilon \(certificate.settings.epsilon), \(draft.name) drafting for \(loaded.model.name), a token "
          + "reads \(megabytes.0.formatted(places: 1)) MB of weights of both and takes \(milliseconds.0) ms by what passes "
          + "cost on this machine; \((Double(loaded.model.bytesPerToken) / 1e6).formatted(places: 1)) MB without drafts, and "
          + "\(milliseconds.1) ms with the drafts that pay"
          + (certificate.pays == false && threshold > 0
            ? ", so that is what decoding with this certificate takes" : "")
      }
      let layer = mean { $0.layers[$0.piece(at: threshold)] }
      return "at epsilon \(certificate.settings.epsilon), a token passes \(layer.formatted(places: 1)) of "
        + "\(layerCount) layers on average, reads \(megabytes.0.formatted(places: 1)) MB of weights and takes "
        + "\(milliseconds.0) ms by what its parts cost on this machine; "
        + "\(megabytes.1.formatted(places: 1)) MB and \(milliseconds.1) ms at full depth"
        + (certificate.pays == false && threshold < 1
          ? ", so that is what decoding with this certificate takes" : "")
    }
    if applicability == nil, !guarding.noGuard { Console.note(CertificateGuard.absence(records.count)) }
    try finish(certificates, files, remarks: remarks)
  }

  /// One of the policies to choose among.
  private struct Candidate {
    var name: String
    /// What the names of its files begin with.
    var stem: String
    var sweep: ThresholdSweep
  }

  private func readRecords(_ data: String, metric: QualityMetric, risk: QualityRisk) throws -> [BatchRecord] {
    let records = Array(
      try BatchInput.read(data).prefix(
        documents.limit ?? .max))
    let readsReferences =
      try metric.readsReferences && risk == .gap
      || furtherMetrics().contains { $0.metric.readsReferences && $0.risk == .gap }
    if readsReferences, let record = records.first(where: { $0.references?.isEmpty ?? true }) {
      throw CommandError(
        "\(data): document \(record.id) has no references (an array of texts), which --risk gap needs")
    }
    for one in try [(metric: metric, risk: risk)]
      + furtherMetrics().map({ (metric: $0.metric, risk: $0.risk) })
    {
      guard one.risk == .gap, case .text(let loss) = one.metric, loss.readsReferences,
        let reason = loss.vacuity(references: records.map { $0.references ?? [] })
      else { continue }
      throw CommandError("\(data): \(reason)")
    }
    return records
  }

  /// The outputs of every document: those of an earlier run that are in the file, and the others.
  private func runs(
    _ sweep: ThresholdSweep, on records: [BatchRecord], path: String, data: String,
    measure: () throws -> JSONValue
  ) throws -> [SweepLine] {
    var settings = sweep.settings
    settings["policy"] = sweep.policy
    settings["documents"] = .text(try FileDigest.sha256(path: data))
    let file = try SweepFile(path: path, settings: settings, measure: measure, records: records)
    let before = file.lines.count
    if before > 0 {
      Console.note("\(path) has \(min(before, records.count)) of \(records.count) documents already")
    }
    let bar = ProgressBar(total: records.count, what: "documents")
    Interrupt.watch()
    bar.show(done: before)
    defer { bar.clear() }
    let rest = Array(records.dropFirst(before))
    let isComplete: Bool
    do {
      isComplete = try sweep.run(rest, file.costs) { index, outputs in
        try file.append(SweepLine(id: rest[index].id, outputs: outputs))
        bar.show(done: file.lines.count)
      }
    } catch is DecodingError {
      throw CommandError("\(path) line 1: its milliseconds are damaged; remove the file to begin again")
    }
    guard isComplete else {
      bar.clear()
      Console.note(
        "\(path) has \(file.lines.count) of \(records.count) documents; the same command goes on from there")
      throw ExitCode(Interrupt.exitCode)
    }
    return Array(file.lines.prefix(records.count))
  }

  /// Writes the table of losses and reads it back, so that the certificate is of what is in the file.
  private func writeLosses(
    _ lines: [SweepLine], of records: [BatchRecord], metric: QualityMetric, risk: QualityRisk, path: String,
    isAlone: Bool
  ) throws -> LossTable {
    struct Line: Encodable {
      var id: BatchIdentifier
      var thresholds: [Double] = []
      var losses: [Double] = []
      var costs: [Double] = []
    }
    var text = ""
    for (line, record) in zip(lines, records) {
      let losses = line.losses(
        metric, risk: risk, references: record.references ?? [], source: record.item.document)
      var row = Line(id: line.id)
      for (threshold, (loss, cost)) in zip(line.thresholds, zip(losses, line.times))
      where !isAlone || loss != row.losses.last || cost != row.costs.last {
        row.thresholds.append(threshold)
        row.losses.append(loss)
        row.costs.append(cost)
      }
      text += try JSONOutput.line(row) + "\n"
    }
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(path): \(error.localizedDescription)")
    }
    return try LossTable(path: path, options: TableOptions(lossBound: metric.bound))
  }
}
