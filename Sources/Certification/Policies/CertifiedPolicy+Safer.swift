import Foundation
import RiskControl

extension CertifiedPolicy {
  /// The certificates that one calibration made with this one for smaller ε, safest last: those of the same policy and
  /// model, `NAME.epsilon-E.json` beside it, whose thresholds are safer.
  ///
  /// - Parameter path: A certificate. One that was made for a single ε has no others.
  /// - Throws: What reading the certificate throws. Files beside it that are none are passed over.
  public static func safer(than path: String) throws -> [String] {
    let url = URL(fileURLWithPath: path)
    guard let end = url.lastPathComponent.range(of: ".epsilon-") else { return [] }
    let stem = url.lastPathComponent[..<end.upperBound]
    let given = try Certificate.read(path: path)
    let names = try FileManager.default.contentsOfDirectory(atPath: url.deletingLastPathComponent().path)
    let others = names.filter { $0.hasPrefix(stem) && $0.hasSuffix(".json") }.compactMap { name in
      let other = (path as NSString).deletingLastPathComponent
      let place = other.isEmpty ? name : (other as NSString).appendingPathComponent(name)
      return (try? Certificate.read(path: place)).map { (path: place, certificate: $0) }
    }
    return others.filter { other in
      let found = other.certificate
      return found.settings.epsilon < given.settings.epsilon && found.threshold != nil
        && found.threshold != given.threshold && found.subject.policyDigest == given.subject.policyDigest
        && found.subject.modelDigest == given.subject.modelDigest
    }.sorted { $0.certificate.settings.epsilon > $1.certificate.settings.epsilon }.map(\.path)
  }
}
