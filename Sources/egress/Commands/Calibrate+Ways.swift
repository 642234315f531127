import ArgumentParser
import Certification
import EarlyExit
import Generation
import SpeculativeDecoding

/// What answers the questions of a calibration.
extension Calibrate {
  /// How answers come about, fastest first: at full depth, or at each threshold of --grid.
  func waysOfDecoding(_ loaded: LoadedModel) throws -> (
    subject: DecodingSubject, ways: [AnswerCalibrator.Way]
  ) {
    guard let grid = documents.grid?.values else {
      return (try loaded.subject(), [.init(name: "full depth", strategy: nil)])
    }
    guard let name = drafting.draft else {
      let subject = try loaded.subject(exits)
      // The strictest are the slowest; at 1 no exit is looked at.
      return (
        subject,
        try grid.sorted().map { threshold in
          .init(
            name: "threshold \(TableText.short(threshold))",
            strategy: threshold == 1
              ? nil
              : try exits.strategy(
                try exits.policy(threshold: threshold, heads: subject.heads), heads: subject.heads,
                model: loaded.model)
          )
        }
      )
    }
    let draft = try LoadedDraft(name, for: loaded, threads: self.subject.threads)
    return (
      try loaded.subject(draft: draft),
      try grid.sorted(by: >).map { threshold in
        .init(
          name: "rollback \(TableText.short(threshold))",
          strategy: try SpeculationStrategy(
            [draft.source], for: loaded.model, rule: .rollback(threshold: threshold),
            fallback: drafting.fallback?.values.first ?? draft.usualFallback,
            draftLength: drafting.draftLength ?? draft.usualDraftLength)
        )
      }
    )
  }
}
