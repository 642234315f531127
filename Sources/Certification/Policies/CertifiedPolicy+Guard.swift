import Foundation
import Generation
import RiskControl

extension CertifiedPolicy {
  /// Reads the guard that a certificate names, from the file beside it, and the tripwire that stands in the
  /// certificate.
  ///
  /// - Returns: `nil` for what it does not name.
  /// - Throws: ``CertificationError`` where the file is not there, `GenerationError` where it is another,
  ///   `CheckpointError` where it is damaged.
  public static func protection(
    _ path: String, for subject: DecodingSubject
  ) throws -> (applicability: ApplicabilityGuard?, tripwire: RepetitionTripwire?) {
    struct Policy: Decodable {
      var `guard`: ApplicabilityGuard.Reference?
      var tripwire: RepetitionTripwire?
    }
    guard let policy = try Certificate.read(path: path).subject.policy else { return (nil, nil) }
    let named = try JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(policy))
    return (try loadGuard(named.guard, beside: path, for: subject), named.tripwire)
  }

  /// Reads a guard from the file beside a certificate.
  static func loadGuard(
    _ reference: ApplicabilityGuard.Reference?, beside path: String, for subject: DecodingSubject
  ) throws -> ApplicabilityGuard? {
    guard let reference else { return nil }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    let name = URL(fileURLWithPath: reference.file).lastPathComponent
    let file = folder.appendingPathComponent(name).path
    guard FileManager.default.fileExists(atPath: file) else {
      throw CertificationError(
        .certificate,
        "\(path): the certificate's guard is not there; it has to lie beside the certificate as \(name)")
    }
    return try ApplicabilityGuard(
      path: file, modelDigest: subject.modelDigest,
      hiddenSize: subject.model.decoder.configuration.hiddenSize, digest: reference.digest)
  }
}
