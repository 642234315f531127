import Foundation
import RiskControl

/// Where a certificate goes. One of other settings that lies there is never replaced unasked: something may rely on it.
public struct CertificateFile: Sendable {
  /// Its path.
  public let path: String
  private let existing: Certificate?
  private let isForced: Bool

  /// Looks at what lies there.
  ///
  /// - Parameters:
  ///   - path: Where a certificate is to be written.
  ///   - isForced: Replaces whatever is there.
  /// - Throws: What reading a file that is no certificate throws.
  public init(path: String, replacing isForced: Bool) throws {
    self.path = path
    self.isForced = isForced
    existing =
      !isForced && FileManager.default.fileExists(atPath: path)
      ? try Certificate.read(path: path) : nil
  }

  /// Refuses to replace a certificate that something may rely on.
  ///
  /// - Parameters:
  ///   - settings: Those of the new certificate.
  ///   - subjects: What the new certificate may be of.
  ///   - sampleCount: Samples that the new certificate would have.
  /// - Throws: ``CertificationError`` where the file holds a certificate of other settings than these.
  public func check(
    settings: CalibrationSettings, subjects: [Certificate.Subject], sampleCount: Int
  ) throws {
    guard let existing, !isForced else { return }
    let other: String? =
      if !subjects.contains(where: { $0.modelDigest == existing.subject.modelDigest }) {
        "another model"
      } else if !subjects.contains(existing.subject) {
        "another risk, metric or exit policy"
      } else if existing.settings != settings {
        "other settings (epsilon \(existing.settings.epsilon), delta \(existing.settings.delta), "
          + "\(existing.settings.rule.rawValue))"
      } else if existing.sampleCount != sampleCount,
        // Bets that hold at every look may be looked at again with more samples.
        settings.bound != .anytime || existing.sampleCount > sampleCount
      {
        "\(existing.sampleCount) samples"
      } else {
        nil
      }
    guard let other else { return }
    throw CertificationError(
      .certificate,
      "\(path) holds a certificate of \(other); name another file with --certificate, or give --force to replace it"
    )
  }
}
