import ArgumentParser
import Certification
import RiskControl

/// Where certificates go, and who signs them.
struct CertificateOptions: ParsableArguments {
  @Option(
    name: [.customShort("o"), .long],
    help: "Certificate file. (default: TABLE.certificate.json; with --data, NAME.certificate.json)")
  var certificate: String?

  @Option(
    help: ArgumentHelp(
      "Sign the certificate with this Ed25519 key, a PEM file as openssl genpkey -algorithm ed25519 writes it.",
      valueName: "key.pem"))
  var sign: String?

  @Flag(help: "Replace a certificate of other settings.")
  var force = false

  /// Signs certificates where there is a key, and writes them. None is written where one must not be replaced.
  ///
  /// - Returns: The certificates as they are in their files.
  func write(_ unsigned: [Certificate], to files: [CertificateFile]) throws -> [Certificate] {
    let key = try sign.map { try CertificateSigningKey(path: $0) }
    let certificates = try unsigned.map { try key.map($0.signed(with:)) ?? $0 }
    for (certificate, file) in zip(certificates, files) {
      try file.check(
        settings: certificate.settings, subjects: [certificate.subject], sampleCount: certificate.sampleCount)
    }
    for (certificate, file) in zip(certificates, files) { try certificate.write(to: file.path) }
    return certificates
  }
}
