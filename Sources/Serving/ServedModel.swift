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
  /// How documents are decoded where no certificate says it.
  let strategy: any DecodingStrategy
  /// What decodes, without its certificates.
  private let parts: [String]

  /// - Parameters:
  ///   - name: What clients call it.
  ///   - subject: What decodes.
  ///   - certificates: What requests about documents are decoded under; of several that hold for a request, the first.
  ///   - strategy: How documents are decoded where no certificate says it: at full depth, or with drafts that keep its
  ///     outputs as they are.
  public init(
    name: String, subject: DecodingSubject, certificates: [ServedCertificate] = [],
    strategy: any DecodingStrategy = FullDepth()
  ) {
    self.name = name
    self.subject = subject
    self.certificates = certificates
    self.strategy = strategy
    created = Int(Date().timeIntervalSince1970)
    parts = [
      EgressVersion.program, subject.modelDigest, subject.model.computeDescription,
      (try? InstructionSet.selected())?.rawValue ?? "",
    ]
  }

  /// `system_fingerprint`: equal ones give equal outputs for equal requests. Another one once a certificate is no
  /// longer used because of its monitor's alarm.
  var fingerprint: String {
    let inUse = certificates.filter { !$0.isAlarmed }.map(\.digest)
    return "fp_" + FileDigest.sha256(text: (parts + inUse).joined(separator: "\n")).prefix(16)
  }

  var model: LanguageModel { subject.model }
  var layerCount: Int { model.decoder.configuration.layerCount }
}
