/// What decoding an output with drafts took, in counts: on no machine other than on any other. ``DraftCosts`` says what
/// it costs.
public struct DraftWork: Sendable, Equatable, Codable {
  /// Tokens of the output.
  public var tokens: Int
  /// Passes of the large model after the prompt's.
  public var steps: Int
  /// Those of them with the head for the draft head's shortlist.
  public var shortlistSteps: Int
  /// Tokens that were drafted.
  public var drafted: Int

  /// The counts of an output.
  public init(_ statistics: SpeculationStatistics, tokens: Int) {
    self.tokens = tokens
    steps = statistics.steps
    shortlistSteps = statistics.shortlistSteps
    drafted = statistics.drafted
  }
}
