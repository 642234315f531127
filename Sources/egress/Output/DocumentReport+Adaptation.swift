import Certification
import Generation

/// What `adapt` has found for a model, used where nothing else is asked for.
extension DocumentReport {
  /// The same report with the exits, prompts or drafts that the model's folder has.
  ///
  /// - Throws: ``CertificationError`` for a damaged folder, and for one of another model.
  func adapted(to model: LoadedModel, _ regime: DecodingRegime) throws -> DocumentReport {
    guard !exits.fullDepth, !exits.isGiven, exits.promptDepth == nil, exits.policy.given.isEmpty,
      speculation.kind == nil, search.beams == nil, answering == nil, !documents.raw
    else { return self }
    guard let (adaptation, folder) = try model.adaptation() else { return self }
    if let (field, expected, found) = adaptation.regime.firstDifference(to: regime) {
      Console.note(
        "\(folder) does not cover this, for \(field) was \(expected) there and is \(found) here: decoded at full depth"
      )
      return self
    }
    var report = self
    if adaptation.way != .fullDepth {
      report.exits.certificate = Adaptation.certificate(of: adaptation.way, in: folder)
      if adaptation.way.leavesEarly {
        report.exits.policy.exitHeads = Adaptation.File.heads.path(in: folder)
      }
    }
    if adaptation.draftHead != nil {
      report.speculation.drafter = .auto
      report.speculation.draft = Adaptation.File.draftHead.path(in: folder)
    } else {
      report.speculation.drafter = adaptation.looksUp ? .promptLookup : .off
    }
    Console.note("\(adaptation.summary), from \(folder); --full-depth decodes without")
    return report
  }
}
