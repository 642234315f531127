import EarlyExit
import Generation
import Transformers

/// The outputs of one prompt as the rollback threshold grows from 0, the large model's own output.
///
/// A run at one threshold tells the smallest distance that it refused. Every threshold below that one gives the same
/// output, so the next run is at that distance, or at the first threshold of a grid that reaches it.
public struct RollbackSweep {
  /// An output, and the smallest threshold that gives it.
  public struct Piece: Sendable, Equatable {
    /// α_RB from which on, up to the next piece's threshold, this is the output.
    public var threshold: Double
    /// The output.
    public var generation: Generation
    /// How drafts went in it.
    public var statistics: SpeculationStatistics

    /// Bytes of weights read by both models, on average over the tokens after the first; 0 where there is none.
    public var bytesPerToken: Double {
      Double(statistics.bytesRead) / Double(max(generation.tokenIDs.count - 1, 1))
    }
  }

  private let strategy: SpeculationStrategy
  private let options: GenerationOptions
  private let grid: [Double]?
  private let largest: Double

  /// - Parameters:
  ///   - strategy: Everything but the rule.
  ///   - options: How to decode; greedy.
  ///   - grid: The only thresholds to be used beside 0, in any order, or `nil` for every one at which the output
  ///     changes. Fewer thresholds mean fewer runs.
  ///   - largest: No threshold above this is tried.
  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` for thresholds below 0.
  public init(
    _ strategy: SpeculationStrategy, options: GenerationOptions, grid: [Double]? = nil,
    largest: Double = .infinity
  ) throws(SpeculativeDecodingError) {
    for threshold in (grid ?? []) + [largest] {
      try AcceptanceRule.rollback(threshold: threshold).validate()
    }
    self.strategy = strategy
    self.options = options
    self.grid = grid?.sorted()
    self.largest = largest
  }

  /// Runs one prompt at all thresholds.
  ///
  /// The prompt passes the layers once; each run then decodes from there.
  ///
  /// - Parameters:
  ///   - prompt: The prompt's tokens.
  ///   - shouldStop: Asked before each pass.
  /// - Returns: Pieces in ascending order of threshold, the first at 0; `nil` when `shouldStop` said so before the end.
  /// - Throws: What a ``SpeculativeSession`` throws.
  public func run(
    _ prompt: [TokenID], shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> [Piece]? {
    // A fixed draft length at 0 too: how drafts are cut at the next threshold hangs on it.
    let session = try strategy.with(rule: .rollback(threshold: 0)).makeSession(
      prompt: prompt, options: options, choosesLength: false, shouldStop: shouldStop)
    var pieces: [Piece] = []
    var threshold = 0.0
    while true {
      while try session.next() != nil {}
      guard session.stopReason != .cancelled else { return nil }
      let generation = session.generation
      // A run may differ in where it was cut and still give the same tokens; with a shortlist it also costs less.
      if pieces.last?.generation != generation || strategy.shortlist != nil && pieces.count == 1 {
        pieces.append(
          Piece(threshold: threshold, generation: generation, statistics: session.statistics))
      }
      // What the guard finds outside is the large model's own output, whatever the threshold.
      if generation.applicability?.isInside == false { return pieces }
      // Above 0 tokens may be chosen from a shortlist, so that distances at 0 say nothing of the smallest thresholds.
      let isExact = strategy.shortlist != nil && threshold == 0
      let refusal = isExact ? .leastNonzeroMagnitude : session.statistics.nearestRefusal
      guard let refused = refusal, refused.isFinite, refused > threshold else { return pieces }
      guard let next = grid.map({ $0.first { $0 >= refused } }) ?? refused, next <= largest else {
        return pieces
      }
      threshold = next
      try session.restart(threshold: threshold)
    }
  }
}
