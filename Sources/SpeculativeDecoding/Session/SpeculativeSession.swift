import EarlyExit
import Generation
import Transformers

/// Decodes one prompt with drafters that guess ahead and a large model that verifies the guesses in one pass.
///
/// A session has one owner: it is not to be shared between tasks. On a compute path whose batches are not invariant to
/// the bit, nothing is drafted.
public final class SpeculativeSession: GenerationSession, PassSharing, BeginningSession, PromptHolding {
  /// Where the time of this output has gone so far.
  public private(set) var timings = SessionTimings()
  /// How drafts have gone so far.
  public internal(set) var statistics = SpeculationStatistics()
  /// What has been learnt about acceptance and time; a next session with the same drafters may begin with it.
  public var controller: DraftLengthController { picker.controller }
  /// Text that was certain when decoding was cancelled, as that of a `DecodingSession`.
  public private(set) var cancelledText = ""

  /// Tokens a draft may have.
  public static let draftLengths = 1...64
  let model: LanguageModel
  private let options: GenerationOptions
  var sequence: SequenceDecoding
  var buffers: DecodingBuffers
  /// The rows that passed last, by the layer they come after: what drafters read.
  let seen: [Int: HiddenStates]
  private var exits: ExitDecoder?
  /// What tokens are chosen from where the rule lets drafts change the output.
  var reduced: ExitHead?
  private var picker: DraftPicker
  private var drafters: [any Drafter] { picker.drafters }
  var rule: AcceptanceRule
  private let mayChooseLength: Bool
  private let longestDraft: Int
  private let vocabularySize: Int
  let layerCount: Int
  private let runner = PassRunner()
  /// The pass that was begun and is not settled.
  private var pass: Pass?
  /// Where the next session finds what this one has learnt.
  private let knowledge: DraftKnowledge?
  private let shouldStop: () -> Bool
  private let clock = ContinuousClock()
  /// Prompt and output.
  var history: [TokenID]
  /// Steps of the last pass that have not been handed out, the next one last.
  private var ready: [TokenStep] = []
  /// What is held back, where a tripwire may take it back.
  private var watched: WatchedOutput?
  /// Whether ``restart(threshold:)`` may be called.
  var mayRestart = false
  /// The sequence after a prompt whose tokens stopped, where the output was brought back and they were read again.
  private var stopped: SequenceDecoding?

  /// - Parameters:
  ///   - model: The large model.
  ///   - prompt: The prompt's tokens.
  ///   - options: How the output is generated.
  ///   - exits: Where tokens may leave the large model's layers early, or `nil` for full depth.
  ///   - drafters: Tried in turn; of those with something to say, the one that promises the most tokens per second.
  ///   - rule: Which drafted tokens are kept.
  ///   - shortlist: What tokens are chosen from, beside the prompt's, where the rule lets drafts change the output;
  ///     `nil` for the whole vocabulary.
  ///   - draftLength: γ, the most tokens to draft at a time, in ``draftLengths``.
  ///   - choosesLength: Whether to draft fewer tokens, or none, where more would not pay. It takes a rule that keeps
  ///     the output: lengths hang on measured times, and with another rule the output would hang on the lengths.
  ///   - controller: That of an earlier session with the same drafters, or `nil` to begin anew.
  ///   - shouldStop: Asked before each pass, and before each part of a long prompt.
  /// - Throws: ``SpeculativeDecodingError`` for settings out of range, and what a plain session throws.
  public convenience init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions = GenerationOptions(),
    exits: ExitStrategy? = nil, drafters: [any Drafter] = [PromptLookup()], rule: AcceptanceRule = .exact,
    shortlist: ExitHeads? = nil,
    draftLength: Int = 10, choosesLength: Bool = true, controller: DraftLengthController? = nil,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws {
    try self.init(
      model: model, prompt: prompt, options: options, exits: exits, drafters: drafters, rule: rule,
      shortlist: shortlist, draftLength: draftLength, choosesLength: choosesLength, controller: controller,
      knowledge: nil, beginning: nil, shouldStop: shouldStop)
  }

