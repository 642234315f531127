import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import Transformers

/// What of a certificate has to be as it was when it was made.
struct CertificateCheck {
  let name: String

  /// Something that was named by its digest then, and what it is now.
  private typealias Part = (what: String, then: String?, now: String?)

  func exits(
    _ certificate: Certificate, _ subject: DecodingSubject, _ regime: DecodingRegime
  ) throws -> ExitPolicyDescription {
    let policy = try policy(of: certificate, "no exit policy; egress calibrate --data makes one that does")
    if case .drafts(let drafts)? = certificate.policyDescription {
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is for drafts of \(drafts.draft), and no draft is given: add --draft")
    }
    let description = try ExitPolicyDescription.read(JSONEncoder().encode(policy), name: "\(name): policy")
    try check(
      description, of: certificate, subject, regime, kind: "exit policy",
      also: ("exit head", description.headsDigest, subject.headsDigest), refusal: refusal)
    return description
  }

  func drafts(
    _ certificate: Certificate, _ subject: DecodingSubject, _ draft: DecodingSubject.Draft,
    _ regime: DecodingRegime
  ) throws -> SpeculationDescription {
    let policy = try policy(
      of: certificate, "no pair of models; egress calibrate --draft --data makes one that does")
    let description = try SpeculationDescription.read(
      JSONEncoder().encode(policy), name: "\(name): the certificate's policy")
    try check(
      description, of: certificate, subject, regime, kind: "draft policy",
      also: ("draft", description.draftDigest, draft.digest)
    ) {
      "\(name): the certificate is for the draft \(description.draft) and the model \(description.model), "
        + "not for this \($0.what): SHA-256 \($0.then ?? "none"), found \($0.now ?? "none")"
    }
    return description
  }

  /// - Returns: `nil` for a certificate of another kind.
  func prompts(
    _ certificate: Certificate, _ subject: DecodingSubject, _ regime: DecodingRegime
  ) throws -> PromptPolicyDescription? {
    guard case .prompts(let description)? = certificate.policyDescription else { return nil }
    guard description.version == PromptPolicyDescription.currentVersion else {
      throw CertificationError(
        .certificate,
        "\(name): policy: expected prompt_policy_version \(PromptPolicyDescription.currentVersion), found "
          + "\(description.version)")
    }
    try check(
      description, of: certificate, subject, regime, kind: "policy of prompts", also: nil, refusal: refusal)
    return description
  }

  /// - Throws: ``CertificationError`` for prompts that cannot stop so here.
  func prompts(stop prompt: StoppedPrompt, _ subject: DecodingSubject) throws {
    try prompts(stopAfter: Double(prompt.layer), deepTokens: prompt.deepTokens, subject)
  }

  /// - Throws: ``CertificationError`` for prompts that cannot stop so here.
  func prompts(stopAfter layer: Double, deepTokens: Int, _ subject: DecodingSubject) throws {
    let layers = subject.model.promptDepths
    guard let depth = Int(exactly: layer), layers.contains(depth),
      deepTokens == LanguageModel.deepPromptTokens
    else {
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is for prompts that stop after layer \(layer) but for the last \(deepTokens) "
          + "tokens, and here they may stop after layers \(layers) but for the last \(LanguageModel.deepPromptTokens)"
      )
    }
  }

  private func policy(of certificate: Certificate, _ lack: String) throws -> JSONValue {
    guard let policy = certificate.subject.policy else {
      throw CertificationError(.certificate, "\(name): the certificate names \(lack)")
    }
    return policy
  }

  private func refusal(_ part: Part) -> String {
    "\(name): the certificate is for another \(part.what): SHA-256 \(part.then ?? "none"), found \(part.now ?? "none")"
  }

  private func check(
    _ description: some CertifiablePolicy, of certificate: Certificate, _ subject: DecodingSubject,
    _ regime: DecodingRegime, kind: String, also own: Part?, refusal: (Part) -> String
  ) throws {
    func demand(_ part: Part) throws {
      guard part.then != part.now else { return }
      throw CertificationError(.notCovered, refusal(part))
    }
    try demand((kind, certificate.subject.policyDigest, try description.digest()))
    try demand(("model", description.modelDigest, subject.modelDigest))
    if let named = certificate.subject.modelDigest { try demand(("model", named, subject.modelDigest)) }
    try compute(description.compute, subject)
    try covers(description.regime, regime)
    if let own { try demand(own) }
    try demand(("prompt template", description.templateDigest, try subject.model.templateDigest()))
  }

  func threshold(_ certificate: Certificate) throws -> Double {
    guard let threshold = certificate.threshold else {
      throw CertificationError(
        .certificate, "\(name) certifies nothing: \(certificate.reason ?? certificate.outcome.rawValue)")
    }
    return threshold
  }

  func compute(_ expected: String?, _ subject: DecodingSubject) throws {
    let found = subject.model.computeName
    guard expected != found else { return }
    let usual = ComputePath.quantized.rawValue
    guard found != (expected ?? usual) + LanguageModel.laterKernels else {
      throw CertificationError(
        .notCovered,
        "\(name): the certificate is from version 0.2, which computed with this model's weights otherwise, and outputs "
          + "are others now: calibrate again"
      )
    }
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
