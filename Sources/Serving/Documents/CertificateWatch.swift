import Certification
import Generation
import Logging
import RiskControl
import Synchronization

/// Watches whether a certificate that is served still holds: a share of its outputs is compared with full depth.
final class CertificateWatch: Sendable {
  private let share: Double
  private let certificate: String
  private let audit: Mutex<CertificateAudit>
  /// What the audits said when they were last looked at. Apart from the log, which another process may hold for a
  /// while.
  private let state: Mutex<RiskMonitor>

  /// - Throws: What opening the log throws.
  init(path: String, digest: String, share: Double, log: String?) throws {
    self.share = share
    certificate = String(digest.prefix(12))
    let audit = try CertificateAudit(of: path, log: log)
    state = Mutex(audit.monitor)
    self.audit = Mutex(audit)
  }

  var isAlarmed: Bool { state.withLock(\.isAlarmed) }

  /// Draws whether an output is audited: by chance, and not by how it looks.
  func draws() -> Bool { Double.random(in: 0..<1) < share }

  func tell(_ metrics: ServerMetrics) { metrics.noteAudits(of: certificate, state.withLock { $0 }) }

  /// Logs how far an output is from full depth.
  ///
  /// - Parameter full: The same at full depth; `nil` where the guard had it decoded so.
  func note(
    _ output: Generation, full: Generation?, source: String, metrics: ServerMetrics, logger: Logger
  ) {
    let before = isAlarmed
    do {
      let after = try audit.withLock { audit in
        try audit.note(audit.loss(of: output, full: full, source: source))
      }
      state.withLock { $0 = after }
      tell(metrics)
      if after.isAlarmed, !before {
        logger.warning(
          "the monitor raised its alarm: from now on a safer certificate or full depth",
          metadata: [
            "certificate": "\(certificate)", "audits": "\(after.count)", "mean_loss": "\(after.meanLoss)",
          ])
      }
    } catch {
      metrics.noteAuditDropped()
      logger.error("an audit could not be logged", metadata: ["error": "\(error)"])
    }
  }
}
