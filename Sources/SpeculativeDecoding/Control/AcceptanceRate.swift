/// How often something was right, as an estimate that follows the text.
struct AcceptanceRate: Sendable {
  private var accepted: Double
  private var drafted: Double

  /// What older outcomes weigh after one more: those of the last 33 count for two thirds, so that a text that begins to
  /// copy is noticed within a sentence.
  private static let memory = 0.97

  /// Begins with a guess that counts as ``DraftPriors/weight`` observations.
  init(_ guess: Double) {
    accepted = guess * DraftPriors.weight
    drafted = DraftPriors.weight
  }

  var mean: Double { accepted / drafted }

  mutating func note(_ isAccepted: Bool) {
    accepted = Self.memory * accepted + (isAccepted ? 1 : 0)
    drafted = Self.memory * drafted + 1
  }
}

/// What is taken for granted of a drafter until it is known: shares of drafted tokens that are right.
///
/// They were set by hand near what was seen of the default model on abstracts (docs/results/drafts.md): of prompt
/// look-up 0.39 of the first tokens and 0.36 of the second stay, of a draft head 0.71 and then 0.51. A wrong one costs
/// little: it counts as four observations, and what is unknown is tried with short drafts.
enum DraftPriors {
  /// Observations that a guess counts as.
  static let weight = 4.0
  /// The first token of a draft model. It is right more often than a head.
  static let model = 0.75
  /// The first token of a draft head.
  static let head = 0.625
  /// That the drafter is sure enough to draft one more token.
  static let sureness = 0.75
  /// The first token of a free guess that another drafter confirms, and those after it. Both rarely err together.
  static let confirmed = (first: 0.85, later: 0.75)
  /// What a token that is right adds to the chance of the next one. A head's next guess builds on a guessed state, so
  /// that nothing is added.
  static let gain = 0.125

  /// The first token of a guess of one of several kinds, the surest last: a longer match is right more often.
  static func first(kind: Int) -> Double { 0.25 + 0.25 * Double(min(kind, 2)) }

  /// That another drafter's first token is that of a free guess.
  static func confirmation(kind: Int) -> Double { 0.25 + 0.25 * Double(min(kind, 1)) }
}
