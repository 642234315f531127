import Transformers

/// Decodes many prompts together: the weights are read once for the next token of every sequence under way.
///
/// Each output is the one that decoding its prompt alone gives, to the bit. Prompts join and leave between passes: a
/// finished sequence makes room for the next prompt at once.
public final class BatchDecoder {
  /// A prompt's number, in the order of ``submit(prompt:options:strategy:)``.
  public typealias Ticket = Int

  /// What happens to a prompt.
  public enum Event {
    /// Its next token is certain.
    case token(TokenStep)
    /// Its output is complete.
    case finished(Generation)
    /// It could not be decoded; others go on.
    case failed(any Error)
  }

  /// An output that has not begun.
  private struct Request {
    var ticket: Ticket
    var prompt: [TokenID]
    var options: GenerationOptions
    var strategy: any DecodingStrategy
  }

  /// An output under way.
  private struct Job {
    enum Way {
      /// Shares each pass with the others.
      case together(SequenceDecoding)
      /// Decodes by itself: tokens that leave at different layers, or that are drafted, do not share a pass.
      case alone(any GenerationSession)
    }

    var ticket: Ticket
    var way: Way
    /// Tokens that its caches may hold.
    var cachedTokens: Int

    var stopReason: StopReason? {
      switch way {
      case .together(let sequence): sequence.stopReason
      case .alone(let session): session.stopReason
      }
    }

    var generation: Generation {
      switch way {
      case .together(let sequence): sequence.makeGeneration()
      case .alone(let session): session.generation
      }
    }

    /// A sequence that shares passes.
    var sequence: SequenceDecoding? {
      if case .together(let sequence) = way { sequence } else { nil }
    }

    /// A session by itself whose prompt may be read in parts.
    var reading: (any PartwiseReading)? {
      if case .alone(let session) = way { session as? any PartwiseReading } else { nil }
    }

    /// Whether its prompt has not passed the layers.
    var isReading: Bool { sequence?.unreadPart != nil || reading?.hasUnreadParts == true }
  }

  /// Sequences decoded at a time.
  public let width: Int
  private let model: LanguageModel
  private let shouldStop: () -> Bool
  private let promptParts: Int
  private let prefixes: PrefixCache?
  private var buffers: DecodingBuffers
  private var waiting: [Request] = []
  private var active: [Job] = []
  private var submitted = 0
  /// Tokens that the caches of all sequences under way may have together, so that many long documents do not take all
  /// memory. A single sequence may have more.
  private static let cachedTokens = 32_768
  /// Tokens generated so far, by all sequences.
  public private(set) var tokenCount = 0

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - width: Sequences to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - promptParts: Parts of at most 256 tokens that prompts may go through the layers with before sequences under
  ///     way get their next token; `nil` for as many as there are. Few let nobody wait long, all of them fill the
  ///     places first.
  ///   - prefixes: Where keys and values of outputs at full depth are kept for prompts that begin alike; `nil` for
  ///     nowhere.
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

  /// Adds a prompt. Only outputs at full depth share passes over the weights.
  @discardableResult
  public func submit(
    prompt: [TokenID], options: GenerationOptions, strategy: any DecodingStrategy = FullDepth()
  ) -> Ticket {
    defer { submitted += 1 }
    waiting.append(Request(ticket: submitted, prompt: prompt, options: options, strategy: strategy))
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
    let going = active.filter { $0.stopReason == nil && !$0.isReading }
    if !going.isEmpty {
      if shouldStop() { return false }
      guard try decode(going, observe) else { return false }
    }
    for job in active where job.stopReason != nil {
      if let prefixes, let sequence = job.sequence, sequence.source == nil {
        prefixes.insert(sequence.prompt + sequence.generated, cache: sequence.cache)
      }
      cancel(job.ticket)
      try observe(job.ticket, .finished(job.generation))
    }
    return true
  }

  /// Gives every sequence its next token.
  ///
  /// - Returns: The outputs that ended with this step; empty as well when `shouldStop` said so.
  /// - Throws: ``GenerationError`` for a prompt that does not fit or options out of range, `DecoderError`, and the
  ///   tokenizer's errors.
  public func step() throws -> [(ticket: Ticket, generation: Generation)] {
    var finished: [(ticket: Ticket, generation: Generation)] = []
    try step { ticket, event in
      switch event {
      case .token: break
      case .finished(let generation): finished.append((ticket, generation))
      case .failed(let error): throw error
      }
    }
    return finished
  }

