/// Chooses who drafts and how many tokens, before each pass of the large model: what makes the expected tokens per
/// second largest, and nothing where every draft would lose.
///
/// Let the first drafted token be right with probability a₁ and each further one with a₂. Then a pass over 1 + k tokens
/// gives 1 + a₁(1 + a₂ + a₂² + …) tokens, with k terms. Both are estimated for each kind of guess of each drafter, as
/// is how often a drafter that must work for its tokens is sure enough to go on. The time of a pass is measured by its
/// size on this machine while decoding. It keeps account of what drafting has lost against decoding without it. A draft
/// is only so long that its whole loss, were its first token wrong, stays within 2 % of the time and a fraction of a
/// token. What is unknown is therefore tried with short drafts, and gains pay for longer ones.
///
/// It may be handed from one session to the next with the same drafters, which then starts informed.
public struct DraftLengthController: Sendable {
  /// A drafter that is ready.
  package struct Offer {
    var drafter: Int
    var evidence: Int
    /// Tokens that it has or may draft.
    var available: Int

    package init(drafter: Int, evidence: Int = 0, available: Int) {
      self.drafter = drafter
      self.evidence = evidence
      self.available = available
    }
  }

  package struct Choice: Equatable {
    package var drafter: Int
    package var length: Int
    /// What is drafted instead if the drafter's first token is that of this free guess.
    package var confirming: FreeGuess?
  }

  package struct FreeGuess: Equatable {
    package var drafter: Int
    package var evidence: Int
    package var length: Int
  }

  /// How a pass went.
  package struct Outcome {
    /// `nil` when nothing was tried.
    var choice: Choice?
    var evidence: Int
    /// Whether the free guess that the choice would confirm was drafted.
    var isConfirmed: Bool
    var drafted: Int
    var accepted: Int
    /// Tokens that the pass gave.
    var tokens: Int
    var draftSeconds: Double
    var verifySeconds: Double

    package init(
      choice: Choice?, evidence: Int = 0, isConfirmed: Bool = false, drafted: Int, accepted: Int,
      tokens: Int, draftSeconds: Double, verifySeconds: Double
    ) {
      self.choice = choice
      self.evidence = evidence
      self.isConfirmed = isConfirmed
      self.drafted = drafted
      self.accepted = accepted
      self.tokens = tokens
      self.draftSeconds = draftSeconds
      self.verifySeconds = verifySeconds
    }
  }

  private struct Rate: Sendable {
    var accepted: Double
    var drafted: Double
    var mean: Double { accepted / drafted }

    /// Older outcomes fade, so that a text that begins to copy is noticed.
    mutating func note(_ isAccepted: Bool) {
      accepted = 0.97 * accepted + (isAccepted ? 1 : 0)
      drafted = 0.97 * drafted + 1
    }
  }

  /// What is known of one drafter.
  private struct Arm: Sendable {
    let profile: DrafterProfile
    /// The first token of a draft, and those after it, by kind of guess: of a free drafter, its own kinds and then
    /// these again when another has confirmed the first token; of others, without and with a free guess beside it that
    /// differs.
    var first: [Rate]
    var later: [Rate]
    /// Of a free drafter, how often another confirms the first token, by kind of guess.
    var confirmed: [Rate]
    /// Whether the drafter was sure enough to draft one more token.
    var sure: Rate
    /// Consecutive offers of each kind that were not thought worth a try.
    var declined: [Int]
    /// Seconds of drafting a token.
    var attempt = PassTimes()
    /// Passes that go on from where the drafter left the rows.
    var times = PassTimes()

