import DecoderModels

/// What a drafter expects to come next.
public struct Draft: Sendable, Equatable {
  public var tokens: [TokenID]
  /// Which of the drafter's kinds of guess this is, in 0..<``Drafter/evidenceCount``: acceptance is tracked for each.
  public var evidence: Int

  public init(tokens: [TokenID] = [], evidence: Int = 0) {
    self.tokens = tokens
    self.evidence = evidence
  }
}

/// Guesses the next tokens of one sequence cheaply. A drafter is owned by one session.
public protocol Drafter: AnyObject {
  /// Kinds of guess that differ in how often they are right.
  var evidenceCount: Int { get }
  /// Whether a draft costs next to nothing, so that its length can be chosen by what verifying it costs.
  var isFree: Bool { get }
  /// Guesses what follows `history`, the prompt and the output so far, which only grows from call to call.
  ///
  /// - Returns: At most `limit` tokens; none when there is no idea.
  func draft(after history: [TokenID], limit: Int) throws -> Draft
}
