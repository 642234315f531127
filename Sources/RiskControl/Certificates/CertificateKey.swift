import Crypto
import Foundation

/// An Ed25519 key that signs certificates, as `openssl genpkey -algorithm ed25519` writes it.
public struct CertificateSigningKey: Sendable {
  private let key: Curve25519.Signing.PrivateKey

  /// Reads a PEM file of a PKCS #8 private key.
  ///
  /// - Throws: ``RiskControlError`` for any other file.
  public init(path: String) throws(RiskControlError) {
    let bytes = try PEM.read(path: path, label: "PRIVATE KEY", prefix: PEM.privatePrefix, what: "private")
    do {
      key = try Curve25519.Signing.PrivateKey(rawRepresentation: bytes)
    } catch {
      throw .file("is no Ed25519 private key", in: path)
    }
  }

  /// A new key.
  public init() { key = Curve25519.Signing.PrivateKey() }

  /// What verifies its signatures.
  public var verifyingKey: CertificateVerifyingKey { CertificateVerifyingKey(key: key.publicKey) }

  func sign(_ message: Data, name: String) throws(RiskControlError) -> Data {
    do {
      return try key.signature(for: message)
    } catch {
      throw .certificate("the certificate could not be signed", in: name)
    }
  }
}

/// The public half of a ``CertificateSigningKey``, as `openssl pkey -pubout` writes it.
public struct CertificateVerifyingKey: Sendable {
  private let key: Curve25519.Signing.PublicKey

  init(key: Curve25519.Signing.PublicKey) { self.key = key }

  /// Reads a PEM file of a public key.
  ///
  /// - Throws: ``RiskControlError`` for any other file.
  public init(path: String) throws(RiskControlError) {
    let bytes = try PEM.read(path: path, label: "PUBLIC KEY", prefix: PEM.publicPrefix, what: "public")
    do {
      key = try Curve25519.Signing.PublicKey(rawRepresentation: bytes)
    } catch {
      throw .file("is no Ed25519 public key", in: path)
    }
  }

  /// The key's 32 bytes in hexadecimal.
  public var hexadecimal: String { LossTable.hexadecimal(key.rawRepresentation) }

  func isSignature(_ signature: Data, of message: Data) -> Bool {
    key.isValidSignature(signature, for: message)
  }
}

/// The two forms of Ed25519 keys (RFC 8410): a fixed prefix and 32 bytes.
private enum PEM {
  static let privatePrefix: [UInt8] = [
    0x30, 0x2E, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
  ]
  static let publicPrefix: [UInt8] = [0x30, 0x2A, 0x30, 0x05, 0x06, 0x03, 0x2B, 0x65, 0x70, 0x03, 0x21, 0x00]

  static func read(path: String, label: String, prefix: [UInt8], what: String) throws(RiskControlError)
    -> Data
  {
    let text = String(decoding: try ByteSource(path: path).readToEnd(), as: UTF8.self)
    let lines = text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
    guard let begin = lines.firstIndex(of: "-----BEGIN \(label)-----"),
      let end = lines[begin...].firstIndex(of: "-----END \(label)-----"),
      let bytes = Data(base64Encoded: lines[(begin + 1)..<end].joined()),
      bytes.count == prefix.count + 32, bytes.starts(with: prefix)
    else {
      throw .file(
        "is no Ed25519 \(what) key in PEM form (openssl genpkey -algorithm ed25519 makes one)", in: path)
    }
    return Data(bytes.suffix(32))
  }
}
