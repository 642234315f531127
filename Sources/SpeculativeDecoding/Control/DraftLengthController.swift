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
/// A session leaves what it has learnt to the next one with the same drafters, which then starts informed.
public struct DraftLengthController: Sendable {
  /// A drafter that is ready.
  package struct Offer {
    var drafter: Int
    /// What the drafter says of its guess: ``Draft/evidence``.
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
    /// How the draft came about.
    var kind: GuessKind
    var drafted: Int
    var accepted: Int
    /// Tokens that the pass gave.
    var tokens: Int
    var draftSeconds: Double
    var verifySeconds: Double

    package init(
      choice: Choice?, kind: GuessKind = .own(evidence: 0), drafted: Int, accepted: Int, tokens: Int,
      draftSeconds: Double, verifySeconds: Double
    ) {
      self.choice = choice
      self.kind = kind
      self.drafted = drafted
      self.accepted = accepted
      self.tokens = tokens
      self.draftSeconds = draftSeconds
      self.verifySeconds = verifySeconds
    }
  }

  /// What is known of one drafter.
  private struct Arm: Sendable {
    /// The first token of a draft, and those after it.
    struct Acceptance: Sendable {
      var first: AcceptanceRate
      var later: AcceptanceRate
    }

    let profile: DrafterProfile
    /// Of each kind of guess that the drafter makes.
    var acceptance: [GuessKind: Acceptance] = [:]
    /// Of a free drafter, how often another confirms the first token, by what it says of its guess.
    var confirmed: [AcceptanceRate]
    /// Whether the drafter was sure enough to draft one more token.
    var sure = AcceptanceRate(DraftPriors.sureness)
    /// Consecutive offers that were not thought worth a try, by what the drafter says of its guess.
    var declined: [Int]
    /// Seconds of drafting a token.
    var attempt = PassTimes()
    /// Passes that go on from where the drafter left the rows.
    var times = PassTimes()

    init(_ profile: DrafterProfile) {
      self.profile = profile
      let kinds = max(1, profile.evidenceCount)
      let gain = profile.readsStates ? 0 : DraftPriors.gain
      func own(_ kind: Int) -> Acceptance {
        let alone = profile.readsStates ? DraftPriors.head : DraftPriors.model
        let first = kinds == 1 ? alone : DraftPriors.first(kind: kind)
        return Acceptance(first: AcceptanceRate(first), later: AcceptanceRate(first + gain))
      }
      confirmed = (0..<kinds).map { AcceptanceRate(DraftPriors.confirmation(kind: $0)) }
      declined = Array(repeating: 0, count: kinds)
      for kind in 0..<kinds { acceptance[.own(evidence: kind)] = own(kind) }
      guard isFree else {
        acceptance[.differing] = own(0)
        return
      }
      let (first, later) = DraftPriors.confirmed
      for kind in 0..<kinds {
        acceptance[.confirmed(evidence: kind)] = Acceptance(
          first: AcceptanceRate(first), later: AcceptanceRate(later))
      }
    }

    var isFree: Bool { profile.costPerToken == 0 }

    func verifySeconds(rows: Int, plain: PassTimes) -> Double {
      if profile.verifiedShare < 1 {
        return times.trusted(rows) ?? profile.verifiedShare * (plain.seconds(rows: rows) ?? 0)
      }
      return plain.seconds(rows: rows) ?? 0
    }

