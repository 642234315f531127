/// Kinds of guess that are right at rates of their own.
package enum GuessKind: Hashable, Sendable {
  /// A drafter's own guess, with what it says of it: ``Draft/evidence``.
  case own(evidence: Int)
  /// The guess of a free drafter whose first token another drafter has confirmed.
  case confirmed(evidence: Int)
  /// The guess of a drafter that must work for it, where a free drafter's beside it differs.
  case differing
}
