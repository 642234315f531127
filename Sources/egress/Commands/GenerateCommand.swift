import ArgumentParser
import Certification
import EarlyExit
import Generation

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Answer a message, or continue a text.",
    discussion: """
      EXAMPLES
        egress generate "Name three rivers in Africa."
        egress generate --temperature 0.8 --top-p 0.95 --seed 7 "Write a haiku about rain."
        egress generate --system "Answer in French." "Name three rivers."
        egress generate --messages conversation.json --format json --logprobs 3
        egress generate --json-schema schema.json "Name a river in Africa and its length."
        egress generate --raw "The capital of France is"
        egress generate --raw --special - < prompt-with-markers.txt
      """)

  @Argument(help: "The message; - or nothing reads standard input.")
  var prompt: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Tell with --format json the log-probability of each token, and the n most probable ones in its place.",
      valueName: "n"))
  var logprobs: Int?

  @Option(
    help: ArgumentHelp(
      "Hold the output to a JSON Schema: it is JSON, complete and valid. A file, or {} for any value.",
      valueName: "file"))
  var jsonSchema: String?

  @Flag(help: "Give the text to the model as it is, without its prompt template.")
  var raw = false

  @Flag(help: "With --raw, text that spells a special token becomes that token.")
  var special = false

  @OptionGroup(title: "Conversation Options") var turns: ConversationOptions
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Model Options") var caching: PromptCacheOptions
  @OptionGroup(title: "Output Options") var sampling: SamplingOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Early Exit Options") var exits: ExitOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions
  @OptionGroup(title: "Beam Search Options") var search: BeamOptions

  func run() throws {
    var options = sampling.makeOptions(usualMaxTokens: 256)
    options.topProbabilities = logprobs
    let (messages, text) = try turns.read(with: prompt, isRaw: raw)
    let model = try models.load()
    try turns.check(model)
    if let jsonSchema { options.grammar = try model.grammar(schema: jsonSchema) }
    let regime = DecodingRegime(tasks: [], options: options, maxTokens: sampling.maxTokens)
    let exitStrategy = try speculation.exitStrategy(exits, model, regime: regime)
    options.promptDepth = exits.promptDepth
    options.promptCache = try caching.open(for: model)
    Interrupt.watch()
    let tokens =
      try raw
      ? model.model.prompt(raw: text, special: special ? .recognize : .asText)
      : model.model.prompt(messages: messages)
    let strategy =
      try search.strategy
      ?? speculation.strategy(
        model, threads: models.threads, exits: exits, exitStrategy: exitStrategy, regime: regime)
    let session = try model.model.makeSession(
      prompt: tokens, options: options, strategy: strategy, shouldStop: { Interrupt.isRequested })
    try GenerationReport(
      model: model, format: output.format, options: options, exits: exits, showsDrafts: speculation.showDrafts
    ).run(session)
    try options.promptCache?.settle(session)
  }
}
