import ArgumentParser
import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import TextLosses

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
    guard audit != nil, auditLog == nil, let given = exits.certificate, try Self.isAlarmed(given) else {
      return exits.certificate
    }
    guard let safer = try CertifiedPolicy.safer(than: given).first(where: { try !Self.isAlarmed($0) }) else {
      return given
    }
    Console.warning("the monitor of \(given) raised its alarm: decoding with \(safer), which is safer")
    return safer
  }

  private static func isAlarmed(_ certificate: String) throws -> Bool {
    let log = usualLog(certificate)
    guard FileManager.default.fileExists(atPath: log) else { return false }
    let (header, _, monitor) = try AuditLog.read(path: log)
    // A log of another certificate is refused where it is opened.
    return try monitor.isAlarmed && header.certificate == Certificate.read(path: certificate).digest()
  }

  /// - Throws: ``CommandError`` for a certificate that says nothing to audit, `RiskControlError` for a log of another
  ///   one.
  func makeAuditor(_ exits: ExitOptions) throws -> Auditor? {
    guard let audit, let path = exits.certificate else { return nil }
    let certificate = try Certificate.read(path: path)
    guard let epsilon = certificate.auditEpsilon,
      let metric = QualityMetric(name: certificate.subject.metric), case .text(let loss) = metric
    else {
      throw CommandError(
        "\(path): there is nothing to audit it by; egress calibrate --data with a metric of texts makes one that says"
      )
    }
    let log = try AuditLog(
      path: auditLog ?? Self.usualLog(path),
      header: .init(
        certificate: certificate.digest(), epsilon: epsilon, delta: certificate.settings.delta,
        lossBound: metric.bound, leastLoss: loss.readsReferences ? 0 : -metric.bound,
        metric: loss.readsReferences ? "\(loss.name), consistency" : "\(loss.name), performance gap"))
    return Auditor(log: log, share: audit, loss: loss)
  }

  /// docs.audit.jsonl for docs.certificate.json.
  static func usualLog(_ certificate: String) -> String {
    let suffix = ".certificate.json"
    let stem =
      certificate.hasSuffix(suffix)
      ? String(certificate.dropLast(suffix.count)) : (certificate as NSString).deletingPathExtension
    return stem + ".audit.jsonl"
  }
}

/// Compares outputs with full depth, a share of them, and logs the losses.
final class Auditor {
  private let log: AuditLog
  private let share: Double
  private let loss: SequenceLoss

  init(log: AuditLog, share: Double, loss: SequenceLoss) {
    self.log = log
    self.share = share
    self.loss = loss
  }

  var isAlarmed: Bool { log.monitor.isAlarmed }

  /// Said where the alarm was raised before.
  var standing: String {
    "the monitor of this certificate raised its alarm at audit \(log.monitor.alarmAt ?? 0), and no safer one is left: "
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
    var value = 0.0
    // What the guard found outside was decoded at full depth: nothing is lost, and that is part of the policy.
    if generation.applicability?.isInside ?? true {
      let session = try model.makeSession(
        prompt: generation.promptTokenIDs, options: options.atFullDepth, shouldStop: { Interrupt.isRequested }
      )
      while try session.next() != nil {}
      guard session.stopReason != .cancelled else { return }
      value = (loss.readsReferences ? QualityRisk.consistency : .gap).loss(
        generation.text.trimmingWhitespace(), full: session.generation.text.trimmingWhitespace(),
        references: [], source: source, metric: loss)
    }
    let before = log.monitor.isAlarmed
    let after = try log.append(.init(loss: value, time: Date().timeIntervalSince1970.rounded()))
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
