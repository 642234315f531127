import ArgumentParser
import FileFormats
import Generation
import TensorKernels
import Transformers

/// How fast a model is, with its quality.
struct BenchReport: Encodable {
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
  /// Bits of a number of the keys and values, and their bytes for a token of the context.
  var cacheBits: Int
  var cacheBytesPerToken: Int
  /// Bytes of weights that decoding one token reads, and what that comes to in 10^9 bytes a second.
  var bytesPerToken: Int
  var gigabytesPerSecond: Double
  /// What a plain read of the same bytes by the same threads comes to.
  var readGigabytesPerSecond: Double?
  var peakResidentBytes: Int

  /// Written for this purpose, in plain words.
  private static let passage = """
    The harbour was built in three stages. First came a wall of rough stone, laid by hand along the rocks, which kept \
    the worst of the winter storms from the boats. Some years later the town added a pier, so that goods could be \
    carried ashore at any tide. The last part, a small lighthouse with a red lamp, was paid for by the owners of the \
    fishing fleet after two boats had been lost in fog. It is still lit every evening, although most of the boats \
    that enter now belong to visitors.
    """

  /// Measures a model.
  ///
  /// - Throws: `ExitCode` after an interruption.
  init(_ loaded: LoadedModel, _ models: ModelOptions) throws {
    let decoder = loaded.model.decoder
    var speed = SpeedMeasurement(decoder)
    try speed.run()
    guard !Interrupt.isRequested,
      let score = try loaded.model.score(Self.passage, shouldStop: { Interrupt.isRequested }),
      let single = speed.batch[1]
    else { throw ExitCode(Interrupt.exitCode) }
    let named = speed.batch.map { (String($0.key), $0.value) }
    model = loaded.model.name
    compute = models.compute.rawValue
    threads = models.threads ?? LanguageModel.defaultThreadCount
    instructionSet = try InstructionSet.selected().rawValue
    batchInvariantUpTo = decoder.invariantBatchLimit == .max ? nil : decoder.invariantBatchLimit
    perplexity = score.perplexity
    load = loaded.seconds
    firstToken = speed.firstToken
    prefillTokensPerSecond = Double(SpeedMeasurement.promptCount) / speed.prefill
    decodeTokensPerSecond = 1 / single
    batchSeconds = Dictionary(uniqueKeysWithValues: named)
    batchCost = Dictionary(uniqueKeysWithValues: named.map { ($0.0, $0.1 / single) })
    cacheBits = loaded.model.cacheBits
    // Room for positions is given by sixteens.
    cacheBytesPerToken = try decoder.makeCache(capacity: 16).byteCount / 16
    bytesPerToken = loaded.model.bytesPerToken
    gigabytesPerSecond = Double(bytesPerToken) / single / 1e9
    readGigabytesPerSecond = speed.reading.map { [bytesPerToken] in Double(bytesPerToken) / $0 / 1e9 }
    peakResidentBytes = ProcessClock.peakResidentBytes
  }

  func written(as format: OutputOptions.Format) throws -> String {
    format == .json ? try JSONOutput.line(self) + "\n" : text
  }

  private var text: String {
    let costs = SpeedMeasurement.batchSizes.map {
      "T(\($0)) \((batchCost[String($0)] ?? 0).formatted(places: 2))"
    }
    let share =
      readGigabytesPerSecond.map {
        ", \((100 * gigabytesPerSecond / $0).formatted(places: 0)) % of what a plain read gives, "
          + "\($0.formatted(places: 1))"
      } ?? ""
    let exact = batchInvariantUpTo.map { "of up to \($0)" } ?? "of any size"
    return """
      model           \(model)
      computed with   \(compute), \(threads) threads, \(instructionSet)
      quality         perplexity \(perplexity.formatted(places: 3)) of a fixed passage; \
      batches \(exact) give the logits of single tokens, to the bit
      load            \(load.formatted(places: 3)) s
      first token     \(firstToken.map { $0.formatted(places: 2) + " s" } ?? "not known") \
      from the start of the process, prompt of \(SpeedMeasurement.promptCount) tokens
      prefill         \(prefillTokensPerSecond.formatted(places: 0)) tokens/s
      decode          \(decodeTokensPerSecond.formatted(places: 1)) tokens/s
      batches         \(costs.joined(separator: ", "))
      bytes a token   \(bytesPerToken.grouped), \(gigabytesPerSecond.formatted(places: 1)) GB/s\(share)
      cache           \(cacheBytesPerToken.grouped) bytes a token, numbers of \(cacheBits) bits
      peak memory     \(peakResidentBytes.grouped) bytes

      """
  }
}
