import ArgumentParser
import Certification
import Foundation
import RiskControl

/// Where certificates go, and what is said of them. Nothing here runs a model.
extension Calibrate {
  typealias Candidate = Calibrator.Candidate

  /// Replaces a certificate of other settings.
  var force: Bool {
    get { writing.force }
    set { writing.force = newValue }
  }

  /// With --data, the metric and the risk; of several metrics, the first.
  func quality() throws -> (metric: QualityMetric, risk: QualityRisk) {
    try loss.quality(exitCache: exits.exitCache)
  }

  /// Where a certificate goes: beside its table, unless told otherwise; with its ε in the name where there are several.
  func path(for epsilon: Double) -> String {
    let table = tables.first == "-" ? "standard-input" : tables.first ?? documents.stem
    let stem = documents.data == nil ? (table as NSString).deletingPathExtension : table
    let path = writing.certificate ?? stem + ".certificate.json"
    guard rule.epsilon.values.count > 1, documents.data == nil || loss.names.count == 1 else { return path }
    let whole = path as NSString
    let (base, suffix) = (whole.deletingPathExtension, whole.pathExtension)
    return "\(base).epsilon-\(epsilon)" + (suffix.isEmpty ? "" : ".\(suffix)")
  }

  /// Where the certificates of documents go.
  ///
  /// - Throws: ``CertificationError`` where a file holds a certificate of something else.
  func certificateFiles(
    _ settings: CalibrationSettings, subjects: [Certificate.Subject], sampleCount: Int
  ) throws -> [CertificateFile] {
    let epsilons = rule.epsilon.values
    return try (loss.further(epsilons).isEmpty ? epsilons : Array(epsilons.prefix(1))).map { epsilon in
      let file = try CertificateFile(path: path(for: epsilon), replacing: force)
      var settings = settings
      settings.epsilon = epsilon
      try file.check(settings: settings, subjects: subjects, sampleCount: sampleCount)
      return file
    }
  }

  /// Certifies thresholds on outputs of all documents, and ends with the status of the best certificate.
  ///
  /// - Parameters:
  ///   - outputs: Of each candidate, all documents.
  ///   - facts: What is said about the decoder.
  func certify(
    _ candidates: [Candidate], outputs: [[RunLine]], settings: CalibrationSettings, facts: DecoderFacts,
    files: [CertificateFile]
  ) throws {
    let found = try Calibrator.certify(
      candidates, outputs: outputs, settings: settings,
      demands: Calibrator.Demands(
        epsilons: rule.epsilon.values, further: loss.further(rule.epsilon.values),
        tables: further.risks(table),
        weights: further.ratios()))
    if let choice = found.choice { try show(choice, of: candidates.map(\.name)) }
    let calibrator = candidates[found.chosen].calibrator
    let policy = calibrator.sweep.settings.policy
    if policy.applicability == nil, !guarding.noGuard {
      Console.note(CalibrationGuard.absence(calibrator.records.count))
    }
    try finish(
      found.certificates, files,
      remarks: found.certificates.compactMap {
        CertificateText.cost(of: $0, lines: outputs[found.chosen], facts: facts, policy: policy)
      })
  }

  /// Writes and prints certificates and ends with the status of the best.
  func finish(_ unsigned: [Certificate], _ files: [CertificateFile], remarks: [String] = []) throws {
    let certificates = try writing.write(unsigned, to: files)
    let text =
      try format == .json
      ? CertificateText.json(certificates)
      : zip(certificates, files).map { CertificateText.describe($0, path: $1.path) + "\n" }.joined()
        + remarks.map { $0 + "\n" }.joined()
    try TextOutput.standard.write(text)
    let outcomes = Set(certificates.map(\.outcome))
    throw ExitCode(outcomes.contains(.certified) ? 0 : outcomes.contains(.onlySafest) ? 3 : 2)
  }

  /// Says how each policy came out.
  func show(_ choice: Calibration.PolicyResult, of names: [String]) throws {
    guard format == .text else { return }
    for (name, result) in zip(names, choice.results) {
      let cost = result.outcome.choice?.cost.map { ", cost \(TableText.short($0))" } ?? ""
      try TextOutput.standard.write("policy      \(name): \(result.outcome.name)\(cost)\n")
    }
  }
}
