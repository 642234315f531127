import FileFormats
import Foundation
import Generation
import Transformers

/// What the descriptions of all policies say: what was calibrated, but for its threshold, and what a certificate holds
/// for.
public protocol CertifiablePolicy: Codable, Sendable, Equatable {
  /// The version of the format that is written and read; others are refused.
  static var currentVersion: Int { get }
  /// The version of this description's format.
  var version: Int { get }
  /// SHA-256 of the model's file.
  var modelDigest: String { get }
  /// How the model computes, or `nil` for `ComputePath.quantized`.
  var compute: String? { get }
  /// SHA-256 of what the prompt template makes of an empty message: see `LanguageModel.templateDigest()`.
  var templateDigest: String { get }
  /// How the documents were decoded besides.
  var regime: DecodingRegime { get }
  /// Which documents it applies to, or `nil` for all.
  var applicability: ApplicabilityGuard.Reference? { get }
}

extension CertifiablePolicy {
  /// JSON with sorted keys: the same policy gives the same bytes.
  public func jsonData() throws -> Data { try CanonicalJSON.document(self) }

  /// SHA-256 of ``jsonData()``.
  public func digest() throws -> String {
    FileDigest.sha256(text: String(decoding: try jsonData(), as: UTF8.self))
  }
}

extension LanguageModel {
  /// How the model computes, as descriptions of policies write it: `nil` for `ComputePath.quantized`.
  public var computeName: String? {
    computeDescription == ComputePath.quantized.rawValue ? nil : computeDescription
  }

  /// SHA-256 of what stands around a document in a prompt: the tokens of an empty message in the prompt template. The
  /// style of the prompts is part of it where that is not the chat models', and stands for a template where prompts
  /// have none. Of an encoder-decoder it is the text before a document.
  ///
  /// - Throws: `GenerationError` for a model whose prompt template is not known.
  public func templateDigest() throws -> String {
    let frame =
      try promptStyle == .completion ? prompt(raw: "") : prompt(user: hasEncoder ? summaryPrefix : "")
    var tokens = frame.map(String.init).joined(separator: " ")
    if promptStyle != .chat { tokens += " \(promptStyle.fingerprint)" }
    return FileDigest.sha256(text: tokens)
  }
}
