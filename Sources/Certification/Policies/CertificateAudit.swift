import Foundation
import Generation
import RiskControl
import TextLosses

/// The audits of a certificate that is in use: how far its outputs are from those of full depth, in a log that
/// `egress monitor` reads and several processes may write.
public final class CertificateAudit {
  private let log: AuditLog
  private let metric: SequenceLoss

  /// Opens the log of a certificate, or makes it.
  ///
  /// - Parameters:
  ///   - path: The certificate.
  ///   - log: Where the audits are logged; `nil` for ``usualLog(of:)``.
  /// - Throws: ``CertificationError`` for a certificate that says nothing to audit it by, `RiskControlError` for a log
  ///   of another one or a file that cannot be written.
  public init(of path: String, log: String? = nil) throws {
    let certificate = try Certificate.read(path: path)
    guard let epsilon = certificate.auditEpsilon,
      let quality = QualityMetric(name: certificate.subject.metric), case .text(let metric) = quality
    else {
      throw CertificationError(
        .certificate,
        "\(path): there is nothing to audit it by; egress calibrate --data with a metric of texts makes one that says"
      )
    }
    self.metric = metric
    self.log = try AuditLog(
      path: log ?? Self.usualLog(of: path),
      header: .init(
        certificate: certificate.digest(), epsilon: epsilon, delta: certificate.settings.delta,
        lossBound: quality.bound, leastLoss: metric.readsReferences ? 0 : -quality.bound,
        metric: metric.readsReferences ? "\(metric.name), consistency" : "\(metric.name), performance gap"))
  }

  /// What the audits say so far: those that this process has logged, and those that it saw of others when it did.
  public var monitor: RiskMonitor { log.monitor }

  /// How far an output is from that of full depth.
  ///
  /// - Parameters:
  ///   - output: What was decoded under the certificate.
  ///   - full: The same at full depth; `nil` where the guard had the output decoded so. Nothing is lost then, and that
  ///     is part of what is certified.
  ///   - source: The document.
  public func loss(of output: Generation, full: Generation?, source: String) -> Double {
    guard let full else { return 0 }
    return (metric.readsReferences ? QualityRisk.consistency : .gap).loss(
      output.text.trimmingWhitespace(), full: full.text.trimmingWhitespace(), references: [], source: source,
      metric: metric)
  }

  /// Logs an audit.
  ///
  /// - Returns: The state after it.
  /// - Throws: `RiskControlError` for a loss out of range or a log that cannot be written: it is then as it was.
  @discardableResult
  public func note(_ loss: Double) throws -> RiskMonitor {
    try log.append(.init(loss: loss, time: Date().timeIntervalSince1970.rounded()))
  }

  /// Where the audits of a certificate are logged usually: docs.audit.jsonl for docs.certificate.json.
  public static func usualLog(of certificate: String) -> String {
    let suffix = ".certificate.json"
    let stem =
      certificate.hasSuffix(suffix)
      ? String(certificate.dropLast(suffix.count)) : (certificate as NSString).deletingPathExtension
    return stem + ".audit.jsonl"
  }

  /// Whether the usual log of a certificate says that its alarm was raised; `false` where there is none.
  ///
  /// - Throws: What reading the log or the certificate throws.
  public static func isAlarmed(_ certificate: String) throws -> Bool {
    let log = usualLog(of: certificate)
    guard FileManager.default.fileExists(atPath: log) else { return false }
    let (header, _, monitor) = try AuditLog.read(path: log)
    // A log of another certificate is refused where it is opened.
    return try monitor.isAlarmed && header.certificate == Certificate.read(path: certificate).digest()
  }
}
