import Certification
import FileFormats
import Foundation
import Generation
import TensorKernels

/// A model as clients see it.
public struct ServedModel: Sendable {
  /// What clients call it.
  public let name: String
  /// What decodes, with the digests that certificates know it by.
  public let subject: DecodingSubject
  /// What requests about documents are decoded under.
  public let certificates: [ServedCertificate]
  /// When it was loaded, in seconds since 1970.
  let created: Int
  /// `system_fingerprint`: equal ones give equal outputs for equal requests.
  let fingerprint: String

  /// - Parameters:
  ///   - name: What clients call it.
  ///   - subject: What decodes.
  ///   - certificates: What requests about documents are decoded under; of several that hold for a request, the first.
  public init(name: String, subject: DecodingSubject, certificates: [ServedCertificate] = []) {
    self.name = name
    self.subject = subject
    self.certificates = certificates
    created = Int(Date().timeIntervalSince1970)
    let parts =
      [
        EgressVersion.program, subject.modelDigest, subject.model.computePath.rawValue,
        (try? InstructionSet.selected())?.rawValue ?? "",
      ] + certificates.map(\.digest)
    fingerprint = "fp_" + FileDigest.sha256(text: parts.joined(separator: "\n")).prefix(16)
  }

  var model: LanguageModel { subject.model }
  var layerCount: Int { model.decoder.configuration.layerCount }
}
