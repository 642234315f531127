import DecoderModels
import EarlyExit

/// Which drafted tokens stay.
public enum AcceptanceRule: Sendable, Equatable {
  /// A token stays if it is the very one that decoding without drafts would have chosen: the same output to the token,
  /// greedy or sampled with a seed (Leviathan et al., 2023, for drafts that are certain of their token: drawing from the
  /// large model's distribution and comparing is then the p/q test and its residual in one).
  case exact
  /// BiLD's rollback policy (Kim et al., 2023, equation 5): a token stays if it is the large model's most probable one or
  /// −ln p_large does not exceed the threshold α_RB. 0 gives the large model's greedy output, infinity never rolls back.
  case rollback(threshold: Double)
}

/// Decodes one prompt with a drafter that guesses ahead and a large model that verifies the guesses in one pass.
///
/// A session has one owner: it is not to be shared between tasks. On a compute path whose batches are not invariant to the
/// bit, nothing is drafted.
public final class SpeculativeSession {
  public private(set) var timings = DecodingSession.Timings()
  public private(set) var statistics = SpeculationStatistics()
  /// What has been learnt about acceptance and time; a next session may begin with it.
  public private(set) var controller: DraftLengthController
  /// As ``DecodingSession/cancelledText``.
  public private(set) var cancelledText = ""

  /// Tokens a draft may have.
  public static let draftLengths = 1...64
  /// Rows whose logits are computed together. The unembedding is read once for each group, and rows after the first
  /// wrong guess need no logits at all.
  private static let logitRows = 4

  private let sequence: SequenceDecoding
  private var buffers: DecodingBuffers
  private let drafter: any Drafter
  private let rule: AcceptanceRule
  private let longestDraft: Int
  private let vocabularySize: Int
  private let shouldStop: () -> Bool
  private let clock = ContinuousClock()
  /// Prompt and output.
  private var history: [TokenID]
  /// Steps of the last pass that have not been handed out, the next one last.
  private var ready: [TokenStep] = []

  /// - Parameters:
  ///   - model: The large model.
  ///   - draftLength: γ, the most tokens to draft at a time, in ``draftLengths``.
  ///   - drafter: What guesses; prompt look-up if none is given.
  ///   - controller: That of an earlier session with the same kind of drafter, or `nil` to begin anew.
  ///   - shouldStop: Asked before each pass, and before each part of a long prompt.
  /// - Throws: ``SpeculativeDecodingError`` for settings out of range, and what a plain session throws.
  public init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions = GenerationOptions(),
    drafter: (any Drafter)? = nil, rule: AcceptanceRule = .exact, draftLength: Int = 10,
    controller: DraftLengthController? = nil, shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws {
    guard Self.draftLengths.contains(draftLength) else {
      throw SpeculativeDecodingError.option(
        field: "draft-length", expected: "in \(Self.draftLengths)", found: "\(draftLength)")
    }
    guard options.exits == nil else {
      throw SpeculativeDecodingError.option(
        field: "exits", expected: "absent, for drafts are verified at full depth", found: "an exit strategy")
    }
    if case .rollback(let threshold) = rule {
      guard threshold >= 0 else {
        throw SpeculativeDecodingError.option(
          field: "rollback", expected: "0 or above", found: "\(threshold)")
      }
      guard options.sampling == .greedy else {
        throw SpeculativeDecodingError.option(
          field: "rollback", expected: "used with greedy decoding, or exact for sampling", found: "sampling")
      }
    }
    sequence = try SequenceDecoding(model: model, prompt: prompt, options: options)
    buffers = DecodingBuffers(decoder: model.decoder)
    let drafter = drafter ?? PromptLookup(source: sequence.source ?? [])
    self.drafter = drafter
    self.rule = rule
    self.controller = controller ?? DraftLengthController(evidenceCount: drafter.evidenceCount)
    self.shouldStop = shouldStop
    longestDraft = min(draftLength, model.decoder.invariantBatchLimit - 1)
    vocabularySize = model.decoder.configuration.vocabularySize
    history = sequence.prompt
  }