    init(_ profile: DrafterProfile) {
      self.profile = profile
      let kinds = max(1, profile.evidenceCount)
      // Longer matches are right more often, and a head less often than a model: guesses worth a few observations.
      first = (0..<kinds).map { kind in
        kinds == 1
          ? Rate(accepted: profile.readsStates ? 2.5 : 3, drafted: 4)
          : Rate(accepted: 1 + min(Double(kind), 2), drafted: 4)
      }
      // A token that is right makes the next one likelier, but a head's next builds on a guess of a state.
      let gain = profile.readsStates ? 0 : 0.5
      later = first.map { Rate(accepted: $0.accepted + gain, drafted: $0.drafted) }
      confirmed = (0..<kinds).map { Rate(accepted: 1 + min(Double($0), 1), drafted: 4) }
      if profile.costPerToken == 0 {
        first += Array(repeating: Rate(accepted: 3.4, drafted: 4), count: kinds)
        later += Array(repeating: Rate(accepted: 3, drafted: 4), count: kinds)
      } else {
        first += first
        later += later
      }
      sure = Rate(accepted: 3, drafted: 4)
      declined = Array(repeating: 0, count: first.count)
    }

    var isFree: Bool { profile.costPerToken == 0 }

    func verifySeconds(rows: Int, plain: PassTimes) -> Double {
      if profile.verifiedShare < 1 {
        return times.trusted(rows) ?? profile.verifiedShare * (plain.seconds(rows: rows) ?? 0)
      }
      return plain.seconds(rows: rows) ?? 0
    }

    /// The kind of guess of a free drafter once another has confirmed its first token.
    func confirming(_ evidence: Int) -> Int { evidence + confirmed.count }

    /// The length with the most expected tokens per second.
    ///
    /// - Parameters:
    ///   - overhead: Seconds that have gone into the draft already.
    ///   - allowance: Seconds that a draft may lose if its first token is wrong.
    func best(
      evidence: Int, available: Int, plain: PassTimes, one: Double, overhead: Double = 0, allowance: Double
    ) -> Expectation {
      var best = Expectation()
      let goesOn = isFree ? 1 : sure.mean
      let cost = draftSeconds(one)
      var tokens = 1.0
      var chance = first[evidence].mean
      var reached = 1.0
      // Expected seconds of drafts that ended by themselves before the limit.
      var ended = overhead
      for length in 1...available {
        ended +=
          reached * (1 - goesOn) * (Double(length) * cost + verifySeconds(rows: length, plain: plain))
        reached *= goesOn
        tokens += reached * chance
        chance *= later[evidence].mean
        let whole = seconds(length: length, plain: plain, one: one)
        guard overhead + whole - one <= allowance else { break }
        let expected = Expectation(length: length, tokens: tokens, seconds: ended + reached * whole)
        if expected.rate > best.rate { best = expected }
      }
      return best
    }

    /// What a draft of that length and its pass take.
    func seconds(length: Int, plain: PassTimes, one: Double) -> Double {
      Double(length) * draftSeconds(one) + verifySeconds(rows: length + 1, plain: plain)
    }

    func draftSeconds(_ one: Double) -> Double {
      isFree ? 0 : attempt.trusted(1) ?? profile.costPerToken * one
    }
  }

  /// What a draft promises.
  private struct Expectation {
    var length = 0
    var tokens = 0.0
    var seconds = 0.0
    var rate: Double { seconds > 0 ? tokens / seconds : 0 }
  }

  private var arms: [Arm]
  private var plain = PassTimes()
  /// Seconds of all passes, and seconds that those with drafts took beyond what their tokens would have taken without.
  private var elapsed = 0.0
  private var lost = 0.0
  /// A kind that is declined is tried again once in so many times.
  private static let retryInterval = 32
  /// What drafting may lose, as a share of the time and in tokens.
  private static let tolerance = (share: 0.02, tokens: 0.3)

  /// A controller that knows nothing yet of these drafters.
  public init(_ drafters: [DrafterProfile]) {
    arms = drafters.map(Arm.init)
  }

  /// Whether it was made for these drafters.
  func fits(_ drafters: [DrafterProfile]) -> Bool { arms.map(\.profile) == drafters }

