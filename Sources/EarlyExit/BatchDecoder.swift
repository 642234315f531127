import DecoderModels

/// Decodes many prompts together: the weights are read once for the next token of every sequence under way.
///
/// Each output is the one that decoding its prompt alone gives, to the bit. A finished sequence makes room for the next
/// prompt at once.
public final class BatchDecoder {
  /// A prompt's number, in the order of ``submit(prompt:options:)``.
  public typealias Ticket = Int

  /// Sequences decoded at a time.
  public let width: Int
  private let model: LanguageModel
  private let shouldStop: () -> Bool
  private var buffers: DecodingBuffers
  private var exits: [Ticket: ExitDecoder] = [:]
  /// What tripwires have seen of sequences whose tokens may leave early.
  private var watches:
    [Ticket: (tripwire: RepetitionTripwire, watch: RepetitionWatch, options: GenerationOptions)] =
      [:]
  private var waiting: [(ticket: Ticket, prompt: [TokenID], options: GenerationOptions)] = []
  private var active: [(ticket: Ticket, sequence: SequenceDecoding)] = []
  private var submitted = 0
  /// Tokens that the caches of all sequences under way may have together, so that many long documents do not take all
  /// memory. A single sequence may have more.
  private static let cachedTokens = 32_768
  /// Tokens generated so far, by all sequences.
  public private(set) var tokenCount = 0

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - width: Sequences to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - shouldStop: Asked before each token.
  public init(
    model: LanguageModel, width: Int = 16, shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) {
    self.model = model
    self.width = max(1, min(width, model.decoder.invariantBatchLimit, DecodingBuffers.prefillChunk))
    self.shouldStop = shouldStop
    buffers = DecodingBuffers(decoder: model.decoder)
  }

  /// Whether nothing is left to decode.
  public var isIdle: Bool { waiting.isEmpty && active.isEmpty }
  /// Whether another prompt would be taken up at the next step.
  public var hasRoom: Bool { active.count + waiting.count < width }

  /// Adds a prompt.
  @discardableResult
  public func submit(prompt: [TokenID], options: GenerationOptions) -> Ticket {
    defer { submitted += 1 }
    waiting.append((submitted, prompt, options))
    return submitted
  }

  /// Gives every sequence its next token, after taking up waiting prompts where there is room.
  ///
  /// - Returns: The outputs that ended with this step; empty as well when `shouldStop` said so.
  /// - Throws: ``EarlyExitError`` for a prompt that does not fit or options out of range, `DecoderError`, and the
  ///   tokenizer's errors.
  public func step() throws -> [(ticket: Ticket, generation: Generation)] {
    while active.count < width, !waiting.isEmpty {
      if shouldStop() { return [] }
      let next = waiting[0]
      let cached = active.reduce(0) { $0 + $1.sequence.cache.capacity + ($1.sequence.source?.count ?? 0) }
      let needed = model.cachedTokens(prompt: next.prompt, options: next.options)
      if !active.isEmpty, cached + needed > Self.cachedTokens { break }
      waiting.removeFirst()
      let sequence = try SequenceDecoding(model: model, prompt: next.prompt, options: next.options)
      guard try buffers.prefill(sequence, shouldStop: shouldStop) != nil else { return [] }
      tokenCount += 1
      if sequence.isCovered {
        exits[next.ticket] = try next.options.exits.map { try ExitDecoder($0, decoder: model.decoder) }
        if exits[next.ticket] != nil, let tripwire = next.options.tripwire {
          watches[next.ticket] = (tripwire, RepetitionWatch(), next.options)
          for token in sequence.generated { watches[next.ticket]?.watch.append(token) }
        }
      }
      active.append((next.ticket, sequence))
    }
    let going = active.filter { $0.sequence.stopReason == nil }
    if !going.isEmpty {
      if shouldStop() { return [] }
      let together = going.filter { exits[$0.ticket] == nil }.map(\.sequence)
      if !together.isEmpty { try buffers.step(together) { _, _ in } }
      // Tokens that leave at different layers do not share a pass over the weights.
      for (ticket, sequence) in going {
        guard let step = try exits[ticket]?.step(sequence) else { continue }
        try look(at: step, ticket: ticket, sequence)
      }
      tokenCount += going.count
    }
    for (ticket, sequence) in active where sequence.stopReason != nil {
      exits[ticket] = nil
      watches[ticket] = nil
    }
    let finished = active.filter { $0.sequence.stopReason != nil }
    active.removeAll { $0.sequence.stopReason != nil }
    return finished.map { ($0.ticket, $0.sequence.makeGeneration()) }
  }

  /// Brings a sequence back to full depth that repeats itself.
  private func look(at step: TokenStep, ticket: Ticket, _ sequence: SequenceDecoding) throws {
    watches[ticket]?.watch.append(step.id)
    guard let (tripwire, watch, options) = watches[ticket], watch.isTripped(tripwire) else { return }
    try exits[ticket]?.complete(sequence)
    let again = try sequence.cut(to: watch.safeCount, model: model, options: options)
    active = active.map { $0.ticket == ticket ? (ticket, again) : $0 }
    exits[ticket] = nil
    watches[ticket] = nil
  }

  /// Decodes prompts to their ends.
  ///
  /// - Returns: The outputs in the order of the prompts, or `nil` when `shouldStop` said so before all were there.
  public func run(prompts: [[TokenID]], options: GenerationOptions) throws -> [Generation]? {
    let first = submitted
    for prompt in prompts { submit(prompt: prompt, options: options) }
    var outputs: [Generation?] = Array(repeating: nil, count: prompts.count)
    while !isIdle {
      if shouldStop() { return nil }
      for (ticket, generation) in try step() where ticket >= first { outputs[ticket - first] = generation }
    }
    return outputs.compactMap { $0 }
  }
}
