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

  fileprivate let strategy: SpeculationStrategy
  fileprivate let grid: [Double]?
  fileprivate let largest: Double

  /// - Parameters:
  ///   - strategy: Everything but the rule.
  ///   - grid: The only thresholds to be used beside 0, in any order, or `nil` for every one at which the output
  ///     changes. Fewer thresholds mean fewer runs.
  ///   - largest: No threshold above this is tried.
  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` for thresholds below 0.
  public init(
    _ strategy: SpeculationStrategy, grid: [Double]? = nil, largest: Double = .infinity
  ) throws(SpeculativeDecodingError) {
    for threshold in (grid ?? []) + [largest] {
      try AcceptanceRule.rollback(threshold: threshold).validate()
    }
    self.strategy = strategy
    self.grid = grid?.sorted()
    self.largest = largest
  }

  /// A prompt and how to go on from it, greedily, as a sweep of exits takes it.
  public typealias Request = ExitSweep.Request

  /// Tokens that the caches of all prompts under way may have together; a single prompt may have more.
  private static let cachedTokens = 32_768

  /// Runs one prompt at all thresholds.
  ///
  /// - Parameters:
  ///   - prompt: The prompt's tokens.
  ///   - options: How to decode; greedy.
  ///   - shouldStop: Asked before each pass.
  /// - Returns: Pieces in ascending order of threshold, the first at 0; `nil` when `shouldStop` said so before the end.
  /// - Throws: As ``run(_:width:shouldStop:finished:)``.
  public func run(
    _ prompt: [TokenID], options: GenerationOptions, shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> [Piece]? {
    var result: [Piece]?
    _ = try run([Request(prompt: prompt, options: options)], shouldStop: shouldStop) { result = $1 }
    return result
  }

  /// Runs prompts at all thresholds, several at a time.
  ///
  /// Each prompt passes the layers once; each of its runs then decodes from there. The large model's passes of the
  /// prompts under way are shared. Each prompt gets the pieces that it gets alone, to the bit, but for the seconds of
  /// their statistics.
  ///
  /// - Parameters:
  ///   - requests: The prompts, each with its options.
  ///   - width: Prompts to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - shouldStop: Asked before each pass.
  ///   - finished: Told of each prompt's number and pieces in ascending order of threshold, in the order of the
  ///     prompts; what it throws ends the run.
  /// - Returns: Whether all were finished; `false` when `shouldStop` said so before.
  /// - Throws: What a ``SpeculativeSession`` throws.
  public func run(
    _ requests: [Request], width: Int = 8, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    finished: (Int, [Piece]) throws -> Void
  ) throws -> Bool {
    let width = max(1, min(width, strategy.model.decoder.invariantBatchLimit))
    let runner = PassRunner()
    var active: [(index: Int, curve: RollbackCurve, cachedTokens: Int)] = []
    var done: [Int: [Piece]] = [:]
    var next = 0
    var reported = 0
    while reported < requests.count {
      while next < requests.count, active.count < width {
        if shouldStop() { return false }
        let request = requests[next]
        let needed = request.prompt.count + request.options.maxTokens
        if !active.isEmpty, active.reduce(needed, { $0 + $1.cachedTokens }) > Self.cachedTokens { break }
        let curve = try RollbackCurve(self, request, shouldStop: shouldStop)
        guard try curve.readPrompt() else { return false }
        active.append((next, curve, needed))
        next += 1
      }
      if shouldStop() { return false }
      let outcomes = runner.run(try active.map { try $0.curve.session.beginPass() })
      for (place, outcome) in outcomes.enumerated() {
        if let error = outcome.error { throw error }
        try active[place].curve.endPass(seconds: outcome.seconds)
      }
      for (index, curve, _) in active where curve.isFinished { done[index] = curve.pieces }
      active.removeAll { $0.curve.isFinished }
      while let pieces = done.removeValue(forKey: reported) {
        try finished(reported, pieces)
        reported += 1
      }
    }
    return true
  }
}

/// The runs of one prompt, one after the other.
private final class RollbackCurve {
  let session: SpeculativeSession
  private(set) var pieces: [RollbackSweep.Piece] = []
  private(set) var isFinished = false
  private let sweep: RollbackSweep
  private let shouldStop: () -> Bool
  private var threshold = 0.0

  init(_ sweep: RollbackSweep, _ request: RollbackSweep.Request, shouldStop: @escaping () -> Bool) throws {
    self.sweep = sweep
    self.shouldStop = shouldStop
    // A fixed draft length at 0 too: how drafts are cut at the next threshold hangs on it.
    session = try sweep.strategy.with(rule: .rollback(threshold: 0)).makeSession(
      prompt: request.prompt, options: request.options, choosesLength: false, shouldStop: shouldStop)
  }

  /// Takes the prompt through the layers.
  ///
  /// - Returns: `false` where it was told to stop.
  func readPrompt() throws -> Bool {
    while session.hasUnreadParts {
      if shouldStop() { return false }
      try session.readPart()
    }
    try settle()
    return true
  }

  func endPass(seconds: Double) throws {
    guard !isFinished else { return }
    try session.endPass(seconds: seconds)
    try settle()
  }

  /// Takes what is certain; at the end of a run, goes on with the next threshold at which something changes.
  private func settle() throws {
    while true {
      while session.takeStep() != nil {}
      guard session.stopReason != nil else { return }
      note()
      guard let next = nextThreshold() else {
        isFinished = true
        return
      }
      threshold = next
      try session.restart(threshold: next)
    }
  }

  private func note() {
    let generation = session.generation
    // A run may differ in where it was cut and still give the same tokens; with a shortlist it also costs less.
    guard pieces.last?.generation != generation || sweep.strategy.shortlist != nil && pieces.count == 1 else {
      return
    }
    pieces.append(
      RollbackSweep.Piece(threshold: threshold, generation: generation, statistics: session.statistics))
  }

  private func nextThreshold() -> Double? {
    // What the guard finds outside is the large model's own output, whatever the threshold.
    if session.generation.applicability?.isInside == false { return nil }
    // Above 0 tokens may be chosen from a shortlist, so that distances at 0 say nothing of the smallest thresholds.
    let isExact = sweep.strategy.shortlist != nil && threshold == 0
    let refusal = isExact ? .leastNonzeroMagnitude : session.statistics.nearestRefusal
    guard let refused = refusal, refused.isFinite, refused > threshold else { return nil }
    guard let next = sweep.grid.map({ $0.first { $0 >= refused } }) ?? refused, next <= sweep.largest else {
      return nil
    }
    return next
  }
}
