import Generation
import Transformers

/// Chooses who drafts before a pass, and has the draft made.
struct DraftPicker {
  /// Tried in turn where the length is given.
  let drafters: [any Drafter]
  /// What has been learnt about acceptance and time.
  var controller: DraftLengthController
  /// Whether the controller chooses drafter and length, by what pays.
  var choosesLength: Bool

  /// A draft, and how it came about.
  struct Pick {
    var draft = Draft()
    /// `nil` for a pass without drafts.
    var choice: DraftLengthController.Choice?
    /// Who wrote the tokens.
    var writer = 0
    var kind = GuessKind.own(evidence: 0)
  }

  /// A draft of at most `limit` tokens.
  mutating func pick(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Pick {
    guard limit > 0 else { return Pick() }
    guard choosesLength else { return try firstDraft(after: history, limit: limit, target: target) }
    var free: [Int: Draft] = [:]
    var offers: [DraftLengthController.Offer] = []
    for (index, drafter) in drafters.enumerated() {
      guard drafter.profile.costPerToken == 0 else {
        offers.append(DraftLengthController.Offer(drafter: index, available: limit))
        continue
      }
      let draft = try drafter.draft(after: history, limit: limit, target: target)
      free[index] = draft
      offers.append(
        DraftLengthController.Offer(
          drafter: index, evidence: draft.evidence, available: min(limit, draft.tokens.count)))
    }
    guard let choice = controller.choose(offers) else { return Pick() }
    var pick = Pick(choice: choice, writer: choice.drafter)
    if let draft = free[choice.drafter] {
      pick.draft = draft
      pick.draft.tokens.removeSubrange(choice.length...)
      pick.kind = .own(evidence: draft.evidence)
      return pick
    }
    let guess = choice.confirming.flatMap { free[$0.drafter] }
    pick.draft = try drafters[choice.drafter].draft(
      after: history, limit: choice.length,
      target: DraftTarget(cache: target.cache, states: target.states, guess: guess?.tokens.first))
    if let guess, let confirming = choice.confirming, pick.draft.tokens.first == guess.tokens.first {
      pick.writer = confirming.drafter
      pick.kind = .confirmed(evidence: confirming.evidence)
      pick.draft.tokens = Array(guess.tokens.prefix(confirming.length))
    } else if free.values.contains(where: { !$0.tokens.isEmpty }) {
      pick.kind = .differing
    }
    return pick
  }

  /// That of the first drafter with something to say.
  private func firstDraft(after history: [TokenID], limit: Int, target: DraftTarget) throws -> Pick {
    for (index, drafter) in drafters.enumerated() {
      let draft = try drafter.draft(after: history, limit: limit, target: target)
      guard !draft.tokens.isEmpty || draft.layer > 0 else { continue }
      return Pick(
        draft: draft, choice: DraftLengthController.Choice(drafter: index, length: limit), writer: index)
    }
    return Pick()
  }

  /// Where the token after a row of a pass came from.
  func source(of row: Int, isAccepted: Bool, drafted: Int, writer: Int) -> TokenSource {
    if isAccepted { return TokenSource(drafters[writer].profile.writer) }
    return row < drafted ? TokenSource(.corrected, discarded: drafted - row) : TokenSource(.target)
  }
}
