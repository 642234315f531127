import Certification
import EarlyExit
import FileFormats
import Foundation
import RiskControl

/// From outputs of the documents to certificates: nothing here runs a model.
extension Calibrate {
  /// Where the certificates go.
  ///
  /// - Throws: ``CertificationError`` where a file holds a certificate of something else.
  func certificateFiles(
    _ settings: CalibrationSettings, subjects: [Certificate.Subject], sampleCount: Int
  ) throws -> [CertificateFile] {
    let epsilons =
      try furtherMetrics().isEmpty ? rule.epsilon.values : Array(rule.epsilon.values.prefix(1))
    return try epsilons.map { epsilon in
      let file = try CertificateFile(path: path(for: epsilon), replacing: force)
      var settings = settings
      settings.epsilon = epsilon
      try file.check(settings: settings, subjects: subjects, sampleCount: sampleCount)
      return file
    }
  }

  /// Makes the tables of losses, calibrates on them, and ends with the status of the best certificate.
  ///
  /// - Parameters:
  ///   - outputs: Of each candidate, all documents.
  ///   - facts: What is said about the decoder.
  func certify(
    _ candidates: [Candidate], outputs: [[RunLine]], settings: CalibrationSettings, facts: DecoderFacts,
    files: [CertificateFile]
  ) throws {
    let (metric, risk) = try quality()
    let further = try furtherMetrics()
    let subjects = try candidates.map { try $0.calibrator.subject() }
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
    let calibrator = candidates[chosen].calibrator
    for index in certificates.indices {
      certificates[index].auditEpsilon = try auditEpsilon(
        certificates[index], lines: lines, records: calibrator.records, metric: metric, risk: risk)
    }
    let isGuarded = calibrator.sweep.settings.policy.applicability != nil
    if isGuarded {
      let outside = lines.reduce(0) { $0 + ($1.inside == false ? 1 : 0) }
      for index in certificates.indices {
        certificates[index].outsideShare = Double(outside) / Double(max(lines.count, 1))
      }
    }
    var isOfPrompts = false
    if case .prompts = calibrator.sweep.settings.policy { isOfPrompts = true }
    let remarks = certificates.compactMap {
      Self.remark(on: $0, lines: lines, facts: facts, isOfPrompts: isOfPrompts)
    }
    if !isGuarded, !guarding.noGuard {
      Console.note(CalibrationGuard.absence(calibrator.records.count))
    }
    try finish(certificates, files, remarks: remarks)
  }

  /// What a certified threshold costs, for the user.
  private static func remark(
    on certificate: Certificate, lines: [RunLine], facts: DecoderFacts, isOfPrompts: Bool
  ) -> String? {
    guard let threshold = certificate.threshold else { return nil }
    func mean(_ values: (RunLine) -> Double) -> Double {
      lines.map(values).reduce(0, +) / Double(lines.count)
    }
    let megabytes = (mean { $0.costs[$0.piece(at: threshold)] }, mean { $0.costs[0] })
    let milliseconds = (
      (certificate.cost ?? 0).formatted(places: 2), (certificate.safestCost ?? 0).formatted(places: 2)
    )
    if let draft = facts.draft {
      return
        "at epsilon \(certificate.settings.epsilon), \(draft) drafting for \(facts.model), a token "
        + "reads \(megabytes.0.formatted(places: 1)) MB of weights of both and takes \(milliseconds.0) ms "
        + "by what passes cost on this machine; \(facts.megabytes.formatted(places: 1)) MB without drafts, and "
        + "\(milliseconds.1) ms with the drafts that pay"
        + (certificate.pays == false && threshold > 0
          ? ", so that is what decoding with this certificate takes" : "")
    }
    let layer = mean { $0.layers[$0.piece(at: threshold)] }
    if isOfPrompts {
      return
        "at epsilon \(certificate.settings.epsilon), a prompt's token passes \(layer.formatted(places: 1)) of "
        + "\(facts.layers) layers on average, and a document, prompt and output, takes \(milliseconds.0) ms by what its parts "
        + "cost on this machine; \(milliseconds.1) ms at full depth"
        + (certificate.pays == false && threshold < Double(facts.layers)
          ? ", so that is what decoding with this certificate takes" : "")
    }
    return "at epsilon \(certificate.settings.epsilon), a token passes \(layer.formatted(places: 1)) of "
      + "\(facts.layers) layers on average, reads \(megabytes.0.formatted(places: 1)) MB of weights and takes "
      + "\(milliseconds.0) ms by what its parts cost on this machine; "
      + "\(megabytes.1.formatted(places: 1)) MB and \(milliseconds.1) ms at full depth"
      + (certificate.pays == false && threshold < 1
        ? ", so that is what decoding with this certificate takes" : "")
  }
}
