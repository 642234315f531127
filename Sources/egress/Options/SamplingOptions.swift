import ArgumentParser
import EarlyExit
import Generation

/// How text is generated.
struct SamplingOptions: ParsableArguments {
  @Option(
    parsing: .unconditional, help: "The most tokens to generate. (default: 256; summarize: 160, answer: 48)")
  var maxTokens: Int?

  @Option(
    parsing: .unconditional, help: "Above 0, tokens are drawn at random; at 0 the most probable one is taken."
  )
  var temperature: Float = 0

  @Option(parsing: .unconditional, help: "Draw from the k most probable tokens only.")
  var topK: Int?

  @Option(parsing: .unconditional, help: "Draw from the fewest tokens whose probabilities reach p.")
  var topP: Float?

  @Option(
    parsing: .unconditional, help: "Draw from tokens at least p times as probable as the most probable one.")
  var minP: Float?

  @Option(
    parsing: .unconditional,
    help: "Where the random numbers start; the same seed gives the same output. (default: another each time)")
  var seed: UInt64?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("No run of so many tokens may come twice in the output, 1 to 100.", valueName: "n"))
  var noRepeatNgram: Int?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Make tokens of prompt and output less likely: logits above 0 are divided by it, others multiplied.",
      valueName: "factor"))
  var repeatPenalty: Float = 1

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Taken from a token's logit for each time that the output has it.", valueName: "amount"))
  var frequencyPenalty: Float = 0

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp("Taken once from the logits of tokens that the output has.", valueName: "amount"))
  var presencePenalty: Float = 0

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "Add a number to a token's logit; -inf forbids it. May be given again.", valueName: "token=number"))
  var logitBias: [LogitBias] = []

  @Option(help: ArgumentHelp("End the output before this text. May be given again.", valueName: "text"))
  var stop: [String] = []

  @Option(
    parsing: .unconditional,
    help: "Tokens that prompt and output may have together. (default: as many as the model can)")
  var context: Int?

  func validate() throws {
    if let maxTokens, maxTokens < 1 {
      throw ValidationError("--max-tokens must be at least 1, but is \(maxTokens).")
    }
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature must be 0 or above, but is \(temperature).")
    }
    if let topK, topK < 1 { throw ValidationError("--top-k must be at least 1, but is \(topK).") }
    if let topP, !(topP > 0 && topP <= 1) {
      throw ValidationError("--top-p must be above 0 and at most 1, but is \(topP).")
    }
    if let minP, !(minP >= 0 && minP <= 1) {
      throw ValidationError("--min-p must be in 0...1, but is \(minP).")
    }
    if temperature == 0 {
      for (name, isGiven) in [("top-k", topK != nil), ("top-p", topP != nil), ("min-p", minP != nil)]
      where isGiven {
        throw ValidationError("--\(name) has no effect without a --temperature above 0.")
      }
    }
    if let noRepeatNgram, !GenerationOptions.ngramLengths.contains(noRepeatNgram) {
      throw ValidationError(
        "--no-repeat-ngram must be in \(GenerationOptions.ngramLengths), but is \(noRepeatNgram).")
    }
    guard repeatPenalty > 0, repeatPenalty.isFinite else {
      throw ValidationError("--repeat-penalty must be above 0, but is \(repeatPenalty).")
    }
    for (name, value) in [("frequency-penalty", frequencyPenalty), ("presence-penalty", presencePenalty)]
    where !value.isFinite {
      throw ValidationError("--\(name) must be a number, but is \(value).")
    }
    if Set(logitBias.map(\.token)).count < logitBias.count {
      throw ValidationError("--logit-bias names a token twice.")
    }
    if stop.contains("") { throw ValidationError("--stop must not be empty.") }
    if let context, context < 2 { throw ValidationError("--context must be at least 2, but is \(context).") }
  }

  /// Penalties and biases.
  var adjustments: LogitAdjustments {
    LogitAdjustments(
      repeatPenalty: repeatPenalty, frequencyPenalty: frequencyPenalty, presencePenalty: presencePenalty,
      bias: Dictionary(logitBias.map { ($0.token, $0.amount) }) { $1 })
  }

  /// The options for the library. Without a seed, one is drawn and can be read from the result.
  func makeOptions(usualMaxTokens: Int) -> GenerationOptions {
    var sampling = Sampling.greedy
    if temperature > 0 {
      sampling = .random(
        RandomSampling(
          temperature: temperature, topK: topK, topP: topP, minP: minP,
          // Small enough for every reader of JSON.
          seed: seed ?? UInt64(UInt32.random(in: 0...UInt32.max))))
    }
    var options = GenerationOptions(
      maxTokens: maxTokens ?? usualMaxTokens, sampling: sampling, stopStrings: stop, context: context)
    options.noRepeatNgram = noRepeatNgram
    options.adjustments = adjustments
    return options
  }
}
