import ArgumentParser
import Generation

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure the speed of a model on this machine.",
    discussion: """
      Prefill is of 256 tokens. T(k) is the time of a batch of k tokens in times of one. The perplexity, of a passage \
      that is part of the program, tells the quality the speed is bought at: compare it with --compute float32.

      With --prices, what the parts of decoding cost here is measured instead and goes to a file, for \
      calibrate --prices and merge --prices.

      With --profile, where the time of a pass of 1, 4, 8 and 16 tokens goes: products with the layers' matrices, \
      attention, what is done to single rows (norms, rounding, rotation), and the unembedding, which are on the clock \
      of the calling thread, and how long that waits for the others where they join.

      Of an encoder-decoder, reading a text of 512 tokens and greedy decoding of 64 after it are measured, for one \
      text and for eight at a time.

      EXAMPLES
        egress bench
        egress bench --threads 1 --format json
        egress bench --profile
        egress bench --prices prices.json
      """)

  @OptionGroup var models: ModelOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var pricing: PriceOptions

  @Flag(help: "Print where the time of a pass goes, instead.")
  var profile = false

  func validate() throws {
    if profile, pricing.prices != nil { throw ValidationError("--profile and --prices exclude each other.") }
  }

  func run() throws {
    let model = try models.load()
    if let prices = pricing.prices { return try pricing.write(to: prices, model, models, output.format) }
    Interrupt.watch()
    if profile {
      let report = try ProfileReport(model, threads: models.threads ?? LanguageModel.defaultThreadCount)
      return try TextOutput.standard.write(report.written(as: output.format))
    }
    try TextOutput.standard.write(
      model.model.hasEncoder
        ? EncoderBenchReport(model, models).written(as: output.format)
        : BenchReport(model, models).written(as: output.format))
  }
}
