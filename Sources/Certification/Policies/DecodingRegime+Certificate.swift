import Foundation
import RiskControl

extension DecodingRegime {
  /// The regime that a certificate's policy names: what it holds for.
  ///
  /// - Parameters:
  ///   - policy: What the certificate has under `policy`.
  ///   - name: The certificate's, for messages.
  /// - Throws: ``CertificationError`` for a certificate that names none.
  public init(certificatePolicy policy: JSONValue?, name: String) throws {
    struct Policy: Decodable {
      var regime: DecodingRegime
    }
    guard let policy, let found = try? JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(policy))
    else {
      throw CertificationError(
        .certificate,
        "\(name): the certificate does not say how documents were decoded; egress calibrate --data makes one")
    }
    self = found.regime
  }
}
