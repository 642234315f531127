import ArgumentParser
import EarlyExit
import Generation

struct SummarizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "summarize",
    abstract: "Summarise a document.",
    discussion: """
      EXAMPLES
        egress summarize article.txt
        pdftotext paper.pdf - | egress summarize -
        egress summarize --format json --max-tokens 60 article.txt
        egress summarize --sentences 2 --focus "the building" article.txt
        egress summarize --model flan-t5-small --beams 4 article.txt
        egress summarize --input docs.jsonl --output summaries.jsonl
      """)

  /// In a group for the sake of its place in the help.
  struct Prefix: ParsableArguments {
    @Option(
      help: ArgumentHelp(
        "What an encoder-decoder is to read before the document. (default: what its files say, or \"summarize: \")",
        valueName: "text"))
    var prefix: String?
  }

  @OptionGroup(title: "Document Options") var documents: DocumentOptions
  @OptionGroup(title: "Document Options") var wanted: SummaryOptions
  @OptionGroup(title: "Document Options") var reading: Prefix
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Model Options") var caching: PromptCacheOptions
  @OptionGroup(title: "Output Options") var sampling: SamplingOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Early Exit Options") var auditing: AuditOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions
  @OptionGroup(title: "Beam Search Options") var search: BeamOptions

  func validate() throws {
    try exits.validate(raw: documents.raw)
    try speculation.validate(with: exits)
    try auditing.validate(with: exits)
    try search.validate(sampling: sampling, exits: exits, speculation: speculation)
    try caching.validate(exits: exits, search: search, documents: documents)
  }

  func run() throws {
    try DocumentReport(
      command: Self._commandName, documents: documents, models: models, sampling: sampling, exits: exits,
      speculation: speculation,
      search: search, caching: caching, auditing: auditing, format: output.format, prefix: reading.prefix,
      usualMaxTokens: DocumentTask.summary(wanted.request).usualMaxTokens
    ) { recorded in
      var request = wanted.request
      request.focus = recorded.focus ?? request.focus
      return .summary(request)
    }.run()
  }
}
