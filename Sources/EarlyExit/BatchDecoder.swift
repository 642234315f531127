import DecoderModels

/// Decodes many prompts together: the weights are read once for the next token of every sequence under way.
///
/// Each output is the one that decoding its prompt alone gives, to the bit. Prompts join and leave between passes: a
/// finished sequence makes room for the next prompt at once.
public final class BatchDecoder {
  /// A prompt's number, in the order of ``submit(prompt:options:)``.
  public typealias Ticket = Int

  /// What happens to a prompt.
  public enum Event {
    /// It has its next token, and that is certain: see ``GenerationOptions/tripwire``.
    case token(TokenStep)
    /// Its output is complete.
    case finished(Generation)
    /// It could not be decoded; others go on.
    case failed(any Error)
  }

  /// A prompt that has a place.
  private final class Place {
    let ticket: Ticket
    let options: GenerationOptions
    var sequence: SequenceDecoding
    var exits: ExitDecoder?
    /// What the guard looks at, while the prompt is read.
    var profile: PromptProfile?
    /// What is held back, where a tripwire may take it back.
    var watched: WatchedOutput?

    init(
      _ ticket: Ticket, _ options: GenerationOptions, _ sequence: SequenceDecoding, _ exits: ExitDecoder?
    ) {
      (self.ticket, self.options, self.sequence, self.exits) = (ticket, options, sequence, exits)
      watched = exits == nil ? nil : options.tripwire.map(WatchedOutput.init)
    }

    var isOver: Bool { sequence.stopReason != nil && watched?.isEmpty ?? true }

    /// Takes a step of the sequence; one that repeats itself goes back to full depth.
    ///
    /// - Returns: The steps that are now certain.
    func take(_ step: TokenStep, model: LanguageModel) throws -> [TokenStep] {
      guard watched != nil else { return [step] }
      if let kept = watched?.append(step) {
        try exits?.complete(sequence)
        sequence = try sequence.cut(to: kept, model: model, options: options)
        exits = nil
      }
      var certain: [TokenStep] = []
      while let step = watched?.next(isOver: sequence.stopReason != nil || exits == nil) {
        certain.append(step)
      }
      return certain
    }
  }

  /// Sequences decoded at a time.
  public let width: Int
  private let model: LanguageModel
  private let shouldStop: () -> Bool
  private let promptParts: Int
  private let prefixes: PrefixCache?
  private var buffers: DecodingBuffers
  private var waiting: [(ticket: Ticket, prompt: [TokenID], options: GenerationOptions)] = []
  private var active: [Place] = []
  private var submitted = 0
  /// Tokens that the caches of all sequences under way may have together, so that many long documents do not take all
  /// memory. A single sequence may have more.
  private static let cachedTokens = 32_768
  /// Tokens generated so far, by all sequences.
  public private(set) var tokenCount = 0

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - width: Sequences to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - promptParts: Parts of ``DecodingBuffers/prefillChunk`` tokens that prompts may go through the layers with before
  ///     sequences under way get their next token; `nil` for as many as there are. Few let nobody wait long, all of them
  ///     fill the places first.
  ///   - prefixes: Where keys and values are kept for prompts that begin alike; `nil` for nowhere.
  ///   - shouldStop: Asked before each token.
  public init(
    model: LanguageModel, width: Int = 16, promptParts: Int? = nil, prefixes: PrefixCache? = nil,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) {
    self.model = model
    self.width = max(1, min(width, model.decoder.invariantBatchLimit, DecodingBuffers.prefillChunk))
    self.promptParts = promptParts.map { max(1, $0) } ?? .max
    self.prefixes = prefixes
    self.shouldStop = shouldStop
    buffers = DecodingBuffers(decoder: model.decoder)
  }

  /// Whether nothing is left to decode.
  public var isIdle: Bool { waiting.isEmpty && active.isEmpty }
  /// Whether another prompt would be taken up at the next step.
  public var hasRoom: Bool { active.count + waiting.count < width }
  /// Prompts that have a place, and those that wait for one.
  public var counts: (active: Int, waiting: Int) { (active.count, waiting.count) }

  /// Adds a prompt.
  @discardableResult
  public func submit(prompt: [TokenID], options: GenerationOptions) -> Ticket {
    defer { submitted += 1 }
    waiting.append((submitted, prompt, options))
    return submitted
  }

  /// Gives a prompt up. Its place is free at the next step, and nothing more is told of it.
  public func cancel(_ ticket: Ticket) {
    waiting.removeAll { $0.ticket == ticket }
    active.removeAll { $0.ticket == ticket }
  }

  /// Gives every sequence its next token, after taking up waiting prompts where there is room.
  ///
  /// - Parameter observe: Told what happens, in the order in which it does. It may ``cancel(_:)``.
  /// - Returns: `false` when `shouldStop` said so.
  /// - Throws: What `observe` throws.
  @discardableResult
  public func step(_ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    try admit(observe)
    guard try readPrompts(observe) else { return false }
    let going = active.filter { $0.sequence.pending != nil && $0.sequence.unreadPart == nil }
    if !going.isEmpty {
      if shouldStop() { return false }
      try decode(going, observe)
    }
    for place in active where place.isOver {
      keepPrefix(place)
      active.removeAll { $0 === place }
      try observe(place.ticket, .finished(place.sequence.makeGeneration()))
    }
    return true
  }

