import ArgumentParser
import Generation

/// Which of its options go together.
extension GenerateCommand {
  func validate() throws {
    if special, !raw { throw ValidationError("--special goes with --raw only.") }
    if let prompt, prompt.isEmpty { throw ValidationError("The message is empty.") }
    if turns.messages != nil, prompt != nil {
      throw ValidationError("Give a message or --messages, not both.")
    }
    if raw, turns.isGiven {
      throw ValidationError("--raw leaves out the prompt template, which --system and --messages need.")
    }
    if let logprobs {
      guard GenerationOptions.topProbabilityCounts.contains(logprobs) else {
        throw ValidationError(
          "--logprobs must be in \(GenerationOptions.topProbabilityCounts), but is \(logprobs).")
      }
      guard output.format == .json else { throw ValidationError("--logprobs goes with --format json only.") }
      guard search.beams == nil else {
        throw ValidationError("--beams does not go together with --logprobs; give one of them.")
      }
    }
    if jsonSchema != nil {
      guard search.beams == nil else {
        throw ValidationError("--beams does not go together with --json-schema; give one of them.")
      }
      for (name, isGiven) in [
        ("--stop", !sampling.stop.isEmpty), ("--no-repeat-ngram", sampling.noRepeatNgram != nil),
        ("a --logit-bias of -inf", sampling.logitBias.contains { $0.amount == -.infinity }),
      ] where isGiven {
        throw ValidationError("\(name) does not go together with --json-schema, whose outputs are complete.")
      }
    }
    try exits.validate(raw: raw)
    try speculation.validate(with: exits)
    try search.validate(sampling: sampling, exits: exits, speculation: speculation)
    try caching.validate(exits: exits, search: search)
  }
}
