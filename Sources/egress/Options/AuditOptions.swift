import ArgumentParser
import Certification
import Generation

/// A share of a certificate's outputs that is compared with full depth, to see whether the certificate still holds.
struct AuditOptions: ParsableArguments {
  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      With --certificate, decode this share of the outputs at full depth too, above 0 and at most 1, and log how far \
      they are apart; egress monitor reads the log. Once it raises its alarm, decoding goes on with a certificate of a \
      smaller epsilon that calibrate made with this one, or at full depth.
      """, valueName: "share"))
  var audit: Double?

  @Option(
    help: ArgumentHelp(
      "Where the audits are logged; several processes may write one log. (default: beside the certificate)",
      valueName: "audit.jsonl"))
  var auditLog: String?

  func validate() throws {
    if let audit, !(audit > 0 && audit <= 1) {
      throw ValidationError("--audit must be above 0 and at most 1, but is \(audit).")
    }
    if auditLog != nil, audit == nil { throw ValidationError("--audit-log has no effect without --audit.") }
  }

  func validate(with exits: ExitOptions) throws {
    if audit != nil, exits.certificate == nil { throw ValidationError("--audit needs a --certificate.") }
  }

  /// The certificate to decode with: the one given, or after its alarm the next safer one that was made with it and has
  /// no alarm. The one given where none is left: decoding is then at full depth.
  func certificateInUse(_ exits: ExitOptions) throws -> String? {
    guard audit != nil, auditLog == nil, let given = exits.certificate, try CertificateAudit.isAlarmed(given)
    else {
      return exits.certificate
    }
    guard
      let safer = try CertifiedPolicy.safer(than: given).first(where: { try !CertificateAudit.isAlarmed($0) })
    else {
      return given
    }
    Console.warning("the monitor of \(given) raised its alarm: decoding with \(safer), which is safer")
    return safer
  }

  /// - Throws: `CertificationError` for a certificate that says nothing to audit, `RiskControlError` for a log of
  ///   another one.
  func makeAuditor(_ exits: ExitOptions) throws -> Auditor? {
    guard let audit, let path = exits.certificate else { return nil }
    return Auditor(try CertificateAudit(of: path, log: auditLog), share: audit)
  }
}

/// Compares outputs with full depth, a share of them, and logs the losses.
final class Auditor {
  private let audit: CertificateAudit
  private let share: Double

  init(_ audit: CertificateAudit, share: Double) {
    self.audit = audit
    self.share = share
  }

  var isAlarmed: Bool { audit.monitor.isAlarmed }

  /// Said where the alarm was raised before.
  var standing: String {
    "the monitor of this certificate raised its alarm at audit \(audit.monitor.alarmAt ?? 0), and no safer one is left: "
      + "decoding at full depth"
  }

  /// Draws whether an output is audited, and if it is, decodes its prompt at full depth and logs the loss.
  ///
  /// - Parameters:
  ///   - options: Those that the output was decoded with.
  ///   - source: The document.
  /// - Throws: `RiskControlError` for a log that cannot be written.
  func look(
    at generation: Generation, model: LanguageModel, options: GenerationOptions, source: String
  ) throws {
    guard Double.random(in: 0..<1) < share else { return }
    var full: Generation?
    // What the guard found outside was decoded at full depth already.
    if generation.applicability?.isInside ?? true {
      let session = try model.makeSession(
        prompt: generation.promptTokenIDs, options: options.atFullDepth, shouldStop: { Interrupt.isRequested }
      )
      while try session.next() != nil {}
      guard session.stopReason != .cancelled else { return }
      full = session.generation
    }
    let before = audit.monitor.isAlarmed
    let after = try audit.note(audit.loss(of: generation, full: full, source: source))
    if after.isAlarmed, !before {
      Console.warning(
        "alarm: after \(after.count) audits the outputs are farther from full depth than the certificate has "
          + "it (mean loss "
          + "\(after.meanLoss.formatted(places: 3)), p = \(TableText.short(after.pValue))); from now on decoding is "
          + "at a safer threshold that is certified, or at full depth"
      )
    }
  }
}
