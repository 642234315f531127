import Certification
import FileFormats
import RiskControl
import TestSupport
import Testing

/// What a person reads of a certificate.
@Suite struct StatementTests {
  /// A hundred samples, of which so many lose everything below full depth.
  private func certificate(
    _ metric: String, _ risk: QualityRisk, losing count: Int = 0, _ settings: CalibrationSettings
  ) throws -> Certificate {
    let table = try LossTable(
      steps: (0..<100).map { LossSteps(thresholds: [1, 0.5], losses: [0, $0 < count ? 1 : 0]) })
    return Certificate(
      try Calibration(settings).calibrate(table), table: table, settings: settings,
      subject: Certificate.Subject(risk: risk.name, metric: metric), program: "test")
  }

  @Test func `it names the samples, the loss, the confidence and what it holds for`() throws {
    let mean = CalibrationSettings(epsilon: 0.05, delta: 0.1)
    #expect(
      try certificate("rouge-l", .gap, mean).statement
        == "Calibrated on 100 documents. On average ROUGE-L falls by at most 0.05 (90 % confidence). Valid for "
        + "documents like those.")
    #expect(try certificate("token-f1", .gap, mean).statement.contains("F1 falls by at most 0.05"))
    #expect(try certificate("edit-distance", .gap, mean).statement.contains("edit distance rises by at most"))
    #expect(
      try certificate("rouge-2-stem", .consistency, mean).statement
        .contains("outputs differ from the full model's in ROUGE-2 of stems by at most 0.05"))
    #expect(
      try certificate("brier", .consistency, mean).statement.contains("in the Brier distance by at most 0.05")
    )
    // Not one of ours: a table of another system.
    let other = try certificate("pixels", .gap, mean).statement
    #expect(other.hasPrefix("Calibrated on 100 samples. On average the loss (pixels; performance gap)"))
    #expect(try certificate("rouge-l", .gap, mean).caution.contains("Nothing is said about a single one"))
  }

  @Test func `it says what rule and measure say, and nothing more`() throws {
    var settings = CalibrationSettings(epsilon: 0.25, delta: 0.05)
    #expect(try certificate("rouge-l", .gap, settings).statement.contains("(95 % confidence)"))
    settings.measure = .quantile(level: 0.9)
    #expect(
      try certificate("rouge-l", .gap, settings).statement
        .contains("For 90 % of documents ROUGE-L falls by at most 0.25 (95 % confidence)"))
    settings.measure = .mean
    settings.rule = .crc
    let crc = try certificate("rouge-l", .gap, settings).statement
    #expect(crc.contains("On average over such calibrations") && !crc.contains("confidence"))
    settings.rule = .empirical
    #expect(try certificate("rouge-l", .gap, settings).statement.contains("Nothing is guaranteed"))
    settings.rule = .ucb
    #expect(
      try certificate("rouge-l", .gap, losing: 90, settings).statement
        == "Calibrated on 100 documents. Only the full model is certified: no faster threshold was safe enough."
    )
  }

  @Test func `files that are not those of the certificate are refused by name`() throws {
    let directory = try TemporaryDirectory()
    let (model, other) = (try directory.write("a.gguf", "model"), try directory.write("b.gguf", "another"))
    let settings = CalibrationSettings(epsilon: 0.1, delta: 0.1)
    let table = try LossTable(steps: (0..<100).map { _ in LossSteps(thresholds: [1, 0.5], losses: [0, 0]) })
    let certificate = Certificate(
      try Calibration(settings).calibrate(table), table: table, settings: settings,
      subject: Certificate.Subject(modelDigest: try FileDigest.sha256(path: model)), program: "test")
    try certificate.checkFiles()
    try certificate.checkFiles(model: model)
    let error = #expect(throws: CertificationError.self) { try certificate.checkFiles(model: other) }
    #expect(
      error?.kind == .notCovered && error?.description.contains("b.gguf: the model is not the one") == true)
    let none = #expect(throws: CertificationError.self) { try certificate.checkFiles(policy: model) }
    #expect(none?.description.hasSuffix("expected none: the certificate names no policy") == true)
  }
}
