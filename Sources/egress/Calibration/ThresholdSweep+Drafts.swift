import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding

extension ThresholdSweep {
  /// Rollback thresholds to try unless others are asked for: -ln of probabilities from 0.6 to 2e-9.
  static let rollbackGrid = [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 15, 20]

  /// A small model or a draft head that drafts for a large one, by rising rollback threshold from 0.
  ///
  /// - Parameters:
  ///   - grid: The only thresholds to try beside 0, or `nil` for ``rollbackGrid``.
  ///   - maxTokens: `nil` for what is usual for each document's task.
  static func drafts(
    _ loaded: LoadedModel, draft: LoadedDraft, fallback: Double, draftLength: Int, grid: [Double]?,
    maxTokens: Int?, regime: DecodingRegime, applicability: CertificateGuard?
  ) throws -> ThresholdSweep {
    let model = loaded.model
    let strategy = try SpeculationStrategy(
      [draft.source], for: model, rule: .rollback(threshold: 0), fallback: fallback,
      draftLength: draftLength)
    let description = try SpeculationDescription(
      model: model, draft: draft.name, modelDigest: loaded.digest(),
      draftDigest: draft.digest(), fallback: fallback,
      draftLength: draftLength, regime: regime, applicability: applicability?.reference,
      tripwire: applicability?.tripwire)
    let grid = grid ?? rollbackGrid
    return ThresholdSweep(
      policy: try JSONDecoder().decode(JSONValue.self, from: description.jsonData()),
      modelDigest: description.modelDigest, policyDigest: try description.digest(),
      settings: [
        "grid": .array(grid.map(JSONValue.number)),
        "max_tokens": maxTokens.map { .number(Double($0)) } ?? .null,
      ],
      measure: {
        let costs = try DraftCosts.measured(model, source: draft.source)
        return try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(costs))
      }
    ) { records, costs, finished in
      let costs = try JSONDecoder().decode(DraftCosts.self, from: JSONEncoder().encode(costs))
      for (index, record) in records.enumerated() {
        var options = try model.options(for: record, maxTokens: maxTokens)
        (options.applicability, options.tripwire) = (applicability?.found, applicability?.tripwire)
        let sweep = try RollbackSweep(strategy, options: options, grid: grid)
        let prompt = try model.wholePrompt(for: record, options: options)
        guard let pieces = try sweep.run(prompt, shouldStop: { Interrupt.isRequested }) else { return false }
        try finished(
          index,
          pieces.map { piece in
            let time = costs.milliseconds(piece.statistics, tokens: piece.generation.tokenIDs.count)
            return Output(
              threshold: piece.threshold, text: piece.generation.text.trimmingWhitespace(),
              cost: piece.bytesPerToken / 1e6,
              // The output at 0 is the large model's own, which needs no drafts.
              time: piece.threshold == 0 ? min(time, costs.plain) : time,
              layer: piece.generation.averageLayer ?? 0,
              isInside: piece.generation.applicability?.isInside)
          })
      }
      return true
    }
  }
}

extension SpeculationDescription {
  /// SHA-256 of the description's JSON.
  func digest() throws -> String {
    FileDigest.sha256(text: String(decoding: try jsonData(), as: UTF8.self))
  }
}
