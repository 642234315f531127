import ArgumentParser
import FileFormats
import Generation
import TensorKernels
import Transformers

/// How fast an encoder-decoder is.
struct EncoderBenchReport: Encodable {
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

  /// Measures a model.
  ///
  /// - Throws: `ExitCode` after an interruption.
  init(_ loaded: LoadedModel, _ models: ModelOptions) throws {
    var speed = EncoderSpeed(loaded.model.decoder)
    try speed.run()
    guard !Interrupt.isRequested else { throw ExitCode(Interrupt.exitCode) }
    func named(_ seconds: [Int: Double]) -> [String: Double] {
      Dictionary(uniqueKeysWithValues: seconds.map { (String($0.key), $0.value) })
    }
    model = loaded.model.name
    compute = models.compute.rawValue
    threads = models.threads ?? LanguageModel.defaultThreadCount
    instructionSet = try InstructionSet.selected().rawValue
    sourceTokens = speed.sourceCount
    outputTokens = speed.outputCount
    encodeSeconds = named(speed.encode)
    decodeSeconds = named(speed.decode)
    bytesPerToken = loaded.model.bytesPerToken
    peakResidentBytes = ProcessClock.peakResidentBytes
  }

  func written(as format: OutputOptions.Format) throws -> String {
    format == .json ? try JSONOutput.line(self) + "\n" : text
  }

  private var text: String {
    var lines = [
      "model           \(model)",
      "computed with   \(compute), \(threads) threads, \(instructionSet)",
    ]
    for size in EncoderSpeed.batchSizes {
      let (encode, decode) = (encodeSeconds[String(size)] ?? 0, decodeSeconds[String(size)] ?? 0)
      lines.append(
        "\(size) at a time     reading \(sourceTokens) tokens \(encode.formatted(places: 3)) s, "
          + "decoding \(outputTokens) \(decode.formatted(places: 3)) s")
    }
    lines += [
      "bytes a token   \(bytesPerToken.grouped)",
      "peak memory     \(peakResidentBytes.grouped) bytes",
    ]
    return lines.joined(separator: "\n") + "\n"
  }
}
