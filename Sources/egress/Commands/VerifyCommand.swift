import ArgumentParser
import Certification
import Checkpoints
import FileFormats
import LossTables
import RiskControl

struct VerifyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "verify",
    abstract: "Recompute a certificate from its data, to the last digit.",
    discussion: """
      Refuses a certificate whose text does not fit its digest, and data that are not those certified. The digest has \
      no key: whoever edits a certificate can write a new one. What cannot be made up is a result that does not follow \
      from the table. Who made a certificate is told by its signature (--verify-key).

      Give the options by which the table was read (--costs, --confidences, ...) as they were for calibrate; epsilon, \
      delta, rule, bound, B and seed come from the certificate.

      Exit status: 0 it recomputes; 1 it does not; 64 the options are wrong.
      """)

  @Argument(help: "Certificate file.")
  var certificate: String

  @Argument(help: "The table it was made from.")
  var table: String

  @OptionGroup var reading: TableArguments

  @Option(help: "Table of a further risk, in the order of calibrate's --also.")
  var also: [String] = []

  @Option(help: "File of density ratios, where the certificate was made with weights.")
  var weights: String?

  @Option(
    name: .customLong("weight-bound"), parsing: .unconditional, help: "Upper bound on any density ratio.")
  var weightBound: Double?

  @Option(help: "File of the model, to compare with the certificate.")
  var model: String?

  @Option(
    help: ArgumentHelp(
      "Refuse a certificate that the Ed25519 key of this PEM file has not signed.", valueName: "public.pem"))
  var verifyKey: String?

  @Option(help: "File of the exit policy, to compare with the certificate.")
  var policy: String?

  func validate() throws {
    if (weights == nil) != (weightBound == nil) {
      throw ValidationError("--weights and --weight-bound belong together")
    }
    if let name = reading.given.first(where: { ["loss-bound", "no-full-model"].contains($0) }) {
      throw ValidationError("--\(name) comes from the certificate; leave it out")
    }
  }

  func run() throws {
    let certificate = try Certificate.read(path: certificate)
    if let verifyKey {
      try certificate.checkSignature(of: CertificateVerifyingKey(path: verifyKey), name: self.certificate)
    }
    try compare(model, with: certificate.subject.modelDigest, what: "model")
    try compare(policy, with: certificate.subject.policyDigest, what: "policy")
    let hasFullModel = certificate.startsAtFullModel
    let losses = try reading.read(table, lossBound: certificate.lossBound, hasFullModel: hasFullModel)
    guard also.count == certificate.furtherRisks.count else {
      throw ValidationError(
        "the certificate holds \(certificate.furtherRisks.count) further risks; give --also once for each, found "
          + "\(also.count)"
      )
    }
    let further = try zip(also, certificate.furtherRisks).map { path, risk in
      try reading.read(path, lossBound: risk.lossBound, hasFullModel: hasFullModel)
    }
    let ratios = try weights.map { path in
      try SampleWeights(try LossTable.numbers(path: path), bound: weightBound ?? 1)
    }
    try certificate.verify(losses, further: further, weights: ratios)
    try TextOutput.standard.write(
      """
      verified    \(self.certificate) recomputes from \(table) to the last digit
      outcome     \(certificate.outcome.rawValue)
      guarantee   \(certificate.statement)
      limits      \(certificate.caution)

      """)
  }

  private func compare(_ path: String?, with expected: String?, what: String) throws {
    guard let path else { return }
    let found = try FileDigest.sha256(model: path)
    guard found == expected else {
      throw VerificationFailure(
        description:
          "\(path): the \(what) is not the one of the certificate: its SHA-256 is \(found), expected "
          + (expected ?? "none: the certificate names no \(what)"))
    }
  }
}
