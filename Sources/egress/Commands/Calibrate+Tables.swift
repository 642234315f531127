import Certification
import FileFormats
import RiskControl

/// Certificates of tables of losses, for which no model is run.
extension Calibrate {
  func runOnTables(_ settings: CalibrationSettings) throws {
    let named = Certificate.Subject(
      risk: loss.risk ?? "performance gap", metric: loss.metric ?? "loss",
      modelDigest: try subject.model.map(FileDigest.sha256(model:)),
      policyDigest: try policy.map(FileDigest.sha256(path:)))
    let calibration = try Calibration(settings)
    let certificates: [Certificate]
    if tables.count > 1 {
      let policies = try tables.map { Calibration.Policy(name: $0, table: try table.read($0)) }
      let subjects = policies.map { policy in
        var subject = named
        subject.metric += " (policy \(policy.name))"
        return subject
      }
      let (certificate, choice) = try calibration.certificate(
        among: policies, subjects: subjects, program: EgressVersion.program)
      try show(choice, of: tables)
      certificates = [certificate]
    } else {
      certificates = try calibration.certificates(
        of: table.read(tables[0]), epsilons: rule.epsilon.values, weights: further.ratios(),
        further: further.risks(table), subject: named, program: EgressVersion.program)
    }
    let files = try certificates.map {
      try CertificateFile(path: path(for: $0.settings.epsilon), replacing: writing.force)
    }
    try finish(certificates, files)
  }
}
