import Certification
import SpeculativeDecoding

extension SpeculationOptions {
  /// The options that decide what is drafted and what of it stays, by name; files are named by their hashes.
  func settings(_ loaded: LoadedModel, threads: Int?) throws -> [String: String] {
    guard isActive else { return [:] }
    let all: [String: String?] = [
      "drafter": drafter?.rawValue,
      "draft": try draft.map { try LoadedDraft($0, for: loaded, threads: threads).digest() },
      "draft-layer": draftLayer.map { "\($0)" }, "fallback": fallback.map { "\($0)" },
      "draft-exit-threshold": draftExitThreshold.map { "\($0)" }, "rollback": rollback.map { "\($0)" },
      "draft-length": draftLength.map { "\($0)" }, "exact": exact ? "true" : nil,
    ]
    return all.compactMapValues { $0 }
  }

  /// The strategy that a certificate holds for.
  ///
  /// - Throws: ``CertificationError`` for a certificate of another pair of models or another prompt template, and one
  ///   that certifies nothing.
  static func strategy(
    certificate path: String, _ loaded: LoadedModel, draft: LoadedDraft, regime: DecodingRegime
  )
    throws -> SpeculationStrategy
  {
    let subject = try loaded.subject(draft: draft)
    let certified = try CertifiedPolicy.load(path, for: subject, regime: regime)
    let certificate = certified.certificate
    Console.note(certificate.statement)
    if !certified.pays {
      let costs = (
        (certificate.cost ?? 0).formatted(places: 2), (certificate.safestCost ?? 0).formatted(places: 2)
      )
      Console.note(
        certificate.promptLayer == nil
          ? "drafting at this threshold takes \(costs.0) ms a token and the large model's own output \(costs.1), "
            + "so drafts are exact, and made where they pay"
          : "a document takes \(costs.0) ms at this threshold and \(costs.1) ms at full depth, so prompts pass all "
            + "layers, and drafts are exact and made where they pay"
      )
    }
    guard case .drafts(let strategy) = certified.decoding else {
      throw CommandError("\(path): the certificate is for early exits, not for drafts")
    }
    return strategy
  }
}
