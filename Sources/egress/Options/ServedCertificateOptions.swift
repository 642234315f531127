import ArgumentParser
import Certification
import Serving

/// The certificates that a server decodes under.
struct ServedCertificateOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      """
      Decode documents as a certificate that calibrate wrote says; may be given again, for other tasks. Requests that \
      it does not hold for are decoded at full depth.
      """, valueName: "cert.json"))
  var certificate: [String] = []

  @Option(
    help: ArgumentHelp(
      "What drafts, for a certificate of drafts: head for the draft head that comes with the model, a file, or a "
        + "small model.",
      valueName: "draft"))
  var draft = "head"

  @Option(
    help: ArgumentHelp(
      "Exit heads, for a certificate of early exits; none for the model's own head. (default: those that come with "
        + "the program)",
      valueName: "file"))
  var exitHeads: String?

  @Flag(help: "Decode everything at full depth, whatever adapt has found for the model, and draft nothing.")
  var fullDepth = false

  func validate(with auditing: AuditOptions) throws {
    if auditing.audit != nil, certificate.isEmpty { throw ValidationError("--audit needs a --certificate.") }
    if fullDepth, !certificate.isEmpty {
      throw ValidationError("--full-depth and --certificate exclude each other.")
    }
    if auditing.auditLog != nil, certificate.count > 1 {
      throw ValidationError("--audit-log is of one certificate, but \(certificate.count) are given.")
    }
  }

  /// Reads them, and says what each says; without any, the one that the folder of an adapted model has.
  func load(_ loaded: LoadedModel, threads: Int?, _ auditing: AuditOptions) throws -> [ServedCertificate] {
    var found: [ServedCertificate] = []
    var (paths, heads) = (certificate, exitHeads)
    if paths.isEmpty, !fullDepth, let (adaptation, folder) = try loaded.adaptation(),
      adaptation.way != .fullDepth
    {
      paths = [Adaptation.certificate(of: adaptation.way, in: folder)]
      if adaptation.way.leavesEarly { heads = Adaptation.File.heads.path(in: folder) }
    }
    for path in paths {
      let subject =
        try ServedCertificate.needsDraft(path)
        ? loaded.subject(draft: LoadedDraft(draft, for: loaded, threads: threads))
        : loaded.subject(ExitPolicyOptions.parse(heads.map { ["--exit-heads", $0] } ?? []))
      let served = try ServedCertificate(path: path, for: subject)
      Console.note("\(path): \(served.statement)")
      found += try audited(served, subject, auditing)
    }
    if auditing.audit != nil, !found.contains(where: \.isAudited) {
      throw CommandError("--audit: none of these certificates can be audited; they are of answers")
    }
    return found
  }

  /// A certificate, and after it the safer ones that go on in its place after its monitor's alarm.
  private func audited(
    _ served: ServedCertificate, _ subject: DecodingSubject, _ auditing: AuditOptions
  ) throws -> [ServedCertificate] {
    guard let share = auditing.audit else { return [served] }
    let chain = try served.chain(for: subject, auditing: share, log: auditing.auditLog)
    if !chain[0].isAudited { Console.note("\(served.path): not audited, since it is of answers") }
    if chain[0].isAlarmed {
      Console.warning(
        "the monitor of \(served.path) raised its alarm: decoding "
          + (chain.dropFirst().first.map { "with \($0.path), which is safer" } ?? "at full depth"))
    }
    return chain
  }
}
