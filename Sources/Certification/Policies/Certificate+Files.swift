import FileFormats
import RiskControl

extension Certificate {
  /// Sees to it that files are those that the certificate was made with.
  ///
  /// - Parameters:
  ///   - model: The model's file or directory; `nil` where it is not compared.
  ///   - policy: The file of the policy; `nil` where it is not compared.
  /// - Throws: ``CertificationError`` for another file, and `FileError` for one that cannot be read.
  public func checkFiles(model: String? = nil, policy: String? = nil) throws {
    try Self.compare(model, with: subject.modelDigest, what: "model")
    try Self.compare(policy, with: subject.policyDigest, what: "policy")
  }

  private static func compare(_ path: String?, with expected: String?, what: String) throws {
    guard let path else { return }
    let found = try FileDigest.sha256(model: path)
    guard found == expected else {
      throw CertificationError(
        .notCovered,
        "\(path): the \(what) is not the one of the certificate: its SHA-256 is \(found), expected "
          + (expected ?? "none: the certificate names no \(what)"))
    }
  }
}
