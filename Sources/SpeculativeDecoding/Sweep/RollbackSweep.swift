import EarlyExit
import Generation
import Transformers

/// The outputs of one prompt as the rollback threshold grows from 0, the large model's own output.
///
/// A run at one threshold tells the smallest distance that it refused. Every threshold below that one gives the same
/// output, so the next run is at that distance, or at the first threshold of a grid that reaches it.
///
/// A request may have a prompt whose tokens stop after a layer (`GenerationOptions.promptDepth`). Its output at the
/// threshold 0 is that of full depth all the same, for the prompt too: what others are compared with. At all thresholds
/// above, decoding and drafts go on from the prompt that stopped.
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
  /// Each prompt passes the layers once, and one that stops after a layer once more so; each of its runs then decodes
  /// from there. The large model's passes of the prompts under way are shared. Each prompt gets the pieces that it gets
  /// alone, to the bit, but for the seconds of their statistics.
  ///
  /// - Parameters:
  ///   - requests: The prompts, each with its options.
  ///   - width: Prompts to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - shouldStop: Asked before each pass.
  ///   - finished: Told of each prompt's number and pieces in ascending order of threshold, in the order of the
  ///     prompts; what it throws ends the run.
  /// - Returns: Whether all were finished; `false` when `shouldStop` said so before.
  /// - Throws: What a ``SpeculativeSession`` throws; for a depth that the model does not have, before anything is run.
  public func run(
    _ requests: [Request], width: Int = 8, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    finished: (Int, [Piece]) throws -> Void
  ) throws -> Bool {
    for request in requests {
      try request.options.promptDepth.map {
        try strategy.model.checkPromptDepth($0, guard: request.options.applicability)
      }
    }
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
        active.append((next, curve, needed))
        next += 1
      }
      for (_, curve, _) in active { guard try curve.read() else { return false } }
      if shouldStop() { return false }
      let outcomes = runner.run(try active.map { try $0.curve.session.beginPass(beside: 0) })
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
  private(set) var session: SpeculativeSession
  private(set) var pieces: [RollbackSweep.Piece] = []
  private(set) var isFinished = false
  private let sweep: RollbackSweep
  private let request: RollbackSweep.Request
  private let shouldStop: () -> Bool
  private var threshold = 0.0
  /// Whether the prompt's tokens stop after a layer at thresholds above 0.
  private let stops: Bool

  init(_ sweep: RollbackSweep, _ request: RollbackSweep.Request, shouldStop: @escaping () -> Bool) throws {
    self.sweep = sweep
    self.request = request
    self.shouldStop = shouldStop
    let last = sweep.strategy.model.promptDepths.upperBound
    stops =
      request.prompt.count > LanguageModel.deepPromptTokens && (request.options.promptDepth ?? last) < last
    session = try Self.makeSession(sweep, request, at: 0, promptDepth: nil, shouldStop)
  }

  private static func makeSession(
    _ sweep: RollbackSweep, _ request: RollbackSweep.Request, at threshold: Double, promptDepth: Int?,
    _ shouldStop: @escaping () -> Bool
  ) throws -> SpeculativeSession {
    var options = request.options
    options.promptDepth = promptDepth
    // A fixed draft length at 0 too: how drafts are cut at the next threshold hangs on it.
    let session = try sweep.strategy.with(rule: .rollback(threshold: threshold)).makeSession(
      prompt: request.prompt, options: options, choosesLength: false, shouldStop: shouldStop)
    session.mayRestart = true
    return session
  }

  /// Takes what has to be read through the layers: the prompt, or, where an output was brought back after a prompt that
  /// stopped, both again.
  ///
  /// - Returns: `false` where it was told to stop.
  func read() throws -> Bool {
    while !isFinished, session.hasUnreadParts {
      while session.hasUnreadParts {
        if shouldStop() { return false }
        try session.readPart()
      }
      try settle()
    }
    return true
  }

  func endPass(seconds: Double) throws {
    guard !isFinished else { return }
    try session.endPass(seconds: seconds)
    try settle()
  }

  /// Takes what is certain; at the end of a run, goes on with the next threshold at which something changes.
  private func settle() throws {
    while !session.hasUnreadParts {
      while session.takeStep() != nil {}
      guard session.stopReason != nil else { return }
      note()
      guard let next = nextThreshold() else {
        isFinished = true
        return
      }
      if stops, threshold == 0 {
        // That of 0 was of a prompt that passed all layers.
        session = try Self.makeSession(
          sweep, request, at: next, promptDepth: request.options.promptDepth, shouldStop)
      } else {
        try session.restart(threshold: next)
      }
      threshold = next
    }
  }

  private func note() {
    let generation = session.generation
    // A run may differ in where it was cut and still give the same tokens; with a shortlist it also costs less, and so
    // it does after a prompt that stopped.
    guard
      pieces.last?.generation != generation
        || pieces.count == 1 && (stops || sweep.strategy.shortlist != nil)
    else { return }
    pieces.append(
      RollbackSweep.Piece(threshold: threshold, generation: generation, statistics: session.statistics))
  }

  private func nextThreshold() -> Double? {
    // What the guard finds outside is the large model's own output, whatever the threshold.
    if session.generation.applicability?.isInside == false { return nil }
    // Above 0 tokens may be chosen from a shortlist, or after another prompt, so that distances at 0 say nothing of the
    // smallest thresholds.
    let isApart = threshold == 0 && (stops || sweep.strategy.shortlist != nil)
    let refusal = isApart ? .leastNonzeroMagnitude : session.statistics.nearestRefusal
    guard let refused = refusal, refused.isFinite, refused > threshold else { return nil }
    guard let next = sweep.grid.map({ $0.first { $0 >= refused } }) ?? refused, next <= sweep.largest else {
      return nil
    }
    return next
  }
}
