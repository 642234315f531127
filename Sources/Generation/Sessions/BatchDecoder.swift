import Transformers

/// Decodes many prompts together: the weights are read once for the next token of every sequence under way.
///
/// Each output is the one that decoding its prompt alone gives, to the bit. A finished sequence makes room for the next
/// prompt at once.
public final class BatchDecoder {
  /// A prompt's number, in the order of ``submit(prompt:options:strategy:)``.
  public typealias Ticket = Int

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
  }

  /// Sequences decoded at a time.
  public let width: Int
  private let model: LanguageModel
  private let shouldStop: () -> Bool
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

  /// Adds a prompt. Only outputs at full depth share passes over the weights.
  @discardableResult
  public func submit(
    prompt: [TokenID], options: GenerationOptions, strategy: any DecodingStrategy = FullDepth()
  ) -> Ticket {
    defer { submitted += 1 }
    waiting.append(Request(ticket: submitted, prompt: prompt, options: options, strategy: strategy))
    return submitted
  }

  /// Gives every sequence its next token, after taking up waiting prompts where there is room.
  ///
  /// - Returns: The outputs that ended with this step; empty as well when `shouldStop` said so.
  /// - Throws: ``GenerationError`` for a prompt that does not fit or options out of range, `DecoderError`, and the
  ///   tokenizer's errors.
  public func step() throws -> [(ticket: Ticket, generation: Generation)] {
    while active.count < width, !waiting.isEmpty {
      if shouldStop() { return [] }
      let next = waiting[0]
      let cached = active.reduce(0) { $0 + $1.cachedTokens }
      let needed = model.cachedTokens(prompt: next.prompt, options: next.options)
      if !active.isEmpty, cached + needed > Self.cachedTokens { break }
      waiting.removeFirst()
      guard let way = try begin(next) else { return [] }
      tokenCount += 1
      active.append(Job(ticket: next.ticket, way: way, cachedTokens: needed))
    }
    let going = active.filter { $0.stopReason == nil }
    if !going.isEmpty {
      if shouldStop() { return [] }
      var together: [SequenceDecoding] = []
      for case .together(let sequence) in going.map(\.way) { together.append(sequence) }
      if !together.isEmpty { try buffers.step(together) { _, _ in } }
      for case .alone(let session) in going.map(\.way) {
        _ = try session.next()
        if session.stopReason == .cancelled { return [] }
      }
      tokenCount += going.count
    }
    let finished = active.filter { $0.stopReason != nil }
    active.removeAll { $0.stopReason != nil }
    return finished.map { ($0.ticket, $0.generation) }
  }

  /// Runs a prompt and chooses the first token; `nil` when `shouldStop` said so before.
  private func begin(_ request: Request) throws -> Job.Way? {
    if request.strategy is FullDepth {
      let sequence = try SequenceDecoding(model: model, prompt: request.prompt, options: request.options)
      return try buffers.prefill(sequence, shouldStop: shouldStop).map { _ in .together(sequence) }
    }
    let session = try request.strategy.makeSession(
      model: model, prompt: request.prompt, options: request.options, shouldStop: shouldStop)
    return try session.next().map { _ in .alone(session) }
  }

  /// Decodes prompts to their ends.
  ///
  /// - Returns: The outputs in the order of the prompts, or `nil` when `shouldStop` said so before all were there.
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