  /// - Parameters:
  ///   - knowledge: Where what is learnt is left at the end; what is there is taken where `controller` is `nil`.
  ///   - beginning: What a sequence has read that began with the same tokens, and how many are not read again: no more
  ///     than every drafter can do without.
  init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, exits: ExitStrategy?,
    drafters: [any Drafter], rule: AcceptanceRule, shortlist: ExitHeads?, draftLength: Int,
    choosesLength: Bool, controller: DraftLengthController?, knowledge: DraftKnowledge?,
    beginning: (read: Beginning, count: Int)?, shouldStop: @escaping () -> Bool
  ) throws {
    guard Self.draftLengths.contains(draftLength) else {
      throw SpeculativeDecodingError.option(
        field: "draft-length", expected: "in \(Self.draftLengths)", found: "\(draftLength)")
    }
    if let exits, exits.cachePolicy != .defer {
      throw SpeculativeDecodingError.option(
        field: "exit-cache", expected: "defer where drafts are verified, so that a wrong one leaves no trace",
        found: exits.cachePolicy.rawValue)
    }
    if exits != nil, let profile = drafters.first(where: { $0.profile.needsFullDepth })?.profile {
      throw SpeculativeDecodingError.option(
        field: "drafter",
        expected: "another where tokens may leave early: one that needs no layers of the model's own",
        found: profile.readsStates ? "a draft head" : "early-exit")
    }
    let layerCount = model.decoder.configuration.layerCount
    let lower = Set(drafters.flatMap(\.profile.readsLayers)).subtracting([layerCount])
    if !lower.isEmpty, drafters.contains(where: { $0.profile.verifiedShare < 1 }) {
      throw SpeculativeDecodingError.option(
        field: "drafter",
        expected: "one of early-exit and a draft head, which reads the layers that the other runs itself",
        found: "both")
    }
    try rule.validate()
    if case .rollback = rule, options.sampling != .greedy {
      throw SpeculativeDecodingError.option(
        field: "rollback", expected: "used with greedy decoding, or exact for sampling", found: "sampling")
    }
    if !rule.keepsOutput, drafters.count > 1 {
      throw SpeculativeDecodingError.option(
        field: "drafter",
        expected: "a single one where drafts may change the output, which would hang on measured times",
        found: "\(drafters.count)")
    }
    self.model = model
    self.options = options
    var reading = options
    // What reads the states of the prompt needs all of them.
    if drafters.contains(where: \.profile.readsStates) { reading.promptCache = nil }
    sequence = try SequenceDecoding(model: model, prompt: prompt, options: reading, beginning: beginning)
    if let beginning {
      for case let drafter as any SharingDrafter in drafters {
        drafter.goOn(from: beginning.read.companions, count: sequence.reusedCount)
      }
    }
    buffers = DecodingBuffers(decoder: model.decoder, watching: lower)
    seen = buffers.watched.merging([layerCount: buffers.states]) { $1 }
    self.exits = try exits.map {
      try ExitDecoder($0, decoder: model.decoder)
    }
    reduced = try shortlist.map { try ExitHead($0, decoder: model.decoder, rows: draftLength + 1) }
    self.rule = rule
    mayChooseLength = choosesLength
    let profiles = drafters.map(\.profile)
    let known = (controller ?? knowledge?.controller).flatMap { $0.fits(profiles) ? $0 : nil }
    self.knowledge = knowledge
    picker = DraftPicker(
      drafters: drafters, controller: known ?? DraftLengthController(profiles),
      choosesLength: choosesLength && rule.keepsOutput)
    self.shouldStop = shouldStop
    longestDraft = min(draftLength, model.decoder.invariantBatchLimit - 1)
    vocabularySize = model.decoder.configuration.vocabularySize
    self.layerCount = layerCount
    history = sequence.prompt
    let isPlain = rule.keepsOutput && exits == nil && options.promptDepth == nil
    watched = isPlain ? nil : options.tripwire.map(WatchedOutput.init)
  }

  /// The output so far, what ``next()`` has not handed out yet included.
  public var generation: Generation { sequence.makeGeneration() }
  /// Why the output ended, or `nil` while it has not.
  public var stopReason: StopReason? {
    ready.isEmpty && watched?.isEmpty ?? true ? sequence.stopReason : nil
  }

  /// The next token; verified tokens are handed out one by one.
  ///
  /// - Returns: `nil` after the last token, and when `shouldStop` says so.
  /// - Throws: `DecoderError`, and the tokenizer's and the drafter's errors.
  public func next() throws -> TokenStep? { try nextAlone(runner, shouldStop: shouldStop) }

  package func takeStep() -> TokenStep? {
    guard watched != nil else { return ready.popLast() }
    return watched?.next(isOver: sequence.stopReason != nil)
  }

  /// Takes the steps of a pass, up to where the output is brought back.
  private func append(_ steps: [TokenStep]) throws {
    guard watched != nil else { return ready = steps.reversed() }
    for step in steps {
      guard let kept = watched?.append(step) else { continue }
      return try bringBack(to: kept)
    }
  }

  /// Goes back to the first tokens of the output, and on from there at full depth.
  private func bringBack(to count: Int) throws {
    if sequence.stoppedAfter == nil {
      try exits?.complete(sequence)
    } else if mayRestart {
      stopped = sequence
    }
    exits = nil
    if !rule.keepsOutput { rule = .exact }
    picker.choosesLength = mayChooseLength
    sequence = try sequence.cut(to: count, model: model, options: options)
    ready = []
    history = sequence.prompt + sequence.generated
    for drafter in drafters { drafter.crop(to: history.count - 1) }
  }

  package var beginning: Beginning {
    var beginning = sequence.beginning
    beginning.companions = drafters.compactMap { ($0 as? any SharingDrafter)?.kept }
    return beginning
  }
  /// Tokens of the prompt that another sequence had read already.
  package var reusedTokens: Int { sequence.reusedCount }
  package var readSequence: SequenceDecoding? { sequence.generated.isEmpty ? nil : sequence }

  package var hasUnreadParts: Bool { sequence.hasUnreadParts }

  package func readPart() throws {
    let start = clock.now
    let isAgain = !sequence.generated.isEmpty
    defer { timings.add((clock.now - start).seconds, isDecoding: isAgain) }
    try buffers.readPart(of: sequence) { positions in
      // What is read again drafters know already, as it was read first.
      if isAgain { return }
      for drafter in drafters { try drafter.read(seen, positions: positions) }
    }
    guard !isAgain, !sequence.hasUnreadParts, var step = try buffers.finishPrompt(of: sequence) else {
      return
    }
    if !sequence.isCovered {
      // Full depth: no early exits, and no drafts but those that change nothing.
      exits = nil
      if !rule.keepsOutput { rule = .exact }
      picker.choosesLength = mayChooseLength
    }
    // Full depth of prompt and output is what others would be brought back to.
    if rule.keepsOutput, exits == nil, sequence.stoppedAfter == nil { watched = nil }
    step.source = TokenSource(.target)
    statistics.note(.target)
    history.append(step.id)
    try append([step])
  }

  /// Begins the output again with another rollback threshold; the prompt does not pass the layers again.
  ///
  /// Drafts keep their length: see
  /// ``init(model:prompt:options:exits:drafters:rule:shortlist:draftLength:choosesLength:controller:shouldStop:)``.
  func restart(threshold: Double) throws {
    guard let first = sequence.generated.first else { return }
    let prompt = sequence.prompt
    let begun = stopped ?? sequence
    stopped = nil
    begun.cache.crop(to: prompt.count)
    for drafter in drafters { drafter.crop(to: prompt.count) }
    sequence = try begun.rewound(model: model, options: options)
    rule = .rollback(threshold: threshold)
    exits?.forget()
    picker.choosesLength = mayChooseLength && rule.keepsOutput
    watched =
      rule.keepsOutput && sequence.stoppedAfter == nil ? nil : options.tripwire.map(WatchedOutput.init)
    statistics = SpeculationStatistics()
    timings.decode = 0
    history = prompt + [first]
    var step = try sequence.append(first)
    step.source = TokenSource(.target)
    statistics.note(.target)
    try append([step])
  }

  package func cancel() { cancelledText = sequence.cancel() }

  /// A pass of the large model over the last token and what was drafted after it.
  private struct Pass {
    var made: DraftPicker.Pick
    var tokens: [TokenID]
    /// Whether they have to come: no drafter guessed them.
    var isOpening: Bool
    var draftSeconds: Double
    var samplingSeconds = 0.0
    var steps: [TokenStep] = []
    var accepted = 0
  }

  /// Drafts, and begins to verify.
  package func beginPass(beside others: Int) throws -> PassWork? {
    guard let pending = sequence.pending else { return nil }
    let start = clock.now
    // A draft that could not all be used would only cost time: one more token follows it.
    let limit = max(0, min(longestDraft, sequence.remainingTokens - 1))
    let opening = sequence.openingLeft
    picker.controller.others = others
    let made =
      try opening.isEmpty
      ? picker.pick(
        after: history, limit: limit, target: DraftTarget(cache: sequence.cache, states: buffers.states))
      : DraftPicker.Pick(draft: Draft(tokens: opening))
    let tokens = Array(made.draft.tokens.prefix(limit).prefix { (0..<vocabularySize).contains($0) })
    let seconds = (clock.now - start).seconds
    timings.decode += seconds
    pass = Pass(
      made: made, tokens: tokens, isOpening: !opening.isEmpty, draftSeconds: seconds - made.draft.cacheSeconds
    )
    if let exits { return try exits.pass(sequence, guesses: tokens) { try self.take($0, $1) } }
    return try verify(tokens, from: made.draft.layer, pending: pending)
  }

  /// Chooses the token after a row; whether the next row is of any use.
  func take(_ row: Int, _ logits: ExitLogits) throws -> Bool {
    guard let (tokens, isOpening, writer) = pass.map({ ($0.tokens, $0.isOpening, $0.made.writer) }) else {
      return false
    }
    let start = clock.now
    var step = try choose(row < tokens.count ? tokens[row] : nil, logits)
    let isAccepted = row < tokens.count && step.id == tokens[row]
    if isAccepted { pass?.accepted += 1 }
    step.source =
      isOpening
      ? TokenSource(.target)
      : picker.source(of: row, isAccepted: isAccepted, drafted: tokens.count, writer: writer)
    pass?.steps.append(step)
    statistics.bytesRead += logits.depth?.bytesRead ?? 0
    pass?.samplingSeconds += (clock.now - start).seconds
    return isAccepted && step.stopReason == nil
  }

  /// Keeps what the rule allows and one token of the large model's own.
  package func endPass(seconds: Double) throws {
    guard let pass else { return }
    self.pass = nil
    let start = clock.now
    let (made, steps) = (pass.made, pass.steps)
    // As many rows as steps had the output's own tokens before them.
    if exits == nil, !steps.isEmpty {
      let position = history.count - 1
      for drafter in drafters {
        try drafter.read(seen, positions: position..<position + steps.count)
      }
    }
    let readSeconds = (clock.now - start).seconds
    history.append(contentsOf: steps.map(\.id))
    // The last token's keys and values are not there yet; those after it belong to drafts that were wrong.
    sequence.cache.crop(to: history.count - 1)

    let verifySeconds = seconds + readSeconds
    for step in steps { step.source.map { statistics.note($0.writer) } }
    statistics.steps += 1
    statistics.bytesRead += made.draft.bytesRead
    statistics.draftSeconds += pass.draftSeconds
    statistics.verifySeconds += verifySeconds
    statistics.cacheSeconds += made.draft.cacheSeconds + (clock.now - start).seconds - readSeconds
    statistics.samplingSeconds += pass.samplingSeconds
    if !pass.isOpening {
      statistics.note(drafted: pass.tokens.count, accepted: pass.accepted)
      if pass.accepted < pass.tokens.count { statistics.rollbacks += 1 }
    }
    picker.controller.note(
      DraftLengthController.Outcome(
        choice: made.choice, kind: made.kind, drafted: pass.tokens.count, accepted: pass.accepted,
        tokens: steps.count,
        draftSeconds: pass.draftSeconds, verifySeconds: verifySeconds + pass.samplingSeconds))
    timings.decode += seconds + pass.samplingSeconds + (clock.now - start).seconds
    if sequence.stopReason != nil { knowledge?.leave(picker.controller) }
    try append(steps)
  }
}
