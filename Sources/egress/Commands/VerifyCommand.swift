import ArgumentParser
import Certification
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
  @OptionGroup var others: VerificationOptions

  func validate() throws {
    if let name = reading.given.first(where: { ["loss-bound", "no-full-model"].contains($0) }) {
      throw ValidationError("--\(name) comes from the certificate; leave it out")
    }
  }

  func run() throws {
    let found = try Certificate.read(path: certificate)
    if let key = others.verifyKey {
      try found.checkSignature(of: CertificateVerifyingKey(path: key), name: certificate)
    }
    try found.checkFiles(model: others.model, policy: others.policy)
    let losses = try reading.read(table, lossBound: found.lossBound, hasFullModel: found.startsAtFullModel)
    try found.verify(losses, further: others.furtherTables(of: found, reading), weights: others.ratios())
    try TextOutput.standard.write(CertificateText.verified(found, path: certificate, table: table))
  }
}