  /// Gives waiting prompts a place while there is room.
  private func admit(_ observe: (Ticket, Event) throws -> Void) throws {
    while active.count < width, let next = waiting.first {
      let cached = active.reduce(0) { $0 + $1.sequence.cache.capacity + ($1.sequence.source?.count ?? 0) }
      let needed = model.cachedTokens(prompt: next.prompt, options: next.options)
      if !active.isEmpty, cached + needed > Self.cachedTokens { break }
      waiting.removeFirst()
      do {
        let sequence = try SequenceDecoding(
          model: model, prompt: next.prompt, options: next.options,
          // A guard looks at the states of the whole prompt.
          beginning: next.options.applicability == nil
            ? prefixes?.longestBeginning(of: next.prompt) : nil)
        let exits = try next.options.exits.map { try ExitDecoder($0, decoder: model.decoder) }
        let place = Place(next.ticket, next.options, sequence, exits)
        place.profile = sequence.applicabilityGuard.map { _ in
          PromptProfile(hiddenSize: model.decoder.configuration.hiddenSize)
        }
        active.append(place)
      } catch {
        try observe(next.ticket, .failed(error))
      }
    }
  }

  /// - Returns: `false` when `shouldStop` said so.
  private func readPrompts(_ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    var parts = promptParts
    for place in active where place.sequence.unreadPart != nil {
      let sequence = place.sequence
      let step: TokenStep?
      do {
        if let source = sequence.source, sequence.cache.source == nil {
          if shouldStop() { return false }
          try model.decoder.encode(source, into: sequence.cache)
        }
        while let part = sequence.unreadPart {
          guard parts > 0 else { return true }
          if shouldStop() { return false }
          try buffers.read(part, of: sequence)
          place.profile?.add(buffers.states)
          parts -= 1
        }
        sequence.applicability = place.profile.flatMap { sequence.applicabilityGuard?.look(at: $0.mean) }
        if !sequence.isCovered { place.exits = nil }
        step = try buffers.chooseFirst(sequence)
      } catch {
        try fail([place], error, observe)
        continue
      }
      guard let step else { continue }
      tokenCount += 1
      try show(step, of: place, observe)
    }
    return true
  }

  private func decode(_ going: [Place], _ observe: (Ticket, Event) throws -> Void) throws {
    var steps: [(Place, TokenStep)] = []
    let together = going.filter { $0.exits == nil }
    do {
      if !together.isEmpty {
        try buffers.step(together.map(\.sequence)) { steps.append((together[$0], $1)) }
      }
    } catch {
      // The pass was of all of them, so none of them is whole.
      steps = []
      try fail(together, error, observe)
    }
    // Tokens that leave at different layers do not share a pass over the weights.
    for place in going where place.exits != nil {
      do {
        if let step = try place.exits?.step(place.sequence) { steps.append((place, step)) }
      } catch {
        try fail([place], error, observe)
      }
    }
    tokenCount += steps.count
    for (place, step) in steps { try show(step, of: place, observe) }
  }

  private func show(_ step: TokenStep, of place: Place, _ observe: (Ticket, Event) throws -> Void) throws {
    let certain: [TokenStep]
    do {
      certain = try place.take(step, model: model)
    } catch {
      return try fail([place], error, observe)
    }
    for step in certain where active.contains(where: { $0 === place }) {
      try observe(place.ticket, .token(step))
    }
  }

  private func fail(_ places: [Place], _ error: any Error, _ observe: (Ticket, Event) throws -> Void) throws {
    for place in places {
      active.removeAll { $0 === place }
      try observe(place.ticket, .failed(error))
    }
  }

  /// Keeps the keys and values of a finished sequence, unless some are projections of a state that left early.
  private func keepPrefix(_ place: Place) {
    guard let prefixes, place.sequence.source == nil, place.options.exits?.cachePolicy != .propagate else {
      return
    }
    prefixes.insert(place.sequence.prompt + place.sequence.generated, cache: place.sequence.cache)
  }

  /// Decodes prompts to their ends.
  ///
  /// - Returns: The outputs in the order of the prompts, or `nil` when `shouldStop` said so before all were there.
  /// - Throws: What went wrong with the first prompt that could not be decoded.
  public func run(prompts: [[TokenID]], options: GenerationOptions) throws -> [Generation]? {
    let first = submitted
    for prompt in prompts { submit(prompt: prompt, options: options) }
    var outputs: [Generation?] = Array(repeating: nil, count: prompts.count)
    while !isIdle {
      if shouldStop() { return nil }
      try step { ticket, event in
        switch event {
        case .token: break
        case .finished(let generation): if ticket >= first { outputs[ticket - first] = generation }
        case .failed(let error): throw error
        }
      }
    }
    return outputs.compactMap { $0 }
  }
}
