import ArgumentParser
import FileFormats
import Transformers

/// The model that is calibrated, and how it computes.
struct CalibrationSubject: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "With --data, the model: a name, a .gguf file, or a Hugging Face directory; with a table, the file whose "
        + "SHA-256 goes "
        + "into the certificate. (default with --data: \(ModelManifest.defaultName))", valueName: "model"))
  var model: String?

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "With --data, how the model computes: quantized, 4-bit, 16-bit or float32; see summarize. (default: quantized)",
      valueName: "path"))
  var compute: ComputePath?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "With --data, bits of a number of the keys and values, 16 or 8; see summarize. (default: 16)",
      valueName: "bits"))
  var cacheBits: Int?

  @Option(
    help: ArgumentHelp(
      "With --data, a low-rank adapter to merge into the weights; see summarize.", valueName: "adapter"))
  var adapter: String?

  /// What has no meaning without --data, where it is given.
  var given: [String] {
    let all = [
      ("threads", threads != nil), ("compute", compute != nil), ("cache-bits", cacheBits != nil),
      ("adapter", adapter != nil),
    ]
    return all.filter(\.1).map(\.0)
  }

  func validate() throws {
    try ModelOptions.validate(cacheBits: cacheBits, compute: compute ?? .quantized)
  }

  /// Loads the model.
  func load() throws -> LoadedModel {
    try ModelOptions.load(
      model ?? ModelManifest.defaultName, threads: threads, compute: compute ?? .quantized,
      cacheBits: cacheBits, adapter: adapter)
  }

  /// SHA-256 of the model, which is not loaded.
  func digest() throws -> String {
    try ModelOptions.digest(of: model ?? ModelManifest.defaultName, adapter: adapter)
  }
}
