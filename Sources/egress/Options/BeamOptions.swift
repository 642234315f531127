import ArgumentParser
import Generation

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
      ("penalties or biases (--repeat-penalty, --logit-bias and their like)", !sampling.adjustments.isEmpty),
      ("early exits (--exit-threshold, --certificate, --trace, --show-exits)", exits.isGiven),
      ("drafting (--drafter, --draft)", speculation.isActive),
    ]
    for (name, isGiven) in others where isGiven {
      throw ValidationError("--beams does not go together with \(name); give one of them.")
    }
  }

  /// A search, or nil when none was asked for.
  var strategy: BeamSearch? { beams.map { BeamSearch(beams: $0, lengthPenalty: lengthPenalty ?? 1) } }
}
