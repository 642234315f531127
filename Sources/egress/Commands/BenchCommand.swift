import ArgumentParser

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure the speed of a model on this machine.",
    discussion: """
      Prefill is of 256 tokens. T(k) is the time of a batch of k tokens in times of one. The perplexity, of a passage \
      that is part of the program, tells the quality the speed is bought at: compare it with --compute float32.

      With --prices, what the parts of decoding cost here is measured instead and goes to a file, for calibrate \
      --prices.

      Of an encoder-decoder, reading a text of 512 tokens and greedy decoding of 64 after it are measured, for one \
      text and for eight at a time.

      EXAMPLES
        egress bench
        egress bench --threads 1 --format json
        egress bench --prices prices.json
      """)

  @OptionGroup var models: ModelOptions
  @OptionGroup var output: OutputOptions
  @OptionGroup var pricing: PriceOptions

  func run() throws {
    let model = try models.load()
    if let prices = pricing.prices { return try pricing.write(to: prices, model, models, output.format) }
    Interrupt.watch()
    try TextOutput.standard.write(
      model.model.hasEncoder
        ? EncoderBenchReport(model, models).written(as: output.format)
        : BenchReport(model, models).written(as: output.format))
  }
}
