import ArgumentParser
import Checkpoints
import EarlyExit
import Foundation
import Generation
import RiskControl
import Transformers

/// A way of decoding with one threshold, which can tell where outputs change as the threshold grows less safe.
struct ThresholdSweep {
  /// An output, and the safest threshold that gives it.
  struct Output {
    var threshold: Double
    var text: String
    /// Megabytes of weights that a token reads.
    var cost: Double
    /// Milliseconds that it takes by measured costs.
    var time: Double
    /// Layers that a token passes, on average.
    var layer: Double
    /// From the full model's distributions, where the sweep measures that.
    var distance: Double?
    /// What the guard says of the document; `nil` without one.
    var isInside: Bool?
  }

  /// Everything but the threshold, as certificates and work files name it.
  var policy: JSONValue
  /// SHA-256 of the model, and of the policy's description.
  var modelDigest: String
  var policyDigest: String
  /// What else the outputs depend on: a resumed run must have the same.
  var settings: [String: JSONValue]
  /// Measures what the parts of decoding cost on this machine, as ``run`` takes it.
  var measure: () throws -> JSONValue
  /// Runs documents and hands over the outputs of each, safest first, in the order of the documents. Returns whether all
  /// were run; `false` after an interruption.
  var run:
    (_ records: [BatchRecord], _ costs: JSONValue, _ finished: (Int, [Output]) throws -> Void) throws -> Bool
}

extension ThresholdSweep {
  /// Early exits, by falling threshold from 1.
  ///
  /// - Parameters:
  ///   - maxTokens: `nil` for what is usual for each document's task.
  ///   - grid: The only thresholds to try, or `nil` for ``usualGrid(_:)``.
  ///   - isExhaustive: Tries every threshold at which something changes.
  static func exits(
    _ loaded: LoadedModel, options: ExitPolicyOptions, distance: DistributionDistance?, grid: [Double]?,
    isExhaustive: Bool, lowest: Double, maxTokens: Int?, regime: DecodingRegime,
    applicability: CertificateGuard?
  ) throws -> ThresholdSweep {
    let model = loaded.model
    let heads = try options.loadHeads(loaded)
    let policy = try options.policy(threshold: 0, heads: heads)
    guard policy.threshold < 1 else {
      throw CommandError("the exit plan has no exits, for none pays: there is no threshold to calibrate")
    }
    let strategy = try options.strategy(policy, heads: heads, model: model)
    let grid = grid ?? (isExhaustive ? nil : usualGrid(strategy.measure.name))
    let sweep = try ExitSweep(
      model: model, strategy: strategy, policy: policy, distance: distance, grid: grid, lowest: lowest)
    let description = try ExitPolicyDescription(
      strategy, policy: policy, model: model,
      modelDigest: loaded.digest(),
      headsDigest: options.headsDigest(loaded), regime: regime, applicability: applicability?.reference,
      tripwire: applicability?.tripwire)
    let bytes = try description.jsonData()
    return ThresholdSweep(
      policy: try JSONDecoder().decode(JSONValue.self, from: bytes), modelDigest: description.modelDigest,
      policyDigest: try description.digest(),
      settings: [
        "distance": distance.map { .text($0.rawValue) } ?? .null,
        "grid": grid.map { .array($0.map(JSONValue.number)) } ?? .null, "lowest": .number(lowest),
        "max_tokens": maxTokens.map { .number(Double($0)) } ?? .null,
      ],
      measure: {
        let costs = try ExitCosts.measured(model.decoder, heads: heads)
        return try JSONDecoder().decode(JSONValue.self, from: JSONEncoder().encode(costs))
      }
    ) { records, costs, finished in
      var sweep = sweep
      sweep.costs = try JSONDecoder().decode(ExitCosts.self, from: JSONEncoder().encode(costs))
      let requests = try records.map { record in
        var options = try model.options(for: record, maxTokens: maxTokens)
        (options.applicability, options.tripwire) = (applicability?.found, applicability?.tripwire)
        return ExitSweep.Request(
          prompt: try model.wholePrompt(for: record, options: options), options: options)
      }
      return try sweep.run(requests, shouldStop: { Interrupt.isRequested }) { index, pieces in
        try finished(
          index,
          pieces.map { piece in
            Output(
              threshold: piece.threshold, text: piece.generation.text.trimmingWhitespace(),
              cost: piece.bytesPerToken / 1e6, time: piece.costPerToken,
              layer: piece.generation.averageLayer ?? 0, distance: distance == nil ? nil : piece.distance,
              isInside: piece.generation.applicability?.isInside)
          })
      }
    }
  }
}

extension ThresholdSweep {
  /// Two dozen thresholds to try. Neighbouring states are alike, so saturation is decided close to 1; the other measures are
  /// probabilities.
  static func usualGrid(_ measure: String) -> [Double] {
    measure == SaturationConfidence().name
      ? [
        0.999, 0.998, 0.997, 0.996, 0.995, 0.994, 0.992, 0.99, 0.988, 0.985, 0.98, 0.975, 0.97, 0.96, 0.95,
        0.93,
        0.9, 0.87, 0.83, 0.78, 0.7, 0.6, 0.4, 0,
      ]
      : [
        0.99, 0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6, 0.55, 0.5, 0.45, 0.4,
        0.35,
        0.3, 0.25, 0.2, 0.1, 0,
      ]
  }
}

extension LanguageModel {
  /// How a document's output is decoded.
  ///
  /// - Parameter maxTokens: `nil` for what is usual for the task.
  func options(for record: BatchRecord, maxTokens: Int?) throws -> GenerationOptions {
    let (task, document) = (record.item.task, record.item.document)
    return try options(
      GenerationOptions(maxTokens: maxTokens ?? task.usualMaxTokens), for: task, document: document)
  }

  /// The prompt of a document that has to fit as it is: a guarantee for whole documents says nothing about cut ones.
  ///
  /// - Throws: ``CommandError`` naming the document.
  func wholePrompt(for record: BatchRecord, options: GenerationOptions) throws -> [TokenID] {
    let tokens: [TokenID]
    do {
      tokens = try prompt(for: record.item.task, document: record.item.document)
    } catch {
      throw CommandError("document \(record.id): \(error)")
    }
    guard tokens.count + (hasEncoder ? 0 : options.maxTokens) <= contextLength else {
      throw CommandError(
        hasEncoder
          ? "document \(record.id) has \(tokens.count) tokens, more than the \(contextLength) that the model reads"
          : "document \(record.id) has a prompt of \(tokens.count) tokens; with \(options.maxTokens) tokens of output that is "
            + "more than the \(contextLength) that the model can hold")
    }
    return tokens
  }
}
