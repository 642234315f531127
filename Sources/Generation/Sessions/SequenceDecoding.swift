import Tokenization
import Transformers

/// One sequence while it is decoded: its cache, its random numbers, and the text that has come out.
package final class SequenceDecoding {
  /// What the decoder reads before it goes on: the prompt, or, after an encoder, the token that every output begins
  /// with.
  package let prompt: [TokenID]
  /// What the encoder of an encoder–decoder reads.
  package let source: [TokenID]?
  /// What the output is about: the text of the encoder where there is one.
  package var promptTokenIDs: [TokenID] { source ?? prompt }
  /// What a shortlist has to have: the tokens of what the output is about, and those that it may be restricted to.
  package let headTokenIDs: [TokenID]
  package let cache: KeyValueCache
  /// Tokens of the prompt whose keys and values are in the cache; also of the output, where it is read again.
  package fileprivate(set) var readCount = 0
  /// Tokens that are read before others are chosen: the prompt's, and those of an output that is read again.
  var readLimit: Int
  /// Tokens of the prompt that came with another sequence's cache, or from a file.
  package let reusedCount: Int
  /// How far the prompt's tokens go; `nil` where all of them pass all layers.
  fileprivate(set) var depth: PromptDepthReading?
  /// The layer after which tokens of the prompt in the cache stopped; `nil` where all of them passed all layers.
  package internal(set) var stoppedAfter: Int?
  package private(set) var generated: [TokenID] = []
  private(set) var text = ""
  package private(set) var stopReason: StopReason?
  /// Layers run for each generated token.
  private(set) var layers: [Int] = []
  private var logProbabilities: [Double] = []
  private var alternatives: [[TokenAlternative]] = []
  private let topProbabilities: Int?
  /// Whether ``append(_:layer:depth:logProbability:)`` wants to know it.
  package let recordsProbabilities: Bool

  /// Who looks at the prompt.
  let applicabilityGuard: ApplicabilityGuard?
  /// What it reads of the parts that have passed the layers; `nil` without a guard.
  var profile: PromptProfile?
  /// What it found, once the prompt has passed the layers; `nil` without a guard.
  package var applicability: Applicability?
  /// Whether tokens may leave early, and drafts change the output.
  package var isCovered: Bool { applicability?.isInside ?? true }
  /// Tokens that were kept when the output was brought back to full depth; `nil` while it was not.
  package var trippedAt: Int?

  /// What decides whether the output is a refusal; `nil` for the model alone.
  private let answerabilityRule: AnswerabilityRule?
  /// How probable it is that the text answers the question; `nil` where nothing decides on it, and before the prompt's
  /// last token has been there.
  package private(set) var answerability: Double?

  package let maxTokens: Int
  private let endsWithLine: Bool
  private let context: Int
  private let layerCount: Int
  private let endTokens: Set<TokenID>
  private var chooser: TokenChooser
  private var detokenizer: StreamingDetokenizer
  private var matcher: StopStringMatcher
  private var limiter: SentenceLimiter?
  private(set) var constraints: TokenConstraints?

  /// - Throws: ``GenerationError`` for options out of range, an empty prompt, or one that leaves no room for output.
  ///
  /// - Parameters:
  ///   - cache: A cache that holds the prompt already, or `nil` for a new one.
  ///   - shared: What a sequence has read that began with the same tokens, and how many: they are not read again.
  package init(
    model: LanguageModel, prompt: [TokenID], options: GenerationOptions, cache reused: KeyValueCache? = nil,
    beginning shared: (read: Beginning, count: Int)? = nil
  ) throws {
    context = try options.validatedContext(contextLength: model.contextLength)
    guard !prompt.isEmpty else { throw GenerationError.emptyText(field: "prompt") }
    if let encoder = model.decoder.configuration.encoder {
      guard prompt.count <= context else {
        throw GenerationError.sourceTooLong(tokens: prompt.count, limit: context)
      }
      source = prompt
      self.prompt = [encoder.startToken]
    } else {
      guard prompt.count < context else {
        throw GenerationError.promptTooLong(tokens: prompt.count, context: context)
      }
      source = nil
      self.prompt = prompt
    }
    let prompt = self.prompt
    headTokenIDs =
      (source ?? prompt) + (options.spans?.neededTokens ?? [])
      + (options.grammar?.neededTokens ?? []) + options.opening + (options.answerability?.refusal ?? [])
    applicabilityGuard = options.applicability
    profile = options.applicability.map { _ in
      PromptProfile(hiddenSize: model.decoder.configuration.hiddenSize)
    }
    answerabilityRule = options.answerability
    try options.promptCache?.check(options, model)
    maxTokens = options.maxTokens
    endsWithLine = options.endsWithLine
    recordsProbabilities = options.recordsProbabilities || options.topProbabilities != nil
    layerCount = model.decoder.configuration.layerCount
    endTokens = model.endTokens
    chooser = TokenChooser(options.sampling)
    detokenizer = StreamingDetokenizer(model.tokenizer)
    matcher = StopStringMatcher(options.stopStrings + (options.endsWithLine ? ["\n"] : []))
    limiter = options.length.map(SentenceLimiter.init)
    try options.adjustments.validate(vocabularySize: model.decoder.configuration.vocabularySize)
    let tokens = 0..<model.decoder.configuration.vocabularySize
    if let token = options.opening.first(where: { !tokens.contains($0) }) {
      throw GenerationError.option(field: "opening", expected: "tokens in \(tokens)", found: "\(token)")
    }
    constraints = TokenConstraints(
      options, endTokens: model.endTokens, prompt: source ?? prompt,
      limit: min(maxTokens, context - prompt.count))
    topProbabilities = options.topProbabilities
    let cache =
      try reused
      ?? model.decoder.makeCache(capacity: min(context, prompt.count + min(maxTokens, context)))
    self.cache = cache
    var count = 0
    if reused == nil, let (read, most) = shared {
      // The last token of a prompt is always run: it gives the first logits.
      let wanted = read.count(min(most, prompt.count - 1), for: applicabilityGuard)
      count = cache.copyBeginning(of: read.cache, count: wanted)
      if applicabilityGuard != nil, count > 0 {
        if let known = read.profile?.read.cut(to: count) {
          profile = known
        } else {
          count = 0
          cache.crop(to: 0)
        }
      }
    } else if reused == nil, source == nil, let kept = options.promptCache {
      count = kept.fill(
        cache, with: prompt, of: model, layer: applicabilityGuard?.layer, profile: &profile)
    }
    reusedCount = count
    readLimit = prompt.count
    readCount = reused == nil ? count : prompt.count
    if let promptDepth = options.promptDepth {
      try model.checkPromptDepth(promptDepth, guard: applicabilityGuard)
      if reused == nil, count == 0 {
        depth = PromptDepthReading(promptDepth, prompt: prompt.count, of: model)
      }
    }
  }

  /// What others may go on from. Nothing is to be read from it where tokens of the prompt stop after a layer.
  package var beginning: Beginning {
    Beginning(
      tokens: prompt, cache: cache, profile: profile.map { (applicabilityGuard?.layer, $0) })
  }

  /// Where the next token stands, and the token: what `advance` needs to go on.
  package var pending: (token: TokenID, row: BatchRow)? {
    guard stopReason == nil, let last = generated.last else { return nil }
    return (last, BatchRow(cache: cache, position: prompt.count + generated.count - 1))
  }

  /// The next tokens that have to go through the layers before others are chosen; `nil` when none are left.
  ///
  /// Parts depend on what the cache held at first and on the prompt's length only. Numbers do not depend on the parts.
  package var unreadPart: Range<Int>? {
    guard readCount < readLimit else { return nil }
    return readCount..<min(readCount + DecodingBuffers.prefillChunk, readLimit)
  }

  /// The next tokens of the prompt that have stopped after a layer and whose way goes on; `nil` when there are none.
  var waitingPart: Range<Int>? { readCount < readLimit ? nil : depth?.nextPart }
  /// Whether anything of the prompt, or of an output that is read again, has not passed the layers.
  package var hasUnreadParts: Bool { stopReason == nil && (unreadPart != nil || waitingPart != nil) }

  /// Tokens of the prompt and the output, by their places.
  func tokens(_ places: Range<Int>) -> [TokenID] {
    Array(prompt[places.clamped(to: 0..<prompt.count)])
      + places.filter { $0 >= prompt.count }.map { generated[$0 - prompt.count] }
  }

  /// Chooses a token from logits and appends it.
  ///
  /// - Parameters:
  ///   - candidates: The tokens that the logits are of; `nil` for the whole vocabulary. A draw at random is one from
  ///     them alone.
  ///   - layer: Layers that were run for it; `nil` for all.
  package func accept(
    _ logits: UnsafeBufferPointer<Float>, of candidates: [TokenID]? = nil, layer: Int? = nil,
    depth: DepthRecord? = nil
  ) throws -> TokenStep {
    guard let choice = chooser.choose(from: logits, of: candidates, constraints) else {
      return try end(layer, depth)
    }
    record(logits, of: candidates)
    return try append(
      candidates?[choice] ?? choice, layer: layer, depth: depth,
      logProbability: recordsProbabilities ? Double(logits[choice]) - Logits.logSumExp(logits) : nil)
  }

  /// Keeps the most probable tokens at the place that comes next, where that is asked for.
  package func record(_ logits: UnsafeBufferPointer<Float>, of candidates: [TokenID]?) {
    guard let topProbabilities else { return }
    alternatives.append(TokenAlternative.best(topProbabilities, of: logits, candidates: candidates))
  }

  /// The place of the most probable token that may come next; of equal ones, the first. `nil` where none may.
  package func best(of logits: UnsafeBufferPointer<Float>, candidates: [TokenID]?) -> Int? {
    constraints.map { $0.best(of: logits, candidates: candidates) } ?? Logits.argmax(logits)
  }

  /// Whether a token may come next.
  package func allows(_ token: TokenID) -> Bool { constraints?.allows(token) ?? true }

  /// The tokens that have to come next, whatever the logits are.
  package var openingLeft: [TokenID] { constraints?.openingLeft ?? [] }

  /// Ends the output where no token may come next.
  package func end(_ layer: Int?, _ depth: DepthRecord?) throws -> TokenStep {
    if topProbabilities != nil { alternatives.append([]) }
    return try append(endTokens.min() ?? 0, layer: layer, depth: depth, logProbability: -.infinity)
  }

  /// Asks the guard, where there is one, about the prompt that has been read.
  func lookAtPrompt() {
    applicability = profile.flatMap { applicabilityGuard?.look(at: $0.mean) }
  }

  /// The layer whose state of the prompt's last token is wanted; `nil` where none is, or no longer.
  var answerabilityLayer: Int? { answerability == nil ? answerabilityRule?.classifier.layer : nil }

  /// Takes the state of the prompt's last token after ``answerabilityLayer``.
  func decideAnswerability(from state: [Float]) {
    guard let answerabilityRule else { return }
    note(answerability: answerabilityRule.classifier.probability(of: state))
  }

  /// Takes what was found of the same prompt, before the output begins.
  func note(answerability found: Double?) {
    guard let answerabilityRule, let found else { return }
    answerability = found
    constraints?.settle(answerabilityRule, isAnswerable: found >= answerabilityRule.classifier.threshold)
  }

  /// Tokens that may still follow.
  package var remainingTokens: Int {
    guard stopReason == nil else { return 0 }
    return max(0, min(maxTokens, context - prompt.count) - generated.count)
  }

  /// Appends a token that was chosen elsewhere.
  ///
  /// - Parameters:
  ///   - layer: Layers that were run for it; `nil` for all.
  ///   - logProbability: Its own; `nil` where it is not known or not recorded.
  package func append(
    _ id: TokenID, layer: Int? = nil, depth: DepthRecord? = nil, logProbability: Double? = nil
  ) throws -> TokenStep {
    let layer = layer ?? layerCount
    if recordsProbabilities, let logProbability { logProbabilities.append(logProbability) }
    generated.append(id)
    constraints?.append(id)
    // So that the search for the best token is the fast one again.
    if constraints?.isVacuous == true { constraints = nil }
    layers.append(layer)
    var visible = ""
    if endTokens.contains(id) {
      stopReason = .endOfText
    } else {
      let (text, stopped) = matcher.push(try detokenizer.append(id))
      let (shown, isLongEnough) = limited(text)
      visible = shown
      if isLongEnough {
        stopReason = .length
      } else if stopped {
        stopReason = .stopString
      } else if generated.count >= maxTokens {
        stopReason = .maxTokens
      } else if prompt.count + generated.count >= context {
        stopReason = .contextFull
      }
    }
    if let stopReason { visible += rest(after: stopReason) }
    // An answer on the line of its question begins with the space between them.
    if endsWithLine, text.isEmpty { visible = String(visible.drop(while: \.isWhitespace)) }
    text += visible
    var step = TokenStep(id: id, text: visible, layer: layer, stopReason: stopReason, depth: depth)
    step.logProbability = recordsProbabilities ? logProbability : nil
    if topProbabilities != nil, alternatives.count == generated.count {
      step.alternatives = alternatives.last
    }
    return step
  }

  /// Takes over the first tokens of another run of this sequence, and what is known of them.
  func replay(_ other: SequenceDecoding, count: Int) throws {
    for index in 0..<count {
      if other.alternatives.indices.contains(index) { alternatives.append(other.alternatives[index]) }
      _ = try append(
        other.generated[index], layer: other.layers[index],
        logProbability: other.logProbabilities.indices.contains(index) ? other.logProbabilities[index] : nil)
    }
  }

  /// Ends the sequence from outside; what was held back becomes text.
  ///
  /// - Returns: That text.
  package func cancel() -> String {
    guard stopReason == nil else { return "" }
    stopReason = .cancelled
    let rest = rest(after: .cancelled)
    text += rest
    return rest
  }

  package func makeGeneration() -> Generation {
    var generation = Generation(
      text: text, tokenIDs: generated, promptTokenIDs: promptTokenIDs, stopReason: stopReason ?? .cancelled,
      layers: layers)
    generation.logProbabilities = logProbabilities
    generation.alternatives = alternatives
    generation.applicability = applicability
    generation.answerability = answerability
    generation.trippedAt = trippedAt
    return generation
  }

  /// What is held back, now that nothing follows. The end of an incomplete character may complete a stop string only
  /// if that string holds U+FFFD, so it is matched as well.
  private func rest(after reason: StopReason) -> String {
    guard reason != .length else { return "" }
    var text = ""
    if reason != .stopString {
      let (visible, stopped) = matcher.push(detokenizer.finish())
      text = stopped ? visible : visible + matcher.finish()
    }
    let (shown, isLongEnough) = limited(text)
    guard !isLongEnough else { return shown }
    let isCut = reason == .maxTokens || reason == .contextFull
    return shown + (limiter?.finish(isCut: isCut) ?? "")
  }

  /// What of a piece of text may be shown, and whether the output has its length.
  private func limited(_ text: String) -> (visible: String, isLongEnough: Bool) {
    limiter?.push(text) ?? (text, false)
  }
}

