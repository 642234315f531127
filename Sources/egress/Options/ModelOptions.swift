import ArgumentParser
import Certification
import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import Transformers

/// Which model, and with how many threads.
struct ModelOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A model's name, a .gguf file, or a Hugging Face directory.", valueName: "model"))
  var model: String = ModelManifest.defaultName

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "quantized; 4-bit, 16-bit: layers that the file holds in 16 or 32 bits are rounded to 4 bits, or kept in 16, "
        + "instead of 8; float32: the slow reference path with dequantised weights.", valueName: "path"))
  var compute: ComputePath = .quantized

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Bits of a number of the keys and values, 16 or 8: with 8 they take about half the memory, for a little of the "
        + "quality. (default: 16)",
      valueName: "bits"))
  var cacheBits: Int?

  @Option(
    help: ArgumentHelp(
      "How documents are asked about: chat, examples, completion or reader. (default: what the model says, or chat; "
        + "completion without a chat template)",
      valueName: "style"))
  var prompts: PromptStyle?

  @Option(
    help: ArgumentHelp(
      "A low-rank adapter (LoRA) to merge into the weights: a directory as the PEFT library writes it, or a .gguf "
        + "file.",
      valueName: "adapter"))
  var adapter: String?

  @Flag(
    help: ArgumentHelp(
      "Keep the weights as they lie in memory once they are packed, in a file of about the model's size beside the "
        + "downloaded models: the next time the model is there at once."))
  var packedCopy = false

  func validate() throws {
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads must be in 1...256, but is \(threads).")
    }
    try Self.validate(cacheBits: cacheBits, compute: compute)
    for (name, isGiven) in [
      ("--adapter", adapter != nil), ("--compute float32", compute == .float32),
      ("--compute 16-bit", compute == .sixteenBit),
    ] where packedCopy && isGiven {
      throw ValidationError("--packed-copy does not go together with \(name); leave one of them out.")
    }
  }

  static func validate(cacheBits: Int?, compute: ComputePath) throws {
    guard let cacheBits else { return }
    guard [8, 16].contains(cacheBits) else {
      throw ValidationError("--cache-bits must be 16 or 8, but is \(cacheBits).")
    }
    guard compute != .float32 else {
      throw ValidationError("--cache-bits has no effect with --compute float32, which keeps 32.")
    }
  }

  /// Loads the model; the seconds it took are measured.
  func load() throws -> LoadedModel {
    try Self.load(
      model, threads: threads, compute: compute, cacheBits: cacheBits, prompts: prompts, adapter: adapter,
      keepsPacked: packedCopy)
  }

  /// SHA-256 of a model that is not loaded, by name or path.
  static func digest(of model: String, adapter: String? = nil) throws -> String {
    try LoadedModel.digest(path: ModelStore().resolve(model).path, adapter: adapter)
  }

  /// Loads a model by name or path.
  static func load(
    _ model: String, threads: Int?, compute: ComputePath = .quantized, cacheBits: Int? = nil,
    prompts: PromptStyle? = nil, adapter: String? = nil, keepsPacked: Bool = false
  ) throws -> LoadedModel {
    let store = try ModelStore()
    let (path, entry) = try store.resolve(model)
    let packedCopy = keepsPacked ? try store.packedCopy(of: path, compute) : nil
    if let packedCopy, !FileManager.default.fileExists(atPath: packedCopy) {
      Console.note("the packed weights are kept in \(packedCopy)")
    }
    let start = ContinuousClock.now
    let loaded = try LanguageModel(
      path: path, compute: compute, cacheBits: cacheBits, threads: threads, promptTemplate: entry?.template,
      promptStyle: prompts ?? entry?.prompts, adapter: adapter, packedCopy: packedCopy)
    for note in loaded.notes { Console.warning(note) }
    return LoadedModel(
      // What comes with a model was made for it as it is.
      model: loaded, path: path, adapter: adapter, entry: adapter == nil ? entry : nil,
      seconds: (ContinuousClock.now - start).seconds)
  }
}

/// A model in memory.
struct LoadedModel {
  var model: LanguageModel
  var path: String
  /// The adapter that is merged into it.
  var adapter: String?
  /// The manifest's entry, if the model was given by name.
  var entry: ModelEntry?
  /// Time it took to load.
  var seconds: Double
  private let found = Found()

  init(model: LanguageModel, path: String, adapter: String? = nil, entry: ModelEntry?, seconds: Double) {
    self.adapter = adapter
    self.model = model
    self.path = path
    self.entry = entry
    self.seconds = seconds
  }

  /// SHA-256 of the model's file or directory, and of its adapter's; read once however often it is asked for.
  func digest() throws -> String {
    if let digest = found.digest { return digest }
    let digest = try Self.digest(path: path, adapter: adapter)
    found.digest = digest
    return digest
  }

  fileprivate static func digest(path: String, adapter: String?) throws -> String {
    let digest = try FileDigest.sha256(model: path)
    guard let adapter else { return digest }
    return FileDigest.sha256(
      text: "\(digest)  model\n\(try FileDigest.sha256(model: adapter))  adapter\n")
  }

  /// The model with the digests that certificates know it by.
  ///
  /// - Parameters:
  ///   - policy: Which exit heads; `nil` for none.
  ///   - draft: What drafts for it.
  func subject(_ policy: ExitPolicyOptions? = nil, draft: LoadedDraft? = nil) throws -> DecodingSubject {
    DecodingSubject(
      model: model, modelDigest: try digest(), heads: try policy?.loadHeads(self),
      headsDigest: try policy?.headsDigest(self), draft: try draft?.subject())
  }

  private final class Found {
    var digest: String?
  }
}

extension ComputePath: ExpressibleByArgument {}
extension PromptStyle: ExpressibleByArgument {}
extension LongDocumentRule: ExpressibleByArgument {}

/// How a result is written.
struct OutputOptions: ParsableArguments {
  enum Format: String, ExpressibleByArgument, CaseIterable {
    case text, json
  }

  @Option(help: "text, or json: one object on one line.")
  var format: Format = .text
}
