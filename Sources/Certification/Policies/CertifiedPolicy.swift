import EarlyExit
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import Transformers

/// A way of decoding that a certificate holds for: the only way from a certificate to a strategy.
///
/// ```swift
/// let subject = try DecodingSubject(path: "model.gguf")
/// let regime = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: nil)
/// let certified = try CertifiedPolicy.load("docs.certificate.json", for: subject, regime: regime)
/// for try await step in subject.model.summarize(text, strategy: certified) { print(step.text) }
/// ```
public struct CertifiedPolicy: Sendable {
  /// How outputs come about.
  public enum Decoding: Sendable {
    /// Every token passes all layers: nothing faster is certified to be worth it.
    case fullDepth
    /// Tokens leave early.
    case exits(ExitStrategy)
    /// Drafts are verified.
    case drafts(SpeculationStrategy)
  }

  /// What the way of decoding is taken from.
  public let certificate: Certificate
  /// How outputs come about; never slower than the safest threshold was when the certificate was made.
  public let decoding: Decoding
  /// The layer after which the prompt's tokens but the last ones stop; `nil` where they pass all layers.
  public let promptDepth: Int?
  /// Whether decoding at the certified threshold was faster than at the safest one.
  public let pays: Bool

  /// Which documents are decoded this way; all others are decoded at full depth. `nil` for any document.
  public private(set) var applicability: ApplicabilityGuard?
  /// What brings an output back to full depth that repeats itself.
  public private(set) var tripwire: RepetitionTripwire?
  /// What makes the same outputs with drafts; `nil` where nothing does.
  var lookup: SpeculationStrategy?

  /// Reads a certificate and checks that it holds: for this model, these heads or this draft, this prompt template,
  /// this compute path, and documents that are decoded this way.
  ///
  /// - Parameters:
  ///   - path: The certificate.
  ///   - subject: What is to decode. With a draft the certificate has to be one of drafts, without one of exits.
  ///   - regime: How documents are to be decoded.
  /// - Throws: ``CertificationError`` naming what differs, or for a certificate that certifies nothing; what reading a
  ///   certificate throws.
  public static func load(
    _ path: String, for subject: DecodingSubject, regime: DecodingRegime
  ) throws -> CertifiedPolicy {
    let certificate = try Certificate.read(path: path)
    var policy = try CertifiedPolicy(certificate, name: path, subject: subject, regime: regime)
    (policy.applicability, policy.tripwire, _) = try protection(path, for: subject)
    return policy
  }

  private init(
    _ certificate: Certificate, name: String, subject: DecodingSubject, regime: DecodingRegime
  ) throws {
    let check = CertificateCheck(name: name)
    self.certificate = certificate
    promptDepth = Self.promptDepth(certificate, for: subject)
    if let draft = subject.draft {
      let description = try check.drafts(certificate, subject, draft, regime)
      let threshold = try check.threshold(certificate)
      if let prompt = description.prompt { try check.prompts(stop: prompt, subject) }
      pays = certificate.pays != false || threshold <= 0
      decoding = .drafts(
        try SpeculationStrategy(
          [draft.source], for: subject.model, rule: pays ? .rollback(threshold: threshold) : .exact,
          fallback: description.fallback, draftLength: description.draftLength))
      return
    }
    if let description = try check.prompts(certificate, subject, regime) {
      let threshold = try check.threshold(certificate)
      try check.prompts(stopAfter: threshold, deepTokens: description.deepTokens, subject)
      pays = certificate.pays != false
      decoding = .fullDepth
      return
    }
    let description = try check.exits(certificate, subject, regime)
    let threshold = try check.threshold(certificate)
    if let prompt = description.prompt { try check.prompts(stop: prompt, subject) }
    guard let measure = UsualMeasure(rawValue: description.measure) else {
      throw CertificationError(.notCovered, "\(name): the measure \(description.measure) is not known")
    }
    let strategy = ExitStrategy(
      policy: try description.policy(threshold: threshold), measure: measure.make(heads: subject.heads),
      heads: subject.heads, cachePolicy: description.cache, groupLimit: description.groupLimit)
    _ = try strategy.validatedLayers(for: subject.model.decoder)
    pays = certificate.pays != false || threshold >= 1
    decoding = pays ? .exits(strategy) : .fullDepth
  }
}

extension CertifiedPolicy: DecodingStrategy {
  /// Begins to decode as the certificate says, with its guard, its tripwire and how deep it reads prompts, whatever the
  /// options have of these.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    var options = options
    (options.applicability, options.tripwire, options.promptDepth) = (applicability, tripwire, promptDepth)
    let strategy: any DecodingStrategy = lookup ?? plainStrategy
    return try strategy.makeSession(
      model: model, prompt: prompt, options: options, shouldStop: shouldStop)
  }
}
