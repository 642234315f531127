import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Generation
import SpeculativeDecoding
import Transformers

/// How likely a token of an output was, and which ones were likeliest in its place.
struct TokenProbability: Encodable {
  struct Alternative: Encodable {
    var tokenId: TokenID
    var text: String
    var logprob: Double
  }
  var tokenId: TokenID
  /// Absent where no token could come and the output was ended.
  var logprob: Double?
  var top: [Alternative]

  /// What a generation kept; nothing where it kept nothing.
  static func all(_ generation: Generation, _ model: LanguageModel) throws -> [TokenProbability]? {
    guard !generation.alternatives.isEmpty, generation.alternatives.count == generation.logProbabilities.count
    else { return nil }
    return try generation.tokenIDs.indices.map { index in
      TokenProbability(
        tokenId: generation.tokenIDs[index],
        logprob: generation.logProbabilities[index].isFinite ? generation.logProbabilities[index] : nil,
        top: try generation.alternatives[index].map {
          Alternative(
            tokenId: $0.token, text: String(decoding: try model.tokenizer.bytes(of: $0.token), as: UTF8.self),
            logprob: $0.logProbability)
        })
    }
  }
}

/// A generation as JSON.
struct GenerationResult: Encodable {
  struct Timings: Encodable {
    /// Seconds.
    var load: Double
    var prefill: Double
    var decode: Double
    /// Output tokens after the first, per second of decoding.
    var tokensPerSecond: Double
    var prefillTokensPerSecond: Double
  }

  var text: String
  var tokenIds: [TokenID]
  var promptTokenIds: [TokenID]
  /// Tokens of the prompt that came from a file; present with --prompt-cache.
  var reusedPromptTokens: Int?
  var stopReason: StopReason
  /// Layers run for a token of the output, on average; absent when there is none.
  var averageExitLayer: Double?
  /// Present when tokens were drawn at random.
  var seed: UInt64?
  /// Present where a certificate has a guard.
  var `guard`: GuardResult?
  /// Tokens that were kept where the output was brought back to full depth; absent where it was not.
  var trippedAt: Int?
  /// Present when tokens were drafted.
  var speculation: SpeculationStatistics?
  var timings: Timings
  /// Present with --logprobs: one for each token of the output.
  var logprobs: [TokenProbability]?
  /// Present for answers.
  var answered: Bool?
  /// Present with a certificate of answers: whether this one is given.
  var given: Bool?
  var confidence: Double?
  var source: DocumentAnswer.Source?
  /// Present for summaries.
  var sentences: [SupportedSentence]?
}

/// Decodes a session to its end and shows the output.
struct GenerationReport {
  let model: LoadedModel
  /// What the input is called in messages.
  var name = "the prompt"
  let format: OutputOptions.Format
  let options: GenerationOptions
  let exits: ExitOptions
  /// Whether to colour the text by who wrote it.
  let showsDrafts: Bool
  /// What the output is about, where it is about a document.
  var findings: Findings?
  /// Whether the answer is given at all; `nil` for outputs that are shown whatever they are.
  var certified: CertifiedAnswers?
  /// Whether the document fitted as it is.
  var isWhole = true

  /// - Parameter session: `nil` when the work was interrupted before there was one.
  /// - Throws: `ExitCode` 130 after an interruption, when everything is written.
  func run(_ session: (any GenerationSession)?) throws {
    guard let session else {
      if format == .json { try write(nil) }
      throw ExitCode(Interrupt.exitCode)
    }
    let trace = try exits.trace.map { try TraceOutput(path: $0) }
    let colors = ExitColors(
      layerCount: model.model.decoder.configuration.layerCount, wanted: exits.showExits)
    let writers = WriterColors(wanted: showsDrafts)
    var last: Character?
    func show(_ text: String, step: TokenStep? = nil) throws {
      // Whether it is given is known at its end.
      guard certified == nil, format == .text, !text.isEmpty || step?.source?.discarded ?? 0 > 0 else {
        return
      }
      try TextOutput.standard.write(
        step.map { writers.paint(colors.paint(text, layer: $0.layer), source: $0.source) } ?? text)
      last = text.last ?? last
    }
    let begin = ContinuousClock.now
    var start = begin
    while let step = try session.next() {
      if last == nil, start == begin, let found = session.generation.applicability, !found.isInside {
        Console.warning(GuardResult.sentence(name, found))
      }
      try trace?.append(step, seconds: (ContinuousClock.now - start).seconds)
      try show(step.text, step: step)
      start = .now
    }
    try show(session.cancelledText)
    if format == .text, let certified, session.stopReason != .cancelled {
      let generation = session.generation
      let isGiven = findings?.answer(generation).map {
        certified.gives(generation, answer: $0, isWhole: isWhole)
      }
      try TextOutput.standard.write(
        (isGiven == true ? generation.text.trimmingWhitespace() : CertifiedAnswers.notSure) + "\n")
      last = "\n"
    }
    if format == .text {
      // The prompt of a shell should not stand in the last line.
      if last?.isNewline != true { try TextOutput.standard.write("\n") }
    } else {
      try write(session)
    }
    if format == .text, certified == nil { try findings?.write(session.generation) }
    if exits.showExits, let average = session.generation.averageLayer {
      Console.note(
        "average exit layer \(average.formatted(places: 1)) of \(colors.layerCount), "
          + "\(session.generation.layers.count) tokens")
    }
    if showsDrafts, let statistics = (session as? SpeculativeSession)?.statistics {
      Console.note(WriterColors.summary(statistics))
    }
    switch session.stopReason {
    case .contextFull: Console.warning("the context is full; the output ends here")
    case .cancelled: throw ExitCode(Interrupt.exitCode)
    default: break
    }
  }

  private func write(_ session: (any GenerationSession)?) throws {
    let generation =
      session?.generation ?? Generation(text: "", tokenIDs: [], promptTokenIDs: [], stopReason: .cancelled)
    let timings = session?.timings ?? SessionTimings()
    func rate(_ count: Int, _ seconds: Double) -> Double {
      seconds > 0 ? Double(count) / seconds : 0
    }
    var seed: UInt64?
    if case .random(let random) = options.sampling { seed = random.seed }
    let reused = options.promptCache.flatMap { _ in session.flatMap(PromptCache.reusedTokens) }
    var result = GenerationResult(
      text: generation.text, tokenIds: generation.tokenIDs, promptTokenIds: generation.promptTokenIDs,
      stopReason: generation.stopReason, averageExitLayer: generation.averageLayer, seed: seed,
      speculation: (session as? SpeculativeSession)?.statistics,
      timings: .init(
        load: model.seconds, prefill: timings.prefill, decode: timings.decode,
        tokensPerSecond: rate(max(0, generation.tokenIDs.count - 1), timings.decode),
        prefillTokensPerSecond: rate(generation.promptTokenIDs.count - (reused ?? 0), timings.prefill)))
    result.reusedPromptTokens = reused
    result.guard = GuardResult(generation.applicability)
    result.trippedAt = generation.trippedAt
    result.logprobs = try TokenProbability.all(generation, model.model)
    result.sentences = findings?.sentences(generation)
    if let answer = findings?.answer(generation) {
      result.given = certified.map { $0.gives(generation, answer: answer, isWhole: isWhole) }
      (result.answered, result.confidence, result.source) = (
        answer.answered, answer.confidence, answer.source
      )
    }
    try TextOutput.standard.write(try JSONOutput.line(result) + "\n")
  }
}
