import Checkpoints
import EarlyExit
import Foundation
import RiskControl
import SpeculativeDecoding

extension SpeculationOptions {
  /// The strategy that a certificate holds for.
  ///
  /// - Throws: ``CommandError`` for a certificate of another pair of models or another prompt template, and one that
  ///   certifies nothing.
  static func strategy(
    certificate path: String, _ loaded: LoadedModel, draft: LoadedDraft, regime: DecodingRegime
  )
    throws -> SpeculationStrategy
  {
    let certificate = try Certificate.read(path: path)
    guard let policy = certificate.subject.policy else {
      throw CommandError(
        "\(path): the certificate names no pair of models; egress calibrate --draft --data makes one that does"
      )
    }
    let description = try SpeculationDescription.read(
      JSONEncoder().encode(policy), name: "\(path): the certificate's policy")
    func demand(_ what: String, _ expected: String?, _ found: String) throws {
      guard expected == found else {
        throw CommandError(
          "\(path): the certificate is for the draft \(description.draft) and the model \(description.model), "
            + "not for this \(what): SHA-256 \(expected ?? "none"), found \(found)")
      }
    }
    try demand("model", description.modelDigest, try loaded.digest())
    try demand("model", certificate.subject.modelDigest, description.modelDigest)
    try ExitOptions.demandCompute(description.compute, of: loaded, path)
    try ExitOptions.demand(description.regime, covers: regime, path)
    try demand("draft", description.draftDigest, try draft.digest())
    try demand("draft policy", certificate.subject.policyDigest, try description.digest())
    try demand(
      "prompt template", description.templateDigest,
      try ExitPolicyDescription.templateDigest(of: loaded.model))
    guard let threshold = certificate.threshold else {
      throw CommandError("\(path) certifies nothing: \(certificate.reason ?? certificate.outcome)")
    }
    Console.note(certificate.guarantee)
    var rule = AcceptanceRule.rollback(threshold: threshold)
    if certificate.pays == false, threshold > 0 {
      Console.note(
        "drafting at this threshold takes \((certificate.cost ?? 0).formatted(places: 2)) ms a token and the large model's own "
          + "output \((certificate.safestCost ?? 0).formatted(places: 2)), so drafts are exact, and made where they pay"
      )
      rule = .exact
    }
    return try SpeculationStrategy(
      [draft.source], for: loaded.model, rule: rule,
      fallback: description.fallback, draftLength: description.draftLength)
  }
}
