import Foundation

extension Certificate {
  /// Who vouches for a certificate.
  public struct Signature: Sendable, Equatable, Codable {
    /// The public key's 32 bytes in hexadecimal. It says who claims to have signed; only a key from elsewhere says
    /// whether to trust it.
    public let publicKey: String
    /// The Ed25519 signature's 64 bytes in hexadecimal.
    public let value: String

    enum CodingKeys: String, CodingKey {
      case publicKey = "public_key"
      case value = "ed25519"
    }
  }

  /// The certificate with a signature of everything it says.
  public func signed(with key: CertificateSigningKey) throws -> Certificate {
    var copy = self
    copy.signature = Signature(
      publicKey: key.verifyingKey.hexadecimal,
      value: LossTable.hexadecimal(try key.sign(try signedMessage(), name: "the certificate")))
    return copy
  }

  /// Refuses a certificate that this key has not signed as it stands.
  ///
  /// The certificate's own SHA-256 tells accidents and thoughtless edits; whoever edits one can compute it anew. A
  /// signature is what they cannot make.
  ///
  /// - Throws: ``RiskControlError`` where there is no signature, one of another key, or one of other contents.
  public func checkSignature(of key: CertificateVerifyingKey, name: String) throws(RiskControlError) {
    guard let signature else {
      throw .certificate("the certificate is not signed, and a signature was asked for", in: name)
    }
    guard signature.publicKey == key.hexadecimal else {
      throw .certificate(
        "the certificate is signed by another key, \(signature.publicKey), expected \(key.hexadecimal)",
        in: name)
    }
    let message: Data
    do {
      message = try signedMessage()
    } catch {
      throw .certificate("the certificate's contents cannot be written back", in: name)
    }
    guard let bytes = Self.bytes(signature.value), key.isSignature(bytes, of: message) else {
      throw .certificate(
        "the signature is not of this certificate: it was changed after it was signed", in: name)
    }
  }

  private func signedMessage() throws -> Data { Data("egress certificate \(try digest())".utf8) }

  private static func bytes(_ hexadecimal: String) -> Data? {
    let digits = Array(hexadecimal.utf8)
    guard digits.count == 128 else { return nil }
    var bytes = Data()
    for start in stride(from: 0, to: digits.count, by: 2) {
      guard let byte = UInt8(String(decoding: digits[start..<start + 2], as: UTF8.self), radix: 16) else {
        return nil
      }
      bytes.append(byte)
    }
    return bytes
  }
}