  /// Who drafts, and at most how many tokens.
  ///
  /// - Returns: `nil` for a pass without drafts.
  package mutating func choose(_ offers: [Offer]) -> Choice? {
    // Without the time of a single token nothing can be compared.
    guard let one = plain.one, one > 0 else { return nil }
    let offers = offers.filter {
      arms.indices.contains($0.drafter) && arms[$0.drafter].first.indices.contains($0.evidence)
        && $0.available > 0
    }
    let allowance = Self.tolerance.share * elapsed + Self.tolerance.tokens * one - lost
    var best: Choice?
    var bestRate = 1 / one
    let free = offers.first { arms[$0.drafter].isFree }
    for offer in offers {
      let arm = arms[offer.drafter]
      let asks = !arm.isFree && arm.profile.verifiedShare == 1 && free != nil
      let expected = arm.best(
        evidence: arm.isFree ? offer.evidence : free == nil ? 0 : 1, available: offer.available, plain: plain,
        one: one,
        allowance: allowance)
      if expected.rate > bestRate {
        (best, bestRate) = (Choice(drafter: offer.drafter, length: expected.length), expected.rate)
      }
      guard asks, let free, expected.length > 0 else { continue }
      let other = arms[free.drafter]
      let agreeing = other.best(
        evidence: other.confirming(free.evidence), available: free.available, plain: plain, one: one,
        overhead: arm.draftSeconds(one), allowance: allowance)
      let chance = other.confirmed[free.evidence].mean
      let rate =
        (chance * agreeing.tokens + (1 - chance) * expected.tokens)
        / (chance * agreeing.seconds + (1 - chance) * expected.seconds)
      if agreeing.length > 0, rate > bestRate {
        let guess = FreeGuess(drafter: free.drafter, evidence: free.evidence, length: agreeing.length)
        best = Choice(drafter: offer.drafter, length: expected.length, confirming: guess)
        bestRate = rate
      }
    }
    for offer in offers {
      if offer.drafter == best?.drafter {
        arms[offer.drafter].declined[offer.evidence] = 0
        continue
      }
      arms[offer.drafter].declined[offer.evidence] += 1
      if arms[offer.drafter].declined[offer.evidence] >= Self.retryInterval,
        arms[offer.drafter].seconds(length: 1, plain: plain, one: one) - one <= allowance
      {
        arms[offer.drafter].declined[offer.evidence] = 0
        return Choice(drafter: offer.drafter, length: 1)
      }
    }
    return best
  }

  /// The kind of a free guess whose first token another drafter has confirmed.
  package func confirmedEvidence(_ guess: FreeGuess) -> Int { arms[guess.drafter].confirming(guess.evidence) }

  /// Notes how a pass went.
  package mutating func note(_ outcome: Outcome) {
    let rows = outcome.drafted + 1
    elapsed += outcome.draftSeconds + outcome.verifySeconds
    guard let choice = outcome.choice, arms.indices.contains(choice.drafter) else {
      plain.note(rows: rows, seconds: outcome.verifySeconds)
      return
    }
    let asked = choice.drafter
    // Who wrote the draft, and how many tokens the one that was asked has drafted.
    var (index, own) = (asked, outcome.drafted)
    if let guess = choice.confirming, arms.indices.contains(guess.drafter) {
      arms[guess.drafter].confirmed[guess.evidence].note(outcome.isConfirmed)
      if outcome.isConfirmed { (index, own) = (guess.drafter, 1) }
    }
    if arms[asked].profile.verifiedShare < 1 {
      arms[asked].times.note(rows: rows, seconds: outcome.verifySeconds)
    } else {
      plain.note(rows: rows, seconds: outcome.verifySeconds)
    }
    if !arms[asked].isFree {
      let attempts = own < choice.length && !outcome.isConfirmed ? own + 1 : own
      for attempt in 0..<attempts { arms[asked].sure.note(attempt < own) }
      arms[asked].attempt.note(rows: 1, seconds: outcome.draftSeconds / Double(max(attempts, 1)))
    }
    if let one = plain.one {
      lost += outcome.draftSeconds + outcome.verifySeconds - one * Double(outcome.tokens)
      // Gains pay for a few losses, not for many: a text may stop copying.
      lost = max(lost, -4 * one)
    }
    guard arms[index].first.indices.contains(outcome.evidence) else { return }
    for position in 0..<min(outcome.drafted, outcome.accepted + 1) {
      let isAccepted = position < outcome.accepted
      if position == 0 {
        arms[index].first[outcome.evidence].note(isAccepted)
      } else {
        arms[index].later[outcome.evidence].note(isAccepted)
      }
    }
  }
}