/// The buffers that decoding works in, for up to `rows` tokens at a time.
package struct DecodingBuffers {
  let decoder: any DecoderModel
  package let states: HiddenStates
  /// What the rows of ``states`` were after layers below the last, by layer: those that somebody looks at.
  package let watched: [Int: HiddenStates]
  /// (rows asked for, vocabularySize)
  private(set) var logits: [Float] = []

  /// Tokens of a prompt that go through the layers together. More cost more memory and gain little.
  package static let prefillChunk = 256

  /// Tokens whose logits are computed together: enough to read the unembedding rarely, few enough for memory.
  static let logitChunk = 32

  package init(decoder: any DecoderModel, watching layers: Set<Int> = []) {
    self.decoder = decoder
    let make = { HiddenStates(hiddenSize: decoder.configuration.hiddenSize, capacity: Self.prefillChunk) }
    states = make()
    watched = Dictionary(uniqueKeysWithValues: layers.map { ($0, make()) })
  }

  /// Runs the rows of ``states`` through the layers from `layer` on; those watched below it are left as they are.
  ///
  /// - Parameter end: The layer after which they stop; `nil` for the last.
  package func advance(_ rows: [BatchRow], from layer: Int = 0, to end: Int? = nil) throws(DecoderError) {
    let end = end ?? decoder.configuration.layerCount
    var layer = layer
    for (next, copy) in watched.sorted(by: { $0.key < $1.key }) where next > layer && next <= end {
      try decoder.advance(states, rows: rows, layers: layer..<next)
      copy.copy(states)
      layer = next
    }
    try decoder.advance(states, rows: rows, layers: layer..<end)
  }

  /// Runs tokens of a prompt, which are in ``states``, through layers; looks at the last one where that decides whether
  /// the output is a refusal.
  ///
  /// - Parameter end: The layer after which they stop; `nil` for the last.
  private func advance(
    _ part: Range<Int>, of sequence: SequenceDecoding, from start: Int = 0, to end: Int? = nil
  )
    throws
  {
    let rows = part.map { BatchRow(cache: sequence.cache, position: $0) }
    let end = end ?? decoder.configuration.layerCount
    var start = start
    if let layer = sequence.answerabilityLayer, part.upperBound == sequence.prompt.count, layer > start,
      layer <= end
    {
      try advance(rows, from: start, to: layer)
      sequence.decideAnswerability(from: states[states.count - 1])
      start = layer
    }
    try advance(rows, from: start, to: end)
  }

  /// Runs tokens of one sequence, from `position` on, through all layers.
  package func advance(_ tokens: ArraySlice<TokenID>, cache: KeyValueCache, position: Int)
    throws(DecoderError)
  {
    try decoder.embed(Array(tokens), into: states)
    try advance(
      tokens.indices.map { BatchRow(cache: cache, position: position + $0 - tokens.startIndex) })
  }

  /// Computes the logits of rows `range` and hands each row over, as (vocabularySize).
  package mutating func withLogits(
    rows range: Range<Int>, _ body: (_ row: Int, UnsafeBufferPointer<Float>) throws -> Void
  ) throws {
    try decoder.logits(of: states, rows: range, into: &logits)
    let size = decoder.configuration.vocabularySize
    try logits.withUnsafeBufferPointer { all in
      for row in range.indices {
        let start = (row - range.lowerBound) * size
        try body(row, UnsafeBufferPointer(rebasing: all[start..<start + size]))
      }
    }
  }

  /// Runs the encoder, if there is one, and the prompt.
  ///
  /// The prompt goes alone and in chunks that depend on its length only, so that a sequence decoded in a batch gets
  /// the very numbers it gets by itself.
  ///
  /// - Parameter observe: Is told when ``states`` and ``watched`` hold a part of the prompt, and of the part's place:
  ///   once a token, in order. Of tokens that stop after a layer their last states stand for those after deeper layers.
  /// - Returns: `false` when `shouldStop` said so before the prompt was through.
  package mutating func readPrompt(
    of sequence: SequenceDecoding, shouldStop: () -> Bool,
    observe: (_ positions: Range<Int>) throws -> Void = { _ in }
  ) throws -> Bool {
    if sequence.source != nil, sequence.cache.source == nil, shouldStop() { return false }
    while sequence.hasUnreadParts {
      if shouldStop() { return false }
      try readPart(of: sequence, observe: observe)
    }
    return true
  }

  /// Runs the next part of a prompt, and the encoder before the first.
  ///
  /// - Parameter observe: As for ``readPrompt(of:shouldStop:observe:)``.
  package mutating func readPart(
    of sequence: SequenceDecoding, observe: (_ positions: Range<Int>) throws -> Void = { _ in }
  ) throws {
    if let source = sequence.source, sequence.cache.source == nil {
      guard let encoder = decoder.sourceEncoder else { throw DecoderError.noSource }
      try encoder.encode(source, into: sequence.cache)
    }
    guard let part = sequence.unreadPart else { return try finishPart(of: sequence, observe: observe) }
    try read(part, of: sequence)
    // What stops after a layer is told of when it is known whether it does.
    if sequence.depth == nil { try observe(part) }
  }

  /// Runs a part of a prompt, that which ``SequenceDecoding/unreadPart`` names: to the layer after which it stops.
  mutating func read(_ part: Range<Int>, of sequence: SequenceDecoding) throws {
    try decoder.embed(sequence.tokens(part), into: states)
    var layer = 0
    if sequence.profile != nil, let seen = sequence.applicabilityGuard?.layer,
      seen < decoder.configuration.layerCount
    {
      try advance(part, of: sequence, to: seen)
      sequence.profile?.add(states)
      layer = seen
    }
    try advance(part, of: sequence, from: layer, to: sequence.depth?.layer)
    if sequence.profile != nil, layer == 0 { sequence.profile?.add(states) }
    sequence.depth?.keep(states, watched: watched)
    sequence.readCount = part.upperBound
  }

  /// Takes the next tokens that have stopped after a layer the rest of their way: those that go no deeper leave their
  /// keys and values there, the others pass the layers. Where the guard finds the document unlike others, all pass.
  private mutating func finishPart(
    of sequence: SequenceDecoding, observe: (_ positions: Range<Int>) throws -> Void
  ) throws {
    guard let part = sequence.waitingPart, let reading = sequence.depth else { return }
    if sequence.applicability == nil { sequence.lookAtPrompt() }
    if sequence.isCovered { sequence.stoppedAfter = reading.layer }
    try finish(part, of: sequence, as: reading, observe: observe)
    sequence.depth?.finish(part)
  }

  /// Runs tokens that have stopped after a layer through those above it, or leaves their keys and values there.
  mutating func finish(
    _ part: Range<Int>, of sequence: SequenceDecoding, as reading: PromptDepthReading,
    observe: (_ positions: Range<Int>) throws -> Void = { _ in }
  ) throws {
    let shallow = sequence.isCovered ? reading.shallowCount : 0
    for (range, stays) in [
      (part.clamped(to: 0..<shallow), true), (part.clamped(to: shallow..<Int.max), false),
    ]
    where !range.isEmpty {
      reading.take(range, into: states)
      for (layer, copy) in watched { reading.take(range, after: layer, into: copy) }
      if stays {
        try decoder.propagate(
          states, rows: range.map { BatchRow(cache: sequence.cache, position: $0) },
          layers: reading.layer..<decoder.configuration.layerCount)
      } else {
        try advance(range, of: sequence, from: reading.layer)
      }
      try observe(range)
    }
  }

  /// Looks at the prompt and chooses the first token, when the last part has passed.
  package mutating func finishPrompt(of sequence: SequenceDecoding) throws -> TokenStep? {
    if sequence.applicability == nil { sequence.lookAtPrompt() }
    var step: TokenStep?
    try withLogits(rows: states.count - 1..<states.count) { _, row in step = try sequence.accept(row) }
    return step
  }

  /// Runs a whole prompt and chooses the first token.
  ///
  /// - Returns: `nil` when `shouldStop` said so before the prompt was through.
  package mutating func prefill(
    _ sequence: SequenceDecoding, shouldStop: () -> Bool,
    observe: (_ positions: Range<Int>) throws -> Void = { _ in }
  ) throws -> TokenStep? {
    guard try readPrompt(of: sequence, shouldStop: shouldStop, observe: observe) else { return nil }
    return try finishPrompt(of: sequence)
  }
}
