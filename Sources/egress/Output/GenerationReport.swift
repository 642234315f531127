import ArgumentParser
import DecoderModels
import EarlyExit
import SpeculativeDecoding

/// A session of any kind, as the report needs it.
protocol OutputSession: AnyObject {
  var generation: Generation { get }
  var stopReason: StopReason? { get }
  var cancelledText: String { get }
  var timings: DecodingSession.Timings { get }
  func next() throws -> TokenStep?
}

extension DecodingSession: OutputSession {}
extension SpeculativeSession: OutputSession {}

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
  var stopReason: StopReason
  /// Present when tokens were drawn at random.
  var seed: UInt64?
  /// Present when tokens were drafted.
  var speculation: SpeculationStatistics?
  var timings: Timings
}

/// Decodes a session to its end and shows the output.
struct GenerationReport {
  let model: LoadedModel
  let format: OutputOptions.Format
  let options: GenerationOptions

  /// - Parameter session: `nil` when the work was interrupted before there was one.
  /// - Throws: `ExitCode` 130 after an interruption, when everything is written.
  func run(_ session: (any OutputSession)?) throws {
    guard let session else {
      if format == .json { try write(nil) }
      throw ExitCode(Interrupt.exitCode)
    }
    var last: Character?
    func show(_ text: String) throws {
      guard format == .text, !text.isEmpty else { return }
      try TextOutput.standard.write(text)
      last = text.last
    }
    while let step = try session.next() { try show(step.text) }
    try show(session.cancelledText)
    if format == .text {
      // The prompt of a shell should not stand in the last line.
      if last?.isNewline != true { try TextOutput.standard.write("\n") }
    } else {
      try write(session)
    }
    switch session.stopReason {
    case .contextFull: Console.warning("the context is full; the output ends here")
    case .cancelled: throw ExitCode(Interrupt.exitCode)
    default: break
    }
  }

  private func write(_ session: (any OutputSession)?) throws {
    let generation =
      session?.generation ?? Generation(text: "", tokenIDs: [], promptTokenIDs: [], stopReason: .cancelled)
    let timings = session?.timings ?? DecodingSession.Timings()
    func rate(_ count: Int, _ seconds: Double) -> Double {
      seconds > 0 ? Double(count) / seconds : 0
    }
    var seed: UInt64?
    if case .random(let random) = options.sampling { seed = random.seed }
    let result = GenerationResult(
      text: generation.text, tokenIds: generation.tokenIDs, promptTokenIds: generation.promptTokenIDs,
      stopReason: generation.stopReason, seed: seed,
      speculation: (session as? SpeculativeSession)?.statistics,
      timings: .init(
        load: model.seconds, prefill: timings.prefill, decode: timings.decode,
        tokensPerSecond: rate(max(0, generation.tokenIDs.count - 1), timings.decode),
        prefillTokensPerSecond: rate(generation.promptTokenIDs.count, timings.prefill)))
    try TextOutput.standard.write(try JSONOutput.line(result) + "\n")
  }
}
