import ArgumentParser
import FileFormats

struct EvaluateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract:
      "Compare decoding with early exits or drafts with full depth, on documents not used for calibration.",
    discussion: """
      Every document is decoded both ways in one process, one right after the other, first the one and then the other \
      by turns, so that what slows the machine down slows down both. Times are of decoding, the prompt's pass apart. \
      With --shard, egress merge prints the result.

      EXAMPLES
        egress evaluate --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --model LARGE --draft SMALL --certificate docs.certificate.json --data heldout.jsonl
        egress evaluate --drafter auto --data heldout.jsonl
        egress evaluate --exit-threshold 0.9 --exit-layers 18,24 --data heldout.jsonl --metric token-f1
      """)

  @OptionGroup(title: "Documents") var documents: EvaluationDocuments
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions

  func validate() throws {
    guard exits.isGiven || exits.promptDepth != nil || speculation.isActive else {
      throw ValidationError(
        "Give a --certificate, an --exit-threshold or a --prompt-depth, or a --drafter or a --draft.")
    }
    try speculation.validate(with: exits)
    if exits.trace != nil || exits.showExits || speculation.showDrafts {
      throw ValidationError(
        "--trace, --show-exits and --show-drafts take one document; use them with summarize or answer.")
    }
    try documents.validate(with: exits, speculation)
  }

  func run() throws {
    let work = EvaluationRun(documents: documents, models: models, exits: exits, speculation: speculation)
    if let shard = try documents.sharding.chosen() {
      return try ShardFailure.classifying { try work.run(shard, command: Self._commandName) }
    }
    let (result, isWhole) = try work.run()
    guard let result else { throw ExitCode(Interrupt.exitCode) }
    try TextOutput.standard.write(
      output.format == .json ? try JSONOutput.line(result) + "\n" : result.text)
    if !isWhole { throw ExitCode(Interrupt.exitCode) }
  }
}