  /// Gives waiting prompts a place while there is room.
  private func admit(_ observe: (Ticket, Event) throws -> Void) throws {
    while active.count < width, let next = waiting.first {
      let cached = active.reduce(0) { $0 + $1.cachedTokens }
      let needed = model.cachedTokens(prompt: next.prompt, options: next.options)
      if !active.isEmpty, cached + needed > Self.cachedTokens { break }
      waiting.removeFirst()
      do {
        active.append(Job(ticket: next.ticket, way: try begin(next), cachedTokens: needed))
      } catch {
        try observe(next.ticket, .failed(error))
      }
    }
  }

  private func begin(_ request: Request) throws -> Job.Way {
    // What a guard looks at, the state of each token of the prompt, is not kept of beginnings that were read before.
    // Nor do beginnings go with prompts that stop after a layer.
    if request.strategy is FullDepth, request.options.applicability == nil, request.options.promptDepth == nil {
      return .together(
        try SequenceDecoding(
          model: model, prompt: request.prompt, options: request.options,
          beginning: prefixes?.longestBeginning(of: request.prompt)))
    }
    return .alone(
      try request.strategy.makeSession(
        model: model, prompt: request.prompt, options: request.options, shouldStop: shouldStop))
  }

  /// - Returns: `false` when `shouldStop` said so.
  private func readPrompts(_ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    var parts = promptParts
    for job in active {
      if let session = job.reading {
        do {
          while session.hasUnreadParts {
            guard parts > 0 else { return true }
            if shouldStop() { return false }
            try session.readPart()
            parts -= 1
          }
        } catch {
          try fail([job], error, observe)
        }
        continue
      }
      guard let sequence = job.sequence, sequence.unreadPart != nil else { continue }
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
          parts -= 1
        }
        step = try buffers.chooseFirst(sequence)
      } catch {
        try fail([job], error, observe)
        continue
      }
      guard let step else { continue }
      tokenCount += 1
      try observe(job.ticket, .token(step))
    }
    return true
  }

  /// - Returns: `false` when `shouldStop` said so.
  private func decode(_ going: [Job], _ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    var steps: [(ticket: Ticket, step: TokenStep)] = []
    let together = going.filter { $0.sequence != nil }
    do {
      if !together.isEmpty {
        try buffers.step(together.compactMap(\.sequence)) { steps.append((together[$0].ticket, $1)) }
      }
    } catch {
      // The pass was of all of them, so none of them is whole.
      steps = []
      try fail(together, error, observe)
    }
    for job in going {
      guard case .alone(let session) = job.way else { continue }
      do {
        if let step = try session.next() { steps.append((job.ticket, step)) }
      } catch {
        try fail([job], error, observe)
        continue
      }
      if session.stopReason == .cancelled { return false }
    }
    tokenCount += steps.count
    for (ticket, step) in steps where active.contains(where: { $0.ticket == ticket }) {
      try observe(ticket, .token(step))
    }
    return true
  }

  private func fail(_ jobs: [Job], _ error: any Error, _ observe: (Ticket, Event) throws -> Void) throws {
    for job in jobs {
      cancel(job.ticket)
      try observe(job.ticket, .failed(error))
    }
  }

  /// Decodes prompts to their ends.
  ///
  /// - Returns: The outputs in the order of the prompts, or `nil` when `shouldStop` said so before all were there.
  /// - Throws: What went wrong with the first prompt that could not be decoded.
  public func run(
    prompts: [[TokenID]], options: GenerationOptions, strategy: any DecodingStrategy = FullDepth()
  ) throws -> [Generation]? {
    let first = submitted
    for prompt in prompts { submit(prompt: prompt, options: options, strategy: strategy) }
    var outputs: [Generation?] = Array(repeating: nil, count: prompts.count)
    while !isIdle {
      if shouldStop() { return nil }
      for (ticket, generation) in try step() where ticket >= first { outputs[ticket - first] = generation }
    }
    return outputs.compactMap { $0 }
  }
}