  /// The output so far, what ``next()`` has not handed out yet included.
  public var generation: Generation { sequence.makeGeneration() }
  /// Why the output ended, or `nil` while it has not.
  public var stopReason: StopReason? { ready.isEmpty ? sequence.stopReason : nil }

  /// The next token; verified tokens are handed out one by one.
  ///
  /// - Returns: `nil` after the last token, and when `shouldStop` says so.
  /// - Throws: `DecoderError`, and the tokenizer's and the drafter's errors.
  public func next() throws -> TokenStep? {
    if let step = ready.popLast() { return step }
    guard sequence.stopReason == nil else { return nil }
    if shouldStop() { return cancel() }
    let start = clock.now
    if sequence.generated.isEmpty {
      defer { timings.prefill += (clock.now - start).seconds }
      guard let step = try buffers.prefill(sequence, shouldStop: shouldStop) else { return cancel() }
      history.append(step.id)
      return step
    }
    defer { timings.decode += (clock.now - start).seconds }
    ready = try pass().reversed()
    return ready.popLast()
  }

  private func cancel() -> TokenStep? {
    cancelledText = sequence.cancel()
    return nil
  }

  /// Drafts, verifies, and keeps what the rule allows and one token of the large model's own.
  private func pass() throws -> [TokenStep] {
    guard let pending = sequence.pending else { return [] }
    let start = clock.now
    // A draft that could not all be used would only cost time: one more token follows it.
    let limit = max(0, min(longestDraft, sequence.remainingTokens - 1))
    var draft = try drafter.draft(after: history, limit: limit)
    if drafter.isFree, keepsOutput {
      let length = controller.length(evidence: draft.evidence, available: min(limit, draft.tokens.count))
      draft.tokens.removeSubrange(length...)
    }
    let tokens = Array(draft.tokens.prefix(limit).prefix { (0..<vocabularySize).contains($0) })
    let drafted = clock.now
    try buffers.advance([pending.token] + tokens, cache: sequence.cache, position: pending.row.position)
    var steps: [TokenStep] = []
    var accepted = 0
    var isOpen = true
    var row = 0
    while isOpen, row <= tokens.count {
      let group = row..<min(row + Self.logitRows, tokens.count + 1)
      try buffers.withLogits(rows: group) { row, logits in
        guard isOpen else { return }
        let step = try choose(row < tokens.count ? tokens[row] : nil, logits)
        steps.append(step)
        let isAccepted = row < tokens.count && step.id == tokens[row]
        if isAccepted { accepted += 1 }
        isOpen = isAccepted && step.stopReason == nil
      }
      row = group.upperBound
    }
    history.append(contentsOf: steps.map(\.id))
    // The last token's keys and values are not there yet; those after it belong to drafts that were wrong.
    sequence.cache.crop(to: history.count - 1)
    let end = clock.now
    statistics.steps += 1
    statistics.draftSeconds += (drafted - start).seconds
    statistics.verifySeconds += (end - drafted).seconds
    statistics.note(drafted: tokens.count, accepted: accepted)
    if accepted < tokens.count { statistics.rollbacks += 1 }
    controller.note(rows: tokens.count + 1, seconds: (end - drafted).seconds)
    controller.note(evidence: draft.evidence, drafted: tokens.count, accepted: accepted)
    return steps
  }

  /// Whether the rule lets no draft change the output. Where one may, its length must not hang on measured times, or the
  /// output would.
  private var keepsOutput: Bool {
    switch rule {
    case .exact: true
    case .rollback(let threshold): threshold == 0
    }
  }

  /// Appends the token that the rule puts in the place of `guess`.
  private func choose(_ guess: TokenID?, _ logits: UnsafeBufferPointer<Float>) throws -> TokenStep {
    guard case .rollback(let threshold) = rule, let guess else { return try sequence.accept(logits) }
    let best = Logits.argmax(logits)
    if guess == best { return try sequence.append(guess) }
    let distance = Logits.logSumExp(logits) - Double(logits[guess])
    // At 0 not even rounding may let another token pass.
    if threshold > 0, distance <= threshold {
      statistics.substituted += 1
      return try sequence.append(guess)
    }
    statistics.nearestRefusal = min(statistics.nearestRefusal ?? .infinity, distance)
    return try sequence.append(best)
  }
}
