import ArgumentParser
import EarlyExit
import Generation
import RiskControl

struct AnswerCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "answer",
    abstract: "Answer a question from a document.",
    discussion: """
      EXAMPLES
        egress answer --question "When was it built?" bridge.txt
        egress answer --cite --question "When was it built?" bridge.txt
        egress answer --input questions.jsonl --output answers.jsonl
      """)

  /// In a group for the sake of its place in the help.
  struct Question: ParsableArguments {
    @Option(help: "The question. With --input, for documents that bring none of their own.")
    var question: String?

    @Flag(
      inversion: .prefixedNo,
      help: ArgumentHelp(
        "Let the model choose only words that stand together in the document, or not to answer.",
        discussion: "It is usual for models that are asked as the default one is, and only for these."))
    var extractive: Bool?
  }

  @OptionGroup(title: "Document Options") var asked: Question
  @OptionGroup(title: "Document Options") var documents: DocumentOptions
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
    if documents.input == nil, asked.question == nil { throw ValidationError("Give a --question.") }
    if let question = asked.question, question.allSatisfy(\.isWhitespace) {
      throw ValidationError("--question must not be empty.")
    }
  }

  func run() throws {
    var exits = exits
    // A certificate is of exits or drafts, or of answers.
    let answering = try exits.certificate.flatMap { path in
      try AnswerCertificate.read(path: path).map { (certificate: $0, path: path) }
    }
    if answering != nil {
      if auditing.audit != nil {
        throw ValidationError("--audit has no effect with a certificate of answers.")
      }
      exits.certificate = nil
    }
    try DocumentReport(
      command: Self._commandName, documents: documents, models: models, sampling: sampling, exits: exits,
      speculation: speculation,
      search: search, caching: caching, auditing: auditing, format: output.format,
      usualMaxTokens: DocumentTask.answer(question: "").usualMaxTokens,
      recordsProbabilities: true, isExtractive: asked.extractive, answering: answering
    ) { recorded in
      guard let question = recorded.question ?? asked.question, !question.allSatisfy(\.isWhitespace) else {
        throw CommandError("there is no question")
      }
      return .answer(question: question.trimmingWhitespace())
    }.run()
  }
}
