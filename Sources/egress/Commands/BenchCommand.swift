import ArgumentParser
import EarlyExit
import FileFormats
import Generation
import TensorKernels
import Transformers

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

  private struct Result: Encodable {
    var model: String
    var compute: String
    var threads: Int
    var instructionSet: String
    /// Rows up to which a token's logits do not depend, to the bit, on the batch it is in; `nil` for any number.
    var batchInvariantUpTo: Int?
    var perplexity: Double
    /// Seconds.
    var load: Double
    /// Seconds from the start of the process to the first token of a prompt of 256.
    var firstToken: Double?
    var prefillTokensPerSecond: Double
    var decodeTokensPerSecond: Double
    /// Seconds of a batch, by its size, and the same in batches of one.
    var batchSeconds: [String: Double]
    var batchCost: [String: Double]
    /// Bytes of weights that decoding one token reads, and what that comes to in 10^9 bytes a second.
    var bytesPerToken: Int
    var gigabytesPerSecond: Double
    var peakResidentBytes: Int
  }

  /// Written for this purpose, in plain words.
  private static let passage = """
    The harbour was built in three stages. First came a wall of rough stone, laid by hand along the rocks, which kept \
    the worst of the winter storms from the boats. Some years later the town added a pier, so that goods could be \
    carried ashore at any tide. The last part, a small lighthouse with a red lamp, was paid for by the owners of the \
    fishing fleet after two boats had been lost in fog. It is still lit every evening, although most of the boats \
    that enter now belong to visitors.
    """

  func run() throws {
    let model = try models.load()
    if let prices = pricing.prices { return try pricing.write(to: prices, model, models, output.format) }
    Interrupt.watch()
    let decoder = model.model.decoder
    if model.model.hasEncoder { return try runEncoderDecoder(model) }
    var speed = SpeedMeasurement(decoder)
    try speed.run()
    guard !Interrupt.isRequested,
      let score = try model.model.score(Self.passage, shouldStop: { Interrupt.isRequested }),
      let single = speed.batch[1]
    else { throw ExitCode(Interrupt.exitCode) }
    let bytes = decoder.bytesPerLayer * decoder.configuration.layerCount + decoder.bytesOfUnembedding
    let named = speed.batch.map { (String($0.key), $0.value) }
    let result = Result(
      model: model.model.name, compute: models.compute.rawValue,
      threads: models.threads ?? LanguageModel.defaultThreadCount,
      instructionSet: try InstructionSet.selected().rawValue,
      batchInvariantUpTo: decoder.invariantBatchLimit == .max ? nil : decoder.invariantBatchLimit,
      perplexity: score.perplexity, load: model.seconds,
      firstToken: speed.firstToken,
      prefillTokensPerSecond: Double(SpeedMeasurement.promptCount) / speed.prefill,
      decodeTokensPerSecond: 1 / single, batchSeconds: Dictionary(uniqueKeysWithValues: named),
      batchCost: Dictionary(uniqueKeysWithValues: named.map { ($0.0, $0.1 / single) }),
      bytesPerToken: bytes, gigabytesPerSecond: Double(bytes) / single / 1e9,
      peakResidentBytes: ProcessClock.peakResidentBytes)
    try TextOutput.standard.write(
      output.format == .json ? try JSONOutput.line(result) + "\n" : Self.text(result))
  }

  /// What is measured of an encoder-decoder.
  private struct EncoderResult: Encodable {
    var model: String
    var compute: String
    var threads: Int
    var instructionSet: String
    var sourceTokens: Int
    var outputTokens: Int
    /// Seconds, by the number of texts.
    var encodeSeconds: [String: Double]
    var decodeSeconds: [String: Double]
    /// Bytes of weights that decoding one token reads.
    var bytesPerToken: Int
    var peakResidentBytes: Int
  }

  private func runEncoderDecoder(_ model: LoadedModel) throws {
    let decoder = model.model.decoder
    var speed = EncoderSpeed(decoder)
    try speed.run()
    guard !Interrupt.isRequested else { throw ExitCode(Interrupt.exitCode) }
    func named(_ seconds: [Int: Double]) -> [String: Double] {
      Dictionary(uniqueKeysWithValues: seconds.map { (String($0.key), $0.value) })
    }
    let result = EncoderResult(
      model: model.model.name, compute: models.compute.rawValue,
      threads: models.threads ?? LanguageModel.defaultThreadCount,
      instructionSet: try InstructionSet.selected().rawValue, sourceTokens: speed.sourceCount,
      outputTokens: speed.outputCount, encodeSeconds: named(speed.encode),
      decodeSeconds: named(speed.decode),
      bytesPerToken: decoder.bytesPerLayer * decoder.configuration.layerCount + decoder.bytesOfUnembedding,
      peakResidentBytes: ProcessClock.peakResidentBytes)
    if output.format == .json {
      try TextOutput.standard.write(try JSONOutput.line(result) + "\n")
      return
    }
    var lines = [
      "model           \(result.model)",
      "computed with   \(result.compute), \(result.threads) threads, \(result.instructionSet)",
    ]
    for size in EncoderSpeed.batchSizes {
      let (encode, decode) = (speed.encode[size] ?? 0, speed.decode[size] ?? 0)
      lines.append(
        "\(size) at a time     reading \(result.sourceTokens) tokens \(encode.formatted(places: 3)) s, "
          + "decoding \(result.outputTokens) \(decode.formatted(places: 3)) s")
    }
    lines += [
      "bytes a token   \(result.bytesPerToken.grouped)",
      "peak memory     \(result.peakResidentBytes.grouped) bytes",
    ]
    try TextOutput.standard.write(lines.joined(separator: "\n") + "\n")
  }

  private static func text(_ result: Result) -> String {
    let costs = SpeedMeasurement.batchSizes.map {
      "T(\($0)) \((result.batchCost[String($0)] ?? 0).formatted(places: 2))"
    }
    let exact = result.batchInvariantUpTo.map { "of up to \($0)" } ?? "of any size"
    return """
      model           \(result.model)
      computed with   \(result.compute), \(result.threads) threads, \(result.instructionSet)
      quality         perplexity \(result.perplexity.formatted(places: 3)) of a fixed passage; \
      batches \(exact) give the logits of single tokens, to the bit
      load            \(result.load.formatted(places: 3)) s
      first token     \(result.firstToken.map { $0.formatted(places: 2) + " s" } ?? "not known") \
      from the start of the process, prompt of \(SpeedMeasurement.promptCount) tokens
      prefill         \(result.prefillTokensPerSecond.formatted(places: 0)) tokens/s
      decode          \(result.decodeTokensPerSecond.formatted(places: 1)) tokens/s
      batches         \(costs.joined(separator: ", "))
      bytes a token   \(result.bytesPerToken.grouped), \(result.gigabytesPerSecond.formatted(places: 1)) GB/s
      peak memory     \(result.peakResidentBytes.grouped) bytes

      """
  }
}
