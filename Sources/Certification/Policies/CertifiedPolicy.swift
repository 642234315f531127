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
    /// The prompt's tokens but the last ones stop after this layer; those of the output pass all layers.
    case promptDepth(Int)
  }

  /// What the way of decoding is taken from.
  public let certificate: Certificate
  /// How outputs come about; never slower than the safest threshold was when the certificate was made.
  public let decoding: Decoding
  /// Whether decoding at the certified threshold was faster than at the safest one.
  public let pays: Bool

  /// Which documents are decoded this way; all others are decoded at full depth. `nil` for any document.
  public private(set) var applicability: ApplicabilityGuard?
  /// What brings an output back to full depth that repeats itself.
  public private(set) var tripwire: RepetitionTripwire?

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
    if let draft = subject.draft {
      let description = try check.drafts(certificate, subject, draft, regime)
      let threshold = try check.threshold(certificate)
      pays = certificate.pays != false || threshold <= 0
      decoding = .drafts(
        try SpeculationStrategy(
          [draft.source], for: subject.model, rule: pays ? .rollback(threshold: threshold) : .exact,
          fallback: description.fallback, draftLength: description.draftLength))
      return
    }
    if let description = try check.prompts(certificate, subject, regime) {
      let threshold = try check.threshold(certificate)
      guard let depth = Int(exactly: threshold), subject.model.promptDepths.contains(depth),
        description.deepTokens == LanguageModel.deepPromptTokens
      else {
        throw CertificationError(
          .notCovered,
          "\(name): the certificate is for prompts that stop after layer \(threshold) but for the last "
            + "\(description.deepTokens) tokens, which is not possible here")
      }
      pays = certificate.pays != false
      decoding = Self.promptDepth(certificate, for: subject).map { .promptDepth($0) } ?? .fullDepth
      return
    }
    let description = try check.exits(certificate, subject, regime)
    let threshold = try check.threshold(certificate)
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
  /// Begins to decode as the certificate says, with its guard and its tripwire, whatever the options have of these.
  public func makeSession(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool
  ) throws -> any GenerationSession {
    var options = options
    (options.applicability, options.tripwire) = (applicability, tripwire)
    options.promptDepth = nil
    if case .promptDepth(let depth) = decoding { options.promptDepth = depth }
    return try plainStrategy.makeSession(
      model: model, prompt: prompt, options: options, shouldStop: shouldStop)
  }
}

/// What of a certificate has to be as it was when it was made.
struct CertificateCheck {
  let name: String

  func exits(
    _ certificate: Certificate, _ subject: DecodingSubject, _ regime: DecodingRegime
  ) throws -> ExitPolicyDescription {
    guard let policy = certificate.subject.policy else {
      throw CertificationError(
        .certificate,
        "\(name): the certificate names no exit policy; egress calibrate --data makes one that does")
    }
    let description = try ExitPolicyDescription.read(JSONEncoder().encode(policy), name: "\(name): policy")
    func demand(_ what: String, _ expected: String?, _ found: String?) throws {
      guard expected != found else { return }
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is for another \(what): SHA-256 \(expected ?? "none"), found \(found ?? "none")"
      )
    }
    try demand("exit policy", certificate.subject.policyDigest, try description.digest())
    try demand("model", description.modelDigest, subject.modelDigest)
    if let named = certificate.subject.modelDigest { try demand("model", named, subject.modelDigest) }
    try compute(description.compute, subject)
    try covers(description.regime, regime)
    try demand("exit head", description.headsDigest, subject.headsDigest)
    try demand(
      "prompt template", description.templateDigest,
      try ExitPolicyDescription.templateDigest(of: subject.model))
    return description
  }

  func drafts(
    _ certificate: Certificate, _ subject: DecodingSubject, _ draft: DecodingSubject.Draft,
    _ regime: DecodingRegime
  ) throws -> SpeculationDescription {
    guard let policy = certificate.subject.policy else {
      throw CertificationError(
        .certificate,
        "\(name): the certificate names no pair of models; egress calibrate --draft --data makes one that does"
      )
    }
    let description = try SpeculationDescription.read(
      JSONEncoder().encode(policy), name: "\(name): the certificate's policy")
    func demand(_ what: String, _ expected: String?, _ found: String) throws {
      guard expected != found else { return }
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is for the draft \(description.draft) and the model \(description.model), "
          + "not for this \(what): SHA-256 \(expected ?? "none"), found \(found)")
    }
    try demand("model", description.modelDigest, subject.modelDigest)
    try demand("model", certificate.subject.modelDigest, description.modelDigest)
    try compute(description.compute, subject)
    try covers(description.regime, regime)
    try demand("draft", description.draftDigest, draft.digest)
    try demand("draft policy", certificate.subject.policyDigest, try description.digest())
    try demand(
      "prompt template", description.templateDigest,
      try ExitPolicyDescription.templateDigest(of: subject.model))
    return description
  }

  /// - Returns: `nil` for a certificate of another kind.
  func prompts(
    _ certificate: Certificate, _ subject: DecodingSubject, _ regime: DecodingRegime
  ) throws -> PromptPolicyDescription? {
    guard case .prompts(let description)? = certificate.policyDescription else { return nil }
    func demand(_ what: String, _ expected: String?, _ found: String) throws {
      guard expected != found else { return }
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is for another \(what): SHA-256 \(expected ?? "none"), found \(found)")
    }
    guard description.version == PromptPolicyDescription.currentVersion else {
      throw CertificationError(
        .certificate,
        "\(name): policy: expected prompt_policy_version \(PromptPolicyDescription.currentVersion), found "
          + "\(description.version)")
    }
    try demand("policy of prompts", certificate.subject.policyDigest, try description.digest())
    try demand("model", description.modelDigest, subject.modelDigest)
    if let named = certificate.subject.modelDigest { try demand("model", named, subject.modelDigest) }
    try compute(description.compute, subject)
    try covers(description.regime, regime)
    try demand(
      "prompt template", description.templateDigest,
      try ExitPolicyDescription.templateDigest(of: subject.model))
    return description
  }

  func threshold(_ certificate: Certificate) throws -> Double {
    guard let threshold = certificate.threshold else {
      throw CertificationError(
        .certificate, "\(name) certifies nothing: \(certificate.reason ?? certificate.outcome.rawValue)")
    }
    return threshold
  }

  func compute(_ expected: String?, _ subject: DecodingSubject) throws {
    let found = ExitPolicyDescription.compute(of: subject.model)
    guard expected != found else { return }
    let usual = ComputePath.quantized.rawValue
    throw CertificationError(
      .notCovered,
      "\(name): the certificate is for --compute \(expected ?? usual), found --compute \(found ?? usual)")
  }

  func covers(_ certified: DecodingRegime, _ regime: DecodingRegime) throws {
    guard let (field, expected, found) = certified.firstDifference(to: regime) else { return }
    throw CertificationError(
      .notCovered,
      "\(name): the certificate does not cover this: \(field) was \(expected) when it was made, and is \(found) here"
    )
  }
}
