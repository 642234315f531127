import EarlyExit
import Generation
import Transformers

/// A way of decoding with one threshold, which can tell where outputs change as the threshold grows less safe.
public struct ThresholdSweep {
  /// An output, and the safest threshold that gives it.
  public struct Output: Sendable {
    /// λ.
    public var threshold: Double
    /// The output.
    public var text: String
    /// Megabytes of weights that a token reads.
    public var cost: Double
    /// What decoding it took.
    public var work: SweepWork
    /// Layers that a token passes, on average.
    public var layer: Double
    /// From the full model's distributions, where the sweep measures that.
    public var distance: Double?
    /// What the guard says of the document; `nil` without one.
    public var isInside: Bool?
  }

  /// Everything that outputs depend on but the documents.
  public var settings: RunSettings
  /// Measures what the parts of decoding cost on this machine.
  public var measure: () throws -> SweepCosts
  /// Runs documents and hands over the outputs of each, safest first, in the order of the documents. Returns whether
  /// all were run; `false` where it was told to stop.
  public var run:
    (
      _ records: [DocumentRecord], _ shouldStop: @escaping () -> Bool,
      _ finished: (Int, [Output]) throws -> Void
    ) throws -> Bool

  /// A sweep whose outputs are all in files: it decodes nothing.
  static func recorded(_ settings: RunSettings) -> ThresholdSweep {
    let missing = CertificationError(.runs, "the runs do not have every document")
    return ThresholdSweep(settings: settings, measure: { throw missing }) { records, _, _ in
      guard records.isEmpty else { throw missing }
      return true
    }
  }
}

extension ThresholdSweep {
  /// Early exits, by falling threshold from 1.
  ///
  /// - Parameters:
  ///   - subject: The model and its heads.
  ///   - strategy: Measure, heads and cache.
  ///   - policy: Layers and decay; its own threshold does not count.
  ///   - distance: The distance of distributions to measure; `nil` where texts are compared.
  ///   - grid: The only thresholds to try, or `nil` for ``usualGrid(_:)``.
  ///   - lowest: No threshold below it is tried.
  ///   - isExhaustive: Tries every threshold at which something changes.
  ///   - maxTokens: The most tokens of an output; `nil` for what is usual for each document's task.
  ///   - regime: How the documents are decoded besides.
  ///   - promptDepth: The layer after which the tokens of prompts stop at all thresholds below 1; `nil` where they pass
  ///     all layers. The costs are then of whole documents, prompt and output.
  ///   - policyGuard: Which documents the policy applies to; `nil` for all. Where prompts stop, it has to read a layer
  ///     that is not above theirs.
  public static func exits(
    _ subject: DecodingSubject, strategy: ExitStrategy, policy: ThresholdPolicy,
    distance: DistributionDistance? = nil, grid: [Double]? = nil, lowest: Double = 0,
    isExhaustive: Bool = false, maxTokens: Int? = nil, regime: DecodingRegime, promptDepth: Int? = nil,
    guard policyGuard: PolicyGuard? = nil
  ) throws -> ThresholdSweep {
    let model = subject.model
    let layerCount = model.decoder.configuration.layerCount
    let grid = grid ?? (isExhaustive ? nil : usualGrid(strategy.measure.name))
    let sweep = try ExitSweep(
      model: model, strategy: strategy, policy: policy, distance: distance, grid: grid,
      lowest: lowest)
    let description = try ExitPolicyDescription(
      strategy, policy: policy, model: model, modelDigest: subject.modelDigest,
      headsDigest: subject.headsDigest, regime: regime, applicability: policyGuard?.reference,
      tripwire: policyGuard?.tripwire, promptDepth: promptDepth)
    return ThresholdSweep(
      settings: RunSettings(
        policy: .exits(description), distance: distance?.rawValue, grid: grid, lowest: lowest,
        maxTokens: maxTokens),
      measure: {
        var subject = subject
        subject.draft = nil
        return try .measured(subject, prompts: promptDepth != nil)
      }
    ) { records, shouldStop, finished in
      let requests = try records.map { record in
        var options = try model.options(for: record, maxTokens: maxTokens)
        (options.applicability, options.tripwire) = (policyGuard?.found, policyGuard?.tripwire)
        options.promptDepth = promptDepth
        return ExitSweep.Request(
          prompt: try model.wholePrompt(for: record, options: options), options: options)
      }
      return try sweep.run(requests, shouldStop: shouldStop) { index, pieces in
        try finished(
          index,
          pieces.map { piece in
            let work = promptDepth.map { depth in
              SweepWork.documents(
                DocumentWork(
                  prompt: PromptWork(
                    prompt: requests[index].prompt.count, depth: piece.threshold < 1 ? depth : layerCount,
                    layerCount: layerCount, isInside: piece.generation.applicability?.isInside,
                    trippedAt: piece.generation.trippedAt),
                  output: piece.work))
            }
            return Output(
              threshold: piece.threshold, text: piece.generation.text.trimmingWhitespace(),
              cost: piece.bytesPerToken / 1e6, work: work ?? .exits(piece.work),
              layer: piece.generation.averageLayer ?? 0,
              distance: distance == nil ? nil : piece.distance,
              isInside: piece.generation.applicability?.isInside)
          })
      }
    }
  }
}

extension ThresholdSweep {
  /// Two dozen thresholds to try. Neighbouring states are alike, so saturation is decided close to 1; the other
  /// measures are probabilities.
  public static func usualGrid(_ measure: String) -> [Double] {
    measure == SaturationConfidence().name
      ? [
        0.999, 0.998, 0.997, 0.996, 0.995, 0.994, 0.992, 0.99, 0.988, 0.985, 0.98, 0.975, 0.97, 0.96, 0.95,
        0.93, 0.9, 0.87, 0.83, 0.78, 0.7, 0.6, 0.4, 0,
      ]
      : [
        0.99, 0.98, 0.96, 0.94, 0.92, 0.9, 0.87, 0.84, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6, 0.55, 0.5, 0.45, 0.4,
        0.35, 0.3, 0.25, 0.2, 0.1, 0,
      ]
  }
}

extension LanguageModel {
  /// How a document's output is decoded.
  ///
  /// - Parameter maxTokens: `nil` for what is usual for the task.
  public func options(for record: DocumentRecord, maxTokens: Int?) throws -> GenerationOptions {
    let (task, document) = (record.item.task, record.item.document)
    return try options(
      GenerationOptions(maxTokens: maxTokens ?? task.usualMaxTokens), for: task, document: document)
  }

  /// The prompt of a document that has to fit as it is: a guarantee for whole documents says nothing about cut ones.
  ///
  /// - Throws: ``CertificationError`` naming the document.
  public func wholePrompt(for record: DocumentRecord, options: GenerationOptions) throws
    -> [TokenID]
  {
    let tokens: [TokenID]
    do {
      tokens = try prompt(for: record.item.task, document: record.item.document)
    } catch {
      throw CertificationError(.documents, "document \(record.id): \(error)")
    }
    guard tokens.count + (hasEncoder ? 0 : options.maxTokens) <= contextLength else {
      throw CertificationError(
        .documents,
        hasEncoder
          ? "document \(record.id) has \(tokens.count) tokens, more than the \(contextLength) that the model reads"
          : "document \(record.id) has a prompt of \(tokens.count) tokens; with \(options.maxTokens) tokens of "
            + "output that is more than the \(contextLength) that the model can hold")
    }
    return tokens
  }
}
