import ArgumentParser
import DecoderModels
import EarlyExit

/// Whether several outputs are followed at a time.
struct BeamOptions: ParsableArguments {
  @Option(
    parsing: .unconditional, help: "Follow so many outputs at a time and take the most probable one, 1 to 64."
  )
  var beams: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Divide an output's log-probability by its length to this power; above 0 favours long outputs. (default: 1)",
      valueName: "power"))
  var lengthPenalty: Double?

  func validate() throws {
    guard let beams else {
      if lengthPenalty != nil { throw ValidationError("--length-penalty needs --beams.") }
      return
    }
    guard BeamSearch.beamCounts.contains(beams) else {
      throw ValidationError("--beams must be in \(BeamSearch.beamCounts), but is \(beams).")
    }
    if let lengthPenalty, !(abs(lengthPenalty) <= 100) {
      throw ValidationError("--length-penalty must be in -100...100, but is \(lengthPenalty).")
    }
  }

  /// Beams are compared at full depth, token by token, by probability.
  func validate(sampling: SamplingOptions, exits: ExitOptions, speculation: SpeculationOptions) throws {
    guard beams != nil else { return }
    let others = [
      ("--temperature", sampling.temperature > 0), ("--stop", !sampling.stop.isEmpty),
      ("early exits (--exit-threshold, --certificate, --trace, --show-exits)", exits.isGiven),
      ("drafting (--drafter, --draft)", speculation.isActive),
    ]
    for (name, isGiven) in others where isGiven {
      throw ValidationError("--beams does not go together with \(name); give one of them.")
    }
  }

  /// A search, or nil when none was asked for.
  func makeSession(model: LanguageModel, prompt: [TokenID], options: GenerationOptions) -> BeamSession? {
    beams.map {
      BeamSession(
        model: model, prompt: prompt, options: options,
        search: BeamSearch(beams: $0, lengthPenalty: lengthPenalty ?? 1))
    }
  }
}

/// A beam search as a session: the whole output is its one step, for which beam wins is known at the end only.
final class BeamSession: OutputSession {
  private let model: LanguageModel
  private let prompt: [TokenID]
  private let options: GenerationOptions
  private let search: BeamSearch
  private(set) var generation: Generation
  private(set) var timings = DecodingSession.Timings()
  private(set) var stopReason: StopReason?
  let cancelledText = ""

  init(model: LanguageModel, prompt: [TokenID], options: GenerationOptions, search: BeamSearch) {
    self.model = model
    self.prompt = prompt
    self.options = options
    self.search = search
    generation = Generation(text: "", tokenIDs: [], promptTokenIDs: prompt, stopReason: .cancelled)
  }

  func next() throws -> TokenStep? {
    guard stopReason == nil else { return nil }
    let start = ContinuousClock.now
    let found = try model.generate(
      prompt: prompt, search: search, options: options, shouldStop: { Interrupt.isRequested })
    timings.decode = (ContinuousClock.now - start).seconds
    generation = found ?? generation
    stopReason = generation.stopReason
    guard let last = generation.tokenIDs.last, let layer = generation.layers.last else { return nil }
    return TokenStep(id: last, text: generation.text, layer: layer, stopReason: stopReason)
  }
}
