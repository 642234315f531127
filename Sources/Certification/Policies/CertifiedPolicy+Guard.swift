import Foundation
import Generation
import RiskControl
import SpeculativeDecoding

extension CertifiedPolicy {
  /// Reads the guard that a certificate names, from the file beside it, and the tripwire that stands in the
  /// certificate; also the layer after which prompts stop, where it says one.
  ///
  /// - Returns: `nil` for what it does not name.
  /// - Throws: ``CertificationError`` where the file is not there, `GenerationError` where it is another,
  ///   `CheckpointError` where it is damaged.
  public static func protection(
    _ path: String, for subject: DecodingSubject
  ) throws -> (applicability: ApplicabilityGuard?, tripwire: RepetitionTripwire?, promptDepth: Int?) {
    struct Policy: Decodable {
      var `guard`: ApplicabilityGuard.Reference?
      var tripwire: RepetitionTripwire?
    }
    let certificate = try Certificate.read(path: path)
    guard let policy = certificate.subject.policy else { return (nil, nil, nil) }
    let named = try JSONDecoder().decode(Policy.self, from: JSONEncoder().encode(policy))
    return (
      try loadGuard(named.guard, beside: path, for: subject), named.tripwire,
      promptDepth(certificate, for: subject)
    )
  }

  /// The layer after which prompts stop under a certificate; `nil` where they pass all layers, as where full depth is
  /// all that is certified or what pays.
  static func promptDepth(_ certificate: Certificate, for subject: DecodingSubject) -> Int? {
    guard certificate.pays != false, let threshold = certificate.threshold else { return nil }
    let depth: Int? =
      switch certificate.policyDescription {
      case .prompts: Int(exactly: threshold)
      case .exits(let description): threshold < 1 ? description.prompt?.layer : nil
      case .drafts(let description): threshold > 0 ? description.prompt?.layer : nil
      case nil: nil
      }
    return depth.flatMap { $0 < subject.model.promptDepths.upperBound ? $0 : nil }
  }

  /// Reads a guard from the file beside a certificate.
  static func loadGuard(
    _ reference: ApplicabilityGuard.Reference?, beside path: String, for subject: DecodingSubject
  ) throws -> ApplicabilityGuard? {
    guard let reference else { return nil }
    let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
    let name = URL(fileURLWithPath: reference.file).lastPathComponent
    let file = folder.appendingPathComponent(name).path
    guard FileManager.default.fileExists(atPath: file) else {
      throw CertificationError(
        .certificate,
        "\(path): the certificate's guard is not there; it has to lie beside the certificate as \(name)")
    }
    return try ApplicabilityGuard(
      path: file, modelDigest: subject.modelDigest,
      hiddenSize: subject.model.decoder.configuration.hiddenSize, digest: reference.digest)
  }
}

extension CertifiedPolicy {
  /// How outputs come about where the options have guard, tripwire and prompt depth already.
  var plainStrategy: any DecodingStrategy {
    switch decoding {
    case .fullDepth: FullDepth()
    case .exits(let strategy): strategy
    case .drafts(let strategy): strategy
    }
  }

  /// The same outputs with drafts that change none of them; `nil` where tokens leave in a way that a wrong draft would
  /// leave traces of, where a draft head would lack the states of full depth, and where something drafts already.
  func withDrafts(_ drafts: Adaptation.Drafts, head: DraftHead?, _ model: LanguageModel) throws
    -> SpeculationStrategy?
  {
    switch decoding {
    case .drafts: return nil
    case .fullDepth: return try drafts.strategy(head: head, model)
    case .exits(let exits):
      guard exits.cachePolicy == .defer, drafts == .lookup else { return nil }
      return try SpeculationStrategy([.promptLookup], for: model, exits: exits, rule: .exact)
    }
  }

  /// The same outputs, drafted by what stands in the prompt and the output already; itself where that cannot be: where
  /// something drafts already, where wrong drafts would leave traces in the cache, and where the prompt is not the
  /// decoder's.
  ///
  /// - Throws: What making the drafts throws, of a model other than the one that it was read for.
  public func lookingUp(for model: LanguageModel) throws -> CertifiedPolicy {
    guard !model.hasEncoder, let drafted = try withDrafts(.lookup, head: nil, model) else { return self }
    var policy = self
    policy.lookup = drafted
    return policy
  }
}
