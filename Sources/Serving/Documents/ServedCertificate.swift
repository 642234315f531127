import Certification
import FileFormats
import Generation
import RiskControl

/// A certificate that holds for a served model, and for which requests it does.
public struct ServedCertificate: Sendable {
  /// What a certificate is of.
  public enum Subject: Sendable {
    /// A way of decoding: early exits, or drafts.
    case decoding(CertifiedPolicy)
    /// The confidence from which on answers are given.
    case answers(CertifiedAnswers)
  }

  /// What it is of.
  public let subject: Subject
  /// How documents have to be decoded for it to hold.
  public let regime: DecodingRegime
  /// SHA-256 of the certificate.
  let digest: String
  /// What it says, for whoever reads an answer.
  let summary: [String: JSONValue]
  /// What is guaranteed, as a person reads it; the file's own words are exact.
  public let statement: String
  /// The file that it was read from.
  public let path: String
  /// Compares outputs with full depth; `nil` where nobody does.
  private(set) var watch: CertificateWatch?

  /// Whether a certificate is of drafts, so that what drafts has to be loaded.
  ///
  /// - Throws: What reading a certificate throws.
  public static func needsDraft(_ path: String) throws -> Bool {
    if let answers = try AnswerCertificate.read(path: path) {
      guard case .object(let policy) = answers.policy, case .object(let decoding)? = policy["decoding"] else {
        return false
      }
      return decoding["draft_policy_version"] != nil
    }
    guard case .object(let policy)? = try Certificate.read(path: path).subject.policy else { return false }
    return policy["draft_policy_version"] != nil
  }

  /// Reads a certificate and checks that it holds for what decodes here.
  ///
  /// - Parameters:
  ///   - path: The certificate.
  ///   - subject: The model, with its exit heads or its draft where the certificate is of these.
  /// - Throws: `CertificationError` where it does not hold or certifies nothing, and what reading it throws.
  public init(path: String, for subject: DecodingSubject) throws {
    self.path = path
    if let certificate = try AnswerCertificate.read(path: path) {
      regime = try DecodingRegime(certificatePolicy: certificate.policy, name: path)
      self.subject = .answers(try CertifiedAnswers(certificate, path: path, for: subject, regime: regime))
      digest = try certificate.digest()
      statement = certificate.statement
      summary = [
        "kind": .text("answers"), "epsilon": .number(certificate.epsilon),
        "delta": .number(certificate.delta),
        "metric": .text(certificate.metric), "threshold": .optional(certificate.threshold),
        "guarantee": .text(certificate.guarantee), "statement": .text(certificate.statement),
      ]
      return
    }
    let certificate = try Certificate.read(path: path)
    regime = try DecodingRegime(certificatePolicy: certificate.subject.policy, name: path)
    let policy = try CertifiedPolicy.load(path, for: subject, regime: regime).lookingUp(for: subject.model)
    self.subject = .decoding(policy)
    digest = try certificate.digest()
    statement = certificate.statement
    let kind =
      switch policy.decoding {
      case .fullDepth: policy.promptDepth == nil ? "full depth" : "prompt depth"
      case .exits: policy.promptDepth == nil ? "early exits" : "early exits and prompt depth"
      case .drafts: policy.promptDepth == nil ? "drafts" : "drafts and prompt depth"
      }
    summary = [
      "kind": .text(kind), "epsilon": .number(certificate.settings.epsilon),
      "delta": .number(certificate.settings.delta), "metric": .text(certificate.subject.metric),
      "threshold": .optional(certificate.threshold), "guarantee": .text(certificate.guarantee),
      "statement": .text(certificate.statement),
    ]
  }

  /// The same with a share of its outputs decoded at full depth as well, while nobody else is served, and the losses
  /// logged. Once the monitor raises its alarm, outputs come about with the next certificate of the server that holds
  /// for them, or at full depth.
  ///
  /// - Parameters:
  ///   - share: Above 0 and at most 1.
  ///   - log: Where the losses are logged; `nil` for beside the certificate. Several processes may write one log.
  /// - Throws: ``ServerError`` for another share and a certificate of answers, `CertificationError` for one that says
  ///   nothing to audit it by, `RiskControlError` for a log of another one.
  public func audited(share: Double, log: String? = nil) throws -> ServedCertificate {
    guard share > 0, share <= 1 else {
      throw ServerError("a share must be above 0 and at most 1, but is \(share)")
    }
    guard case .decoding = subject else {
      throw ServerError(
        "\(path): there is nothing to audit it by; it is of answers, and not of a way of decoding")
    }
    var certificate = self
    certificate.watch = try CertificateWatch(path: path, digest: digest, share: share, log: log)
    return certificate
  }

  /// This certificate with a share of its outputs compared with full depth, and after it the safer ones that were made
  /// with it, which go on in its place after its monitor's alarm.
  ///
  /// - Parameters:
  ///   - subject: What decodes.
  ///   - share: Above 0 and at most 1.
  ///   - log: Where the losses are logged; `nil` for beside each certificate. One log is of one certificate, so there
  ///     are no safer ones with it.
  /// - Returns: This certificate alone where it is of answers, which cannot be audited.
  /// - Throws: As ``audited(share:log:)`` does, and what reading the safer ones throws.
  public func chain(
    for subject: DecodingSubject, auditing share: Double, log: String? = nil
  ) throws -> [ServedCertificate] {
    guard case .decoding = self.subject else { return [self] }
    var chain = [try audited(share: share, log: log)]
    guard log == nil else { return chain }
    for path in try CertifiedPolicy.safer(than: path) where try !CertificateAudit.isAlarmed(path) {
      chain.append(try ServedCertificate(path: path, for: subject).audited(share: share))
    }
    return chain
  }

  /// Whether a share of its outputs is compared with full depth.
  public var isAudited: Bool { watch != nil }

  /// Whether its monitor has raised the alarm.
  public var isAlarmed: Bool { watch?.isAlarmed == true }

  /// - Parameter reason: Why it is not applied, or `nil` where it is.
  func json(reason: String?) -> JSONValue {
    var fields = summary
    fields["sha256"] = .text(digest)
    fields["applied"] = .boolean(reason == nil)
    fields["reason"] = .optional(reason)
    return .object(fields)
  }
}

extension ServedModel {
  /// The certificate that a request falls under, and why the one of its task does not hold where none does. Of several
  /// that hold, the first whose monitor has not raised its alarm.
  func certificate(for regime: DecodingRegime) -> (certificate: ServedCertificate, reason: String?)? {
    var other: (ServedCertificate, String?)?
    var alarmed: ServedCertificate?
    for certificate in certificates {
      guard let (field, expected, found) = certificate.regime.firstDifference(to: regime) else {
        if !certificate.isAlarmed { return (certificate, nil) }
        alarmed = alarmed ?? certificate
        continue
      }
      if field != "task", other == nil {
        other = (certificate, "\(field) was \(expected) when it was made, and is \(found) here")
      }
    }
    return alarmed.map { ($0, "its monitor raised the alarm: decoded at full depth") } ?? other
  }
}
