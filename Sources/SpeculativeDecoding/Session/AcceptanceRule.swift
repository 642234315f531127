/// Which drafted tokens stay.
public enum AcceptanceRule: Sendable, Equatable {
  /// A token stays if it is the very one that decoding without drafts would have chosen. The output is the same to the
  /// token, greedy or sampled with a seed. This is the rule of Leviathan et al. (2023) for drafts that are certain of
  /// their token: drawing from the large model's distribution and comparing is then the p/q test and its residual in
  /// one.
  case exact
  /// BiLD's rollback policy (Kim et al., 2023, equation 5). A token stays if it is the large model's most probable one,
  /// or if −ln p_large does not exceed the threshold α_RB. 0 gives the large model's greedy output, infinity never
  /// rolls back. Above 0, a draft head's shortlist and the prompt's tokens, where it has one, are all that p_large is
  /// over.
  case rollback(threshold: Double)

  /// Whether the rule lets no draft change the output.
  public var keepsOutput: Bool {
    switch self {
    case .exact: true
    case .rollback(let threshold): threshold == 0
    }
  }

  /// - Throws: ``SpeculativeDecodingError/option(field:expected:found:)`` for a threshold below 0.
  func validate() throws(SpeculativeDecodingError) {
    if case .rollback(let threshold) = self, !(threshold >= 0) {
      throw .option(field: "rollback", expected: "0 or above", found: "\(threshold)")
    }
  }
}
