import ArgumentParser
import EarlyExit

struct SummarizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "summarize",
    abstract: "Summarise a document.",
    discussion: """
      EXAMPLES
        egress summarize article.txt
        pdftotext paper.pdf - | egress summarize -
        egress summarize --format json --max-tokens 60 article.txt
        egress summarize --input docs.jsonl --output summaries.jsonl
      """)

  @OptionGroup(title: "Document Options") var documents: DocumentOptions
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var sampling: SamplingOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions

  func validate() throws {
    try speculation.validate(with: exits)
  }

  func run() throws {
    try DocumentReport(
      documents: documents, models: models, sampling: sampling, exits: exits, speculation: speculation,
      format: output.format,
      usualMaxTokens: DocumentTask.summarize.usualMaxTokens
    ) { _ in .summarize }.run()
  }
}
