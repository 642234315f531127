import EarlyExit
import Generation
import Transformers

extension SpeculativeSession {
  /// A draft of at most `limit` tokens, and how it came about.
  func makeDraft(_ limit: Int) throws -> MadeDraft {
    let target = DraftTarget(cache: sequence.cache, states: buffers.states)
    guard choosesLength else {
      for (index, drafter) in drafters.enumerated() {
        let draft = try drafter.draft(after: history, limit: limit, target: target)
        if !draft.tokens.isEmpty || draft.layer > 0 {
          return MadeDraft(
            draft: draft, choice: DraftLengthController.Choice(drafter: index, length: limit), writer: index)
        }
      }
      return MadeDraft()
    }
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
    guard let choice = controller.choose(offers) else { return MadeDraft() }
    var made = MadeDraft(choice: choice, writer: choice.drafter)
    if let draft = free[choice.drafter] {
      made.draft = draft
      made.draft.tokens.removeSubrange(choice.length...)
      made.evidence = draft.evidence
      return made
    }
    let guess = choice.confirming.flatMap { free[$0.drafter] }
    made.draft = try drafters[choice.drafter].draft(
      after: history, limit: choice.length,
      target: DraftTarget(cache: target.cache, states: target.states, guess: guess?.tokens.first))
    if let guess, let confirming = choice.confirming, made.draft.tokens.first == guess.tokens.first {
      made.isConfirmed = true
      made.writer = confirming.drafter
      made.evidence = controller.confirmedEvidence(confirming)
      made.draft.tokens = Array(guess.tokens.prefix(confirming.length))
    } else {
      made.evidence = free.values.contains { !$0.tokens.isEmpty } ? 1 : 0
    }
    return made
  }

  struct MadeDraft {
    var draft = Draft()
    /// `nil` for a pass without drafts.
    var choice: DraftLengthController.Choice?
    /// Who wrote the tokens.
    var writer = 0
    /// As in ``DraftLengthController``.
    var evidence = 0
    var isConfirmed = false
  }

  func source(
    of row: Int, isAccepted: Bool, drafted: Int, writer: Int
  ) -> TokenSource {
    if isAccepted { return TokenSource(drafters[writer].profile.writer) }
    return row < drafted ? TokenSource(.corrected, discarded: drafted - row) : TokenSource(.target)
  }
}
