import Crypto
import Foundation

/// How files of certificates are written: sorted keys, two-space indents, a newline at the end.
enum CertificateJSON {
  private static let withoutDigest = CodingUserInfoKey(rawValue: "withoutDigest")

  /// Whether a certificate is being written for its digest: all that it says but the digest and what stands on it.
  static func isForDigest(_ encoder: any Encoder) -> Bool {
    withoutDigest.map { encoder.userInfo[$0] != nil } ?? false
  }

  /// The SHA-256 of all that, as JSON with sorted keys and no white space.
  static func digest(of certificate: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if let flag = withoutDigest { encoder.userInfo[flag] = true }
    return LossTable.hexadecimal(SHA256.hash(data: try encoder.encode(certificate)))
  }

  static func data(of certificate: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    return try encoder.encode(certificate) + Data("\n".utf8)
  }

  /// In one step: a reader sees the old file or the whole new one.
  static func write(_ certificate: some Encodable, to path: String) throws {
    do {
      try data(of: certificate).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw RiskControlError.file(
        "the certificate could not be written (\(error.localizedDescription))", in: path)
    }
  }
}

extension Certificate {
  /// The JSON of a certificate file: sorted keys, two-space indents, a newline at the end.
  public func jsonData() throws -> Data { try CertificateJSON.data(of: self) }

  /// Writes the file in one step: a reader sees the old file or the whole new one.
  public func write(to path: String) throws { try CertificateJSON.write(self, to: path) }

  /// Reads a certificate, and refuses one whose values or keys do not fit its digest. White space may differ.
  ///
  /// - Throws: ``RiskControlError`` naming the file and the key.
  public static func read(_ data: Data, name: String) throws(RiskControlError) -> Certificate {
    let decoder = JSONDecoder()
    let certificate: Certificate
    let found: JSONValue
    do {
      found = try decoder.decode(JSONValue.self, from: data)
      certificate = try decoder.decode(Certificate.self, from: data)
    } catch let error as DecodingError {
      throw .certificate("not a certificate: \(Self.explain(error))", in: name)
    } catch {
      throw .certificate("not a certificate: \(error.localizedDescription)", in: name)
    }
    let expected: JSONValue
    do {
      expected = try decoder.decode(JSONValue.self, from: certificate.jsonData())
    } catch {
      throw .certificate("not a certificate: a value cannot be written back", in: name)
    }
    guard case .object(let expectedKeys) = expected, case .object(let foundKeys) = found else {
      throw .certificate("not a certificate: expected a JSON object", in: name)
    }
    guard expected != found else { return certificate }
    let digestKey = CodingKeys.digest.rawValue
    if let extra = Set(foundKeys.keys).subtracting(expectedKeys.keys).min() {
      throw .certificate("the certificate was edited: unknown key \"\(extra)\"", in: name)
    }
    let others = expectedKeys.keys.filter { $0 != digestKey && expectedKeys[$0] != foundKeys[$0] }
    if let key = others.min() {
      throw .certificate(
        "the certificate was edited: \"\(key)\" does not follow from its other values", in: name)
    }
    throw .certificate(
      "the certificate was edited: its contents do not match its \"\(digestKey)\"", in: name)
  }

  /// Reads a certificate file; see ``read(_:name:)``.
  public static func read(path: String) throws(RiskControlError) -> Certificate {
    try read(ByteSource(path: path).readToEnd(), name: path)
  }

  private static func explain(_ error: DecodingError) -> String {
    switch error {
    case .keyNotFound(let key, _): "the key \"\(key.stringValue)\" is missing"
    case .typeMismatch(_, let context), .valueNotFound(_, let context), .dataCorrupted(let context):
      context.codingPath.isEmpty
        ? "it is not JSON"
        : "\"\(context.codingPath.map(\.stringValue).joined(separator: "."))\": \(context.debugDescription)"
    @unknown default: "it could not be decoded"
    }
  }
}

extension SampleWeights {
  /// The SHA-256 of the weights and their bound, as decimal text.
  public func digest() -> String {
    let text = ([bound] + values).map { "\($0)\n" }.joined()
    return LossTable.hexadecimal(SHA256.hash(data: Data(text.utf8)))
  }
}
