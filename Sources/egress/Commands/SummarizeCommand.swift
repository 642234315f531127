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
        egress summarize --model flan-t5-small --beams 4 article.txt
        egress summarize --input docs.jsonl --output summaries.jsonl
      """)

  @Option(
    help: ArgumentHelp(
      "What an encoder-decoder is to read before the document. (default: what its files say, or \"summarize: \")",
      valueName: "text"))
  var prefix: String?

  @OptionGroup var documents: DocumentOptions
  @OptionGroup var models: ModelOptions
  @OptionGroup var sampling: SamplingOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup var speculation: SpeculationOptions
  @OptionGroup var search: BeamOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    try speculation.validate(with: exits)
    try search.validate(sampling: sampling, exits: exits, speculation: speculation)
  }

  func run() throws {
    try DocumentReport(
      documents: documents, models: models, sampling: sampling, exits: exits, speculation: speculation,
      search: search, format: output.format, prefix: prefix,
      usualMaxTokens: DocumentTask.summarize.usualMaxTokens
    ) { _ in .summarize }.run()
  }
}
