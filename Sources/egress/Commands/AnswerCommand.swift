import ArgumentParser
import EarlyExit

struct AnswerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "answer",
    abstract: "Answer a question from a document.",
    discussion: """
      EXAMPLES
        egress answer --question "When was it built?" bridge.txt
        egress answer --input questions.jsonl --output answers.jsonl
      """)

  @Option(help: "The question. With --input, for documents that bring none of their own.")
  var question: String?

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
    if documents.input == nil, question == nil { throw ValidationError("Give a --question.") }
    if let question, question.allSatisfy(\.isWhitespace) {
      throw ValidationError("--question must not be empty.")
    }
  }

  func run() throws {
    try DocumentReport(
      documents: documents, models: models, sampling: sampling, exits: exits, speculation: speculation,
      search: search, format: output.format,
      usualMaxTokens: DocumentTask.answer(question: "").usualMaxTokens
    ) { recorded in
      guard let question = recorded ?? question, !question.allSatisfy(\.isWhitespace) else {
        throw CommandError("there is no question")
      }
      return .answer(question: question.trimmingWhitespace())
    }.run()
  }
}
