import Transformers

/// Brings decoding back to full depth when the output repeats itself more than full-depth outputs do.
///
/// A token repeats when it and the two before it stood in this order in the output already; a run is of such tokens,
/// one after the other. Beyond ``limit`` decoding goes back to where the first repeated three began, and goes on from
/// there at full depth. Where the prompt's tokens stopped after a layer, it and what is kept of the output are read
/// again through all layers first: a loop may come of how the prompt was read. That is part of the policy: calibrated
/// as it is, its losses are those of the outputs that it gives.
///
/// Measured on the default model and 120 abstracts: at full depth the longest runs are of 5 tokens or fewer but for
/// outputs that loop by themselves; of early exits' outputs those with runs above 8 (4 of 120 at the lowest thresholds)
/// were loops to the last token.
public struct RepetitionTripwire: Sendable, Equatable, Codable {
  /// The longest run that is let pass.
  public var limit: Int

  /// Tokens whose order is looked for.
  static let length = 3
  /// No output is brought back for a shorter run: names and formulas may come twice.
  public static let leastLimit = 8

  /// A tripwire at a given length; a negative one counts as 0.
  public init(limit: Int) { self.limit = max(0, limit) }

  /// - Parameters:
  ///   - outputs: Full-depth outputs of documents apart from those that certify.
  ///   - level: This share of them may have longer runs.
  public init(outputs: [[TokenID]], level: Double = ApplicabilityGuard.usualLevel) {
    let runs = outputs.map { tokens in
      var watch = RepetitionWatch()
      return tokens.reduce(0) { longest, token in
        watch.append(token)
        return max(longest, watch.run)
      }
    }.sorted()
    let rank = Int((Double(runs.count) * (1 - level)).rounded(.up))
    limit = max(Self.leastLimit, runs.isEmpty ? 0 : runs[min(max(rank, 1), runs.count) - 1])
  }
}

/// What a tripwire has seen of an output.
package struct RepetitionWatch {
  private var tokens: [TokenID] = []
  private var seen: Set<[TokenID]> = []
  /// Tokens of the run at the end of the output.
  package private(set) var run = 0

  package init() {}

  package mutating func append(_ token: TokenID) {
    tokens.append(token)
    guard tokens.count >= RepetitionTripwire.length else { return }
    run = seen.insert(Array(tokens.suffix(RepetitionTripwire.length))).inserted ? 0 : run + 1
  }

  /// Tokens from the first on that no run at the end, nor one that begins with the next token, could take back.
  package var safeCount: Int {
    max(min(tokens.count, 1), tokens.count - run - (RepetitionTripwire.length - 1))
  }

  /// Whether the run is too long.
  package func isTripped(_ tripwire: RepetitionTripwire) -> Bool { run > tripwire.limit }
}

/// An output under a tripwire: what is safe to be shown, and where it was cut.
package struct WatchedOutput {
  private let tripwire: RepetitionTripwire
  private var watch = RepetitionWatch()
  private var held: [TokenStep] = []
  private var shown = 0
  /// Whether decoding is at full depth for good.
  package private(set) var isTripped = false

  package init(_ tripwire: RepetitionTripwire) { self.tripwire = tripwire }

  /// Takes the next step.
  ///
  /// - Returns: How many tokens of the output are kept, where it has to be cut.
  package mutating func append(_ step: TokenStep) -> Int? {
    held.append(step)
    guard !isTripped else { return nil }
    watch.append(step.id)
    guard watch.isTripped(tripwire) else { return nil }
    isTripped = true
    let kept = watch.safeCount
    held.removeSubrange(max(0, kept - shown)...)
    return kept
  }

  /// The next step to be shown; `nil` while what is there may still be taken back.
  package mutating func next(isOver: Bool) -> TokenStep? {
    guard let step = held.first, isTripped || isOver || shown < watch.safeCount else { return nil }
    held.removeFirst()
    shown += 1
    return step
  }

  package var isEmpty: Bool { held.isEmpty }
}
