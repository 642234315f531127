import Checkpoints
import Foundation
import Transformers

/// Decodes many prompts together: the weights are read once for the next token of every sequence under way.
///
/// Each output is the one that decoding its prompt alone gives, to the bit, whatever the strategies are. Sequences that
/// leave early meet again at each exit layer, and what is drafted for several is verified in one pass. Prompts join and
/// leave between passes: a finished sequence makes room for the next prompt at once.
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
    var ticket: Ticket
    var session: any GenerationSession
    /// Tokens that its caches may hold.
    var cachedTokens: Int
    /// Whether all of its keys and values are those of full depth.
    var isPlain: Bool

    /// Its prompt, where other prompts may go on from what it has read.
    var prompt: [TokenID]?

    /// What they go on from.
    var beginning: Beginning? { prompt == nil ? nil : (session as? any BeginningSession)?.beginning }
    /// The session, where its passes may be shared; others decode by themselves.
    var sharing: (any PassSharing)? { session as? any PassSharing }
    /// Whether its prompt has not passed the layers.
    var isReading: Bool { sharing?.hasUnreadParts == true }
  }

  /// Sequences decoded at a time.
  public let width: Int
  private let model: LanguageModel
  private let shouldStop: () -> Bool
  private let promptParts: Int
  private let prefixes: PrefixCache?
  /// Whether a prompt waits for one that begins like it to be read.
  private var isAwaitingBeginning = false
  private let runner = PassRunner()
  private var waiting: [Request] = []
  private var active: [Job] = []
  private var submitted = 0
  /// Tokens that the caches of all sequences under way may have together, so that many long documents do not take all
  /// memory. A single sequence may have more.
  private let cacheLimit: Int
  /// Tokens generated so far, by all sequences.
  public private(set) var tokenCount = 0

  /// - Parameters:
  ///   - model: The model that decodes.
  ///   - width: Sequences to decode at a time; at most the decoder's limit for results that do not depend on it.
  ///   - promptParts: Parts of at most 256 tokens that prompts may go through the layers with before sequences under
  ///     way get their next token; `nil` for as many as there are. Few let nobody wait long, all of them fill the
  ///     places first.
  ///   - prefixes: Where keys and values are kept for prompts that begin alike, which then go on from those of
  ///     sequences under way, too; `nil` for nowhere.
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
    cacheLimit = Self.tokensInMemory(model.decoder.configuration, bits: model.cacheBits)
  }

  /// At most so many tokens, and at most a quarter of the machine's memory.
  private static func tokensInMemory(_ configuration: DecoderConfiguration, bits: Int) -> Int {
    let numbers = 2 * configuration.layerCount * configuration.keyValueHeadCount * configuration.headSize
    let fitting = ProcessInfo.processInfo.physicalMemory / 4 / UInt64(max(numbers * bits / 8, 1))
    return Int(min(fitting, 32_768))
  }

  /// Whether nothing is left to decode.
  public var isIdle: Bool { waiting.isEmpty && active.isEmpty }
  /// Whether another prompt would be taken up at the next step.
  public var hasRoom: Bool { active.count + waiting.count < width }

  /// Adds a prompt.
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
    repeat {
      try admit(observe)
      guard try readPrompts(observe) else { return false }
    } while isAwaitingBeginning
    let going = active.filter { $0.session.stopReason == nil && !$0.isReading }
    if !going.isEmpty {
      if shouldStop() { return false }
      guard try decode(going, observe) else { return false }
    }
    for job in active where job.session.stopReason != nil {
      if var beginning = job.beginning {
        if job.isPlain, let session = job.session as? DecodingSession { beginning.tokens = session.tokens }
        prefixes?.insert(beginning)
      }
      cancel(job.ticket)
      try observe(job.ticket, .finished(job.session.generation))
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
    isAwaitingBeginning = false
    while active.count < width, let next = waiting.first {
      if isBeingRead(next) {
        isAwaitingBeginning = true
        break
      }
      let cached = active.reduce(0) { $0 + $1.cachedTokens }
      let needed = model.cachedTokens(prompt: next.prompt, options: next.options)
      if !active.isEmpty, cached + needed > cacheLimit { break }
      waiting.removeFirst()
      do {
        active.append(try begin(next, cachedTokens: needed))
      } catch {
        try observe(next.ticket, .failed(error))
      }
    }
  }

  /// Tokens that a prompt waits for at least, where another that is being read has them.
  private static let worthWaiting = 64

  /// Whether much of a prompt is being read for another one, and will be there after the prompts have been read.
  private func isBeingRead(_ request: Request) -> Bool {
    guard let prefixes, promptParts == .max, let strategy = sharing(request) else { return false }
    let coming =
      active.filter(\.isReading).compactMap(\.prompt).map { prompt in
        zip(prompt, request.prompt).prefix { $0.0 == $0.1 }.count
      }.max() ?? 0
    guard coming >= Self.worthWaiting else { return false }
    let there = prefixes.longestCount(
      of: request.prompt, orOf: active.compactMap(\.beginning), use: use(strategy, request))
    return coming >= there + Self.worthWaiting
  }

  /// The strategy of a prompt that may go on from what was read before. One that stops after a layer may not.
  private func sharing(_ request: Request) -> (any BeginningSharing)? {
    guard request.options.promptDepth == nil, !model.hasEncoder else { return nil }
    return request.strategy as? any BeginningSharing
  }

  private func use(_ strategy: any BeginningSharing, _ request: Request) -> PrefixCache.Use {
    { $0.count(strategy.reusable($0, count: $1), for: request.options.applicability) }
  }

  private func begin(_ request: Request, cachedTokens: Int) throws -> Job {
    guard let prefixes, let strategy = sharing(request) else {
      let session = try request.strategy.makeSession(
        model: model, prompt: request.prompt, options: request.options, shouldStop: shouldStop)
      return Job(ticket: request.ticket, session: session, cachedTokens: cachedTokens, isPlain: false)
    }
    let session = try strategy.makeSession(
      model: model, prompt: request.prompt, options: request.options,
      beginning: prefixes.longestBeginning(
        of: request.prompt, orOf: active.compactMap(\.beginning), use: use(strategy, request)),
      shouldStop: shouldStop)
    return Job(
      ticket: request.ticket, session: session, cachedTokens: cachedTokens,
      isPlain: request.strategy is FullDepth, prompt: request.prompt)
  }

  /// - Returns: `false` when `shouldStop` said so.
  private func readPrompts(_ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    var parts = promptParts
    for job in active {
      guard let session = job.sharing, session.hasUnreadParts, isActive(job.ticket) else { continue }
      do {
        while session.hasUnreadParts {
          guard parts > 0 else { return true }
          if shouldStop() { return false }
          try session.readPart()
          parts -= 1
        }
      } catch {
        try fail(job, error, observe)
        continue
      }
      try tell(job.ticket, steps(of: session), observe)
    }
    return true
  }

  /// Gives every sequence its next tokens: one, or as many as were verified together.
  ///
  /// - Returns: `false` when `shouldStop` said so.
  private func decode(_ going: [Job], _ observe: (Ticket, Event) throws -> Void) throws -> Bool {
    var failures: [(job: Job, error: any Error)] = []
    var begun: [(job: Job, session: any PassSharing, work: PassWork?)] = []
    let others = going.count { $0.sharing != nil } - 1
    for job in going {
      guard let session = job.sharing else { continue }
      do {
        begun.append((job, session, try session.beginPass(beside: others)))
      } catch {
        failures.append((job, error))
      }
    }
    let outcomes = runner.run(begun.map(\.work))
    var chosen: [(ticket: Ticket, steps: [TokenStep])] = []
    for (outcome, (job, session, _)) in zip(outcomes, begun) {
      do {
        if let error = outcome.error { throw error }
        try session.endPass(seconds: outcome.seconds)
        chosen.append((job.ticket, steps(of: session)))
      } catch {
        failures.append((job, error))
      }
    }
    for job in going where job.sharing == nil {
      do {
        if let step = try job.session.next() { chosen.append((job.ticket, [step])) }
      } catch {
        failures.append((job, error))
        continue
      }
      if job.session.stopReason == .cancelled { return false }
    }
    for (job, error) in failures { try fail(job, error, observe) }
    for (ticket, steps) in chosen { try tell(ticket, steps, observe) }
    return true
  }

  private func steps(of session: any PassSharing) -> [TokenStep] {
    var steps: [TokenStep] = []
    while let step = session.takeStep() { steps.append(step) }
    return steps
  }

  private func isActive(_ ticket: Ticket) -> Bool { active.contains { $0.ticket == ticket } }

  private func tell(
    _ ticket: Ticket, _ steps: [TokenStep], _ observe: (Ticket, Event) throws -> Void
  ) throws {
    for step in steps where isActive(ticket) {
      tokenCount += 1
      try observe(ticket, .token(step))
    }
  }

  private func fail(_ job: Job, _ error: any Error, _ observe: (Ticket, Event) throws -> Void) throws {
    cancel(job.ticket)
    try observe(job.ticket, .failed(error))
  }

  /// Decodes prompts to their ends.
  ///
  /// - Returns: The outputs in the order of the prompts, or `nil` when `shouldStop` said so before all were there.
  /// - Throws: What went wrong with the first prompt that could not be decoded.
  public func run(
    prompts: [[TokenID]], options: GenerationOptions, strategy: any DecodingStrategy = FullDepth()
  ) throws -> [Generation]? {
    try run(prompts.map { DocumentPart(prompt: $0, options: options) }, strategy: strategy)
  }

  /// The same, each with options of its own.
  package func run(_ parts: [DocumentPart], strategy: any DecodingStrategy) throws -> [Generation]? {
    let first = submitted
    for part in parts { submit(prompt: part.prompt, options: part.options, strategy: strategy) }
    var outputs: [Generation?] = Array(repeating: nil, count: parts.count)
    while !isIdle {
      if shouldStop() { return nil }
      for (ticket, generation) in try step() where ticket >= first { outputs[ticket - first] = generation }
    }
    return outputs.compactMap { $0 }
  }
}
