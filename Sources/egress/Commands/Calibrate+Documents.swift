import ArgumentParser
import Certification
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
      model ?? ModelManifest.defaultName, threads: threads, compute: compute ?? .quantized, adapter: adapter)
    let draft = try drafting.draft.map { try LoadedDraft($0, for: loaded, threads: threads) }
    let stem = documents.stem
    let made = try guarding.make(
      loaded, records: all, stem: stem, maxTokens: documents.maxTokens,
      check: checkFeasibility)
    let records = Array(all.dropFirst(made?.documents ?? 0))
    let policyGuard = made?.guard
    // What a sweep decodes with: greedily, whole documents, one task a document.
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: documents.maxTokens)
    func candidate(_ name: String, stem: String, _ sweep: ThresholdSweep) throws -> Candidate {
      Candidate(
        name: name, stem: stem,
        calibrator: try Calibrator(sweep, metric: metric, risk: risk, documentsPath: data, records: records))
    }
    let candidates: [Candidate]
    if let draft {
      let fallbacks = drafting.fallback?.values ?? [draft.usualFallback]
      candidates = try fallbacks.map { fallback in
        try candidate(
          "fallback \(fallback)", stem: fallbacks.count == 1 ? stem : "\(stem).fallback-\(fallback)",
          .drafts(
            loaded.subject(), draft: draft.subject(), fallback: fallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength, grid: documents.grid?.values,
            maxTokens: documents.maxTokens, regime: regime, guard: policyGuard))
      }
    } else {
      candidates = [try candidate("exits", stem: stem, exitSweep(loaded, metric, regime, policyGuard))]
    }
    let subjects = try candidates.map { try $0.calibrator.subject() }
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
    var measured: SweepCosts?
    func measure(_ sweep: ThresholdSweep) throws -> SweepCosts {
      let costs = try measured ?? sweep.measure()
      measured = costs
      return costs
    }
    let outputs = try candidates.map { candidate in
      try runs(candidate.calibrator, path: candidate.stem + ".runs.jsonl") {
        try measure(candidate.calibrator.sweep)
      }
    }
    if let lines = outputs.first {
      for one in [(metric: metric, risk: risk)] + further.map({ (metric: $0.metric, risk: $0.risk) }) {
        try candidates[0].calibrator.checkVacuity(lines, metric: one.metric, risk: one.risk)
      }
    }
    let tables = try zip(candidates, outputs).map { candidate, lines in
      try candidate.calibrator.losses(
        lines, path: candidate.stem + ".losses.jsonl", isAlone: further.isEmpty)
    }
    var certificates: [Certificate]
    var chosen = 0
    if candidates.count == 1 {
      let others = try further.map { one in
        (
          table: try candidates[0].calibrator.losses(
            outputs[0], path: "\(candidates[0].stem).\(one.metric.name).losses.jsonl", metric: one.metric,
            risk: one.risk, isAlone: false),
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
          policiesCompared: candidates.count, subject: subjects[chosen], program: EgressVersion.program)
      ]
    }
    let lines = outputs[chosen]
    for index in certificates.indices {
      certificates[index].auditEpsilon = try auditEpsilon(
        certificates[index], lines: lines, records: records, metric: metric, risk: risk)
    }
    if policyGuard != nil {
      let outside = lines.reduce(0) { $0 + ($1.inside == false ? 1 : 0) }
      for index in certificates.indices {
        certificates[index].outsideShare = Double(outside) / Double(max(lines.count, 1))
      }
    }
    let layerCount = loaded.model.decoder.configuration.layerCount
    let remarks = certificates.compactMap { certificate -> String? in
      guard let threshold = certificate.threshold else { return nil }
      func mean(_ values: (RunLine) -> Double) -> Double {
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
    if policyGuard == nil, !guarding.noGuard { Console.note(CalibrationGuard.absence(records.count)) }
    try finish(certificates, files, remarks: remarks)
  }

  /// One of the policies to choose among.
  private struct Candidate {
    var name: String
    /// What the names of its files begin with.
    var stem: String
    var calibrator: Calibrator
  }

  private func readRecords(_ data: String, metric: QualityMetric, risk: QualityRisk) throws
    -> [DocumentRecord]
  {
    let records = Array(
      try DocumentFile.read(data).prefix(
        documents.limit ?? .max))
    for one in try [(metric: metric, risk: risk)]
      + furtherMetrics().map({ (metric: $0.metric, risk: $0.risk) })
    {
      try one.risk.check(records, metric: one.metric, name: data)
    }
    return records
  }

  private func exitSweep(
    _ loaded: LoadedModel, _ metric: QualityMetric, _ regime: DecodingRegime, _ policyGuard: PolicyGuard?
  ) throws -> ThresholdSweep {
    let subject = try loaded.subject(exits)
    let policy = try exits.policy(threshold: 0, heads: subject.heads)
    guard policy.threshold < 1 else {
      throw CommandError("the exit plan has no exits, for none pays: there is no threshold to calibrate")
    }
    return try .exits(
      subject, strategy: exits.strategy(policy, heads: subject.heads, model: loaded.model), policy: policy,
      distance: metric.distance, grid: documents.grid?.values, lowest: documents.lowest ?? 0,
      isExhaustive: documents.everyThreshold,
      maxTokens: documents.maxTokens, regime: regime, guard: policyGuard)
  }

  /// The outputs of every document: those of an earlier run that are in the file, and the others.
  private func runs(
    _ calibrator: Calibrator, path: String, measure: @escaping () throws -> SweepCosts
  ) throws -> [RunLine] {
    let file = try calibrator.openRuns(path, measure: measure)
    let (before, count) = (file.lines.count, calibrator.records.count)
    if before > 0 { Console.note("\(path) has \(min(before, count)) of \(count) documents already") }
    let bar = ProgressBar(total: count, what: "documents")
    Interrupt.watch()
    bar.show(done: before)
    defer { bar.clear() }
    let lines = try calibrator.complete(file, shouldStop: { Interrupt.isRequested }) { bar.show(done: $0) }
    guard let lines else {
      bar.clear()
      Console.note(
        "\(path) has \(file.lines.count) of \(count) documents; the same command goes on from there")
      throw ExitCode(Interrupt.exitCode)
    }
    return lines
  }
}
