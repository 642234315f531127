import ArgumentParser
import Certification
import Generation
import SpeculativeDecoding
import Transformers

struct ChatCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Talk with a model, several turns long.",
    discussion: """
      A line is a message. What was said stays in memory, so that an answer begins as soon as the new line is read.
      Ctrl-C stops the answer; what came of it stays part of the conversation.

        /reset       forget everything but the system message
        /save FILE   write the conversation as JSON, which --messages reads
        /quit        end, as the end of the input does

      A message that begins with / needs a space before it.

      EXAMPLES
        egress chat --model smollm2-135m-instruct
        egress chat --model model.gguf --system "Answer in one sentence." --temperature 0.7
        egress chat --model model.gguf --messages before.json
        egress chat --model model.gguf --drafter auto
      """)

  @OptionGroup(title: "Conversation Options") var turns: ConversationOptions
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var sampling: SamplingOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions
  @OptionGroup(title: "Drafting Options") var speculation: SpeculationOptions

  func validate() throws {
    if speculation.showDrafts { throw ValidationError("--show-drafts has no effect in a conversation.") }
    if case .rollback = speculation.rule, sampling.temperature > 0 {
      throw ValidationError(
        "--temperature goes with drafts that change no output: give --exact, or leave --temperature out.")
    }
    if turns.messages == "-" {
      throw ValidationError("--messages has to be a file: standard input has the turns.")
    }
  }

  func run() throws {
    let history = try turns.read()
    let loaded = try models.load()
    let model = loaded.model
    guard !model.hasEncoder else {
      throw CommandError("\(model.name) reads one text at a time: generate, summarize and answer are for it")
    }
    // Better now than after the first line.
    do {
      _ = try model.prompt(messages: history + [ChatMessage(role: "user", content: "a")])
    } catch GenerationError.unknownPromptTemplate(let name, let found) {
      throw CommandError(
        "\(name) has no prompt template that is known (\(found)), so that it cannot talk; generate --raw "
          + "continues a text"
      )
    }
    if model.promptStyle == .reader {
      Console.warning(
        "\(model.name) was trained to read documents, not to talk; smollm2-135m-instruct and larger models do"
      )
    }
    let options = sampling.makeOptions(usualMaxTokens: 1024)
    let strategy = try speculation.strategy(
      loaded, threads: models.threads, exits: ExitOptions.parse([]), exitStrategy: nil,
      regime: DecodingRegime(tasks: [], options: options, maxTokens: sampling.maxTokens))
    let conversation = Conversation(model: model, options: options, strategy: strategy, messages: history)
    try ChatLoop(conversation: conversation, format: output.format).run()
  }
}