    /// The length with the most expected tokens per second; 0 for a kind that the drafter does not make.
    ///
    /// - Parameters:
    ///   - overhead: Seconds that have gone into the draft already.
    ///   - allowance: Seconds that a draft may lose if its first token is wrong.
    func best(
      _ kind: GuessKind, available: Int, plain: PassTimes, one: Double, overhead: Double = 0,
      allowance: Double
    ) -> Expectation {
      var best = Expectation()
      guard let rates = acceptance[kind] else { return best }
      let goesOn = isFree ? 1 : sure.mean
      let cost = draftSeconds(one)
      var tokens = 1.0
      var chance = rates.first.mean
      var reached = 1.0
      // Expected seconds of drafts that ended by themselves before the limit.
      var ended = overhead
      for length in 1...available {
        ended +=
          reached * (1 - goesOn) * (Double(length) * cost + verifySeconds(rows: length, plain: plain))
        reached *= goesOn
        tokens += reached * chance
        chance *= rates.later.mean
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
  /// How many other sequences share the next pass, and the last one until it is noted.
  ///
  /// Of a pass that is shared a sequence pays for its rows, and there one more costs nearly what the first does: what
  /// others wait for is not there to be used up. So times are kept by how many they are.
  package var others = 0
  private var passTimes: [Int: PassTimes] = [:]
  private var plain: PassTimes {
    get { passTimes[company, default: PassTimes(slope: others == 0 ? 0.2 : 0.8)] }
    set { passTimes[company] = newValue }
  }
  /// 0 alone, 1 with another, 2 with two or three, 3 with up to seven, and so on.
  private var company: Int { Int.bitWidth - max(others, 0).leadingZeroBitCount }
  /// Seconds of all passes, and seconds that those with drafts took beyond what their tokens would have taken without.
  private var elapsed = 0.0
  private var lost = 0.0
  /// A kind that is declined is tried again once in so many times.
  private static let retryInterval = 32
  /// What drafting may lose, as a share of the time and in tokens.
  private static let tolerance = (share: 0.02, tokens: 0.3)
  /// Tokens' time of gains that losses may use up: a few losses, not many, for a text may stop copying.
  private static let reserve = 4.0

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
      arms.indices.contains($0.drafter) && arms[$0.drafter].declined.indices.contains($0.evidence)
        && $0.available > 0
    }
    let allowance = Self.tolerance.share * elapsed + Self.tolerance.tokens * one - lost
    var best: Choice?
    var bestRate = 1 / one
    let free = offers.first { arms[$0.drafter].isFree }
    for offer in offers {
      let arm = arms[offer.drafter]
      let asks = !arm.isFree && arm.profile.verifiedShare == 1 && free != nil
      let kind: GuessKind = arm.isFree || free == nil ? .own(evidence: offer.evidence) : .differing
      let expected = arm.best(
        kind, available: offer.available, plain: plain, one: one, allowance: allowance)
      if expected.rate > bestRate {
        (best, bestRate) = (Choice(drafter: offer.drafter, length: expected.length), expected.rate)
      }
      guard asks, let free, expected.length > 0 else { continue }
      let other = arms[free.drafter]
      let agreeing = other.best(
        .confirmed(evidence: free.evidence), available: free.available, plain: plain, one: one,
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
    let isConfirmed = if case .confirmed = outcome.kind { true } else { false }
    if let guess = choice.confirming, arms.indices.contains(guess.drafter) {
      arms[guess.drafter].confirmed[guess.evidence].note(isConfirmed)
      if isConfirmed { (index, own) = (guess.drafter, 1) }
    }
    if arms[asked].profile.verifiedShare < 1 {
      arms[asked].times.note(rows: rows, seconds: outcome.verifySeconds)
    } else {
      plain.note(rows: rows, seconds: outcome.verifySeconds)
    }
    if !arms[asked].isFree {
      let attempts = own < choice.length && !isConfirmed ? own + 1 : own
      for attempt in 0..<attempts { arms[asked].sure.note(attempt < own) }
      arms[asked].attempt.note(rows: 1, seconds: outcome.draftSeconds / Double(max(attempts, 1)))
    }
    if let one = plain.one {
      lost += outcome.draftSeconds + outcome.verifySeconds - one * Double(outcome.tokens)
      lost = max(lost, -Self.reserve * one)
    }
    for position in 0..<min(outcome.drafted, outcome.accepted + 1) {
      let isAccepted = position < outcome.accepted
      if position == 0 {
        arms[index].acceptance[outcome.kind]?.first.note(isAccepted)
      } else {
        arms[index].acceptance[outcome.kind]?.later.note(isAccepted)
      }
    }
  }
}
