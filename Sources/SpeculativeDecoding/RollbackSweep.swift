import DecoderModels
import EarlyExit

/// An output, and the smallest rollback threshold that gives it.
public struct RollbackStep: Sendable, Equatable {
  /// α_RB from which on, up to the next step's threshold, this is the output.
  public var threshold: Double
  public var generation: Generation
  public var statistics: SpeculationStatistics
}

extension LanguageModel {
  /// All outputs of a prompt as the rollback threshold grows from 0, without a grid.
  ///
  /// A run at one threshold tells the smallest distance that it refused. Every threshold below that one gives the same
  /// output, so the next run is at that distance.
  ///
  /// - Parameters:
  ///   - upTo: The largest threshold of interest, at least 0.
  ///   - makeDrafter: A new drafter for each run.
  ///   - shouldStop: Asked before each pass.
  /// - Returns: Steps in ascending order of threshold, the first at 0: the large model's greedy output. `nil` when
  ///   `shouldStop` said so before the end.
  /// - Throws: What a ``SpeculativeSession`` throws.
  public func rollbackSteps(
    prompt: [TokenID], options: GenerationOptions, upTo largest: Double = .infinity, draftLength: Int = 10,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }, makeDrafter: () throws -> any Drafter
  ) throws -> [RollbackStep]? {
    var steps: [RollbackStep] = []
    var threshold = 0.0
    while true {
      let session = try SpeculativeSession(
        model: self, prompt: prompt, options: options, drafter: makeDrafter(),
        rule: .rollback(threshold: threshold), draftLength: draftLength, shouldStop: shouldStop)
      while try session.next() != nil {}
      guard session.stopReason != .cancelled else { return nil }
      let generation = session.generation
      // A run may differ in where it was cut and still give the same tokens.
      if steps.last?.generation != generation {
        steps.append(
          RollbackStep(threshold: threshold, generation: generation, statistics: session.statistics))
      }
      guard let next = session.statistics.nearestRefusal, next.isFinite, next > threshold, next <= largest
      else { return steps }
      threshold = next
    }
  }
}
