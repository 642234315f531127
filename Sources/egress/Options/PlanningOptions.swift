import ArgumentParser
import EarlyExit
import FileFormats
import Generation

/// What a plan of exits is to reach, and what it is made from.
struct PlanningOptions: ParsableArguments {
  @Option(parsing: .unconditional, help: "Share of tokens that must be the full model's, in 0...1.")
  var agreement = 0.95

  @Option(help: "ms: time measured here; bytes: weights read, the same on every machine.")
  var unit = CostUnit.ms

  @Option(parsing: .unconditional, help: "Documents to use.")
  var limit = 40

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(
    help: ArgumentHelp(
      "Exit heads that fit-exits made. (default: those that come with the program)", valueName: "file"))
  var exitHeads: String?

  @Flag(help: "Say as well what the same exits come to in bytes for models of 1 and 7 billion weights.")
  var paper = false

  func validate() throws {
    guard (0...1).contains(agreement) else {
      throw ValidationError("--agreement must be in 0...1, but is \(agreement).")
    }
    if limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
  }

  /// The exit heads that the plan is for, and their file.
  func heads(_ loaded: LoadedModel) throws -> (heads: ExitHeads, path: String) {
    let shipped = try loaded.entry.flatMap { try ShippedFiles.heads(.exits, of: $0) }
    guard let path = exitHeads ?? shipped else {
      throw ValidationError("There are no exit heads for this model; name a file with --exit-heads.")
    }
    return (try ExitHeads(path: path, modelDigest: loaded.digest()), path)
  }

  /// What the parts of decoding cost: measured, or counted.
  func costs(_ model: LanguageModel, _ heads: ExitHeads) throws -> ExitCosts {
    let decoder = model.decoder
    guard unit == .bytes else { return try ExitCosts.measured(decoder, heads: heads) }
    return ModelShape(decoder.configuration).costs(
      shortlist: heads.shortlist.count, bytesPerLayer: decoder.bytesPerLayer, head: decoder.bytesOfUnembedding
    )
  }
}
