import ArgumentParser
import FileFormats
import Foundation
import Generation
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
      """)

  @OptionGroup(title: "Conversation Options") var turns: ConversationOptions
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var sampling: SamplingOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions

  /// An answer as JSON.
  private struct Answer: Encodable {
    var content: String
    var stopReason: StopReason
    var tokenIds: [Int]
    var promptTokens: Int
    /// Of those, the ones that were known from the turns before.
    var reusedTokens: Int
  }

  /// What stands in its place where there is none.
  private struct Refusal: Encodable {
    var error: String
  }

  func validate() throws {
    if turns.messages == "-" {
      throw ValidationError("--messages has to be a file: standard input has the turns.")
    }
  }

  func run() throws {
    let history = try turns.read()
    let model = try models.load().model
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
    let conversation = Conversation(
      model: model, options: sampling.makeOptions(usualMaxTokens: 1024), messages: history)
    let isTerminal = isatty(STDIN_FILENO) == 1
    if isTerminal { Console.note("a line is a message; /help tells what else there is") }
    while true {
      if isTerminal { Console.show("> ") }
      guard let line = readLine() else {
        // The shell's prompt should not stand behind this one.
        if isTerminal { Console.show("\n") }
        return
      }
      let text = line.trimmingWhitespace()
      if text == "/quit" || text == "/exit" { return }
      if line.hasPrefix("/") {
        obey(text, conversation)
      } else if !text.isEmpty {
        try answer(text, conversation)
      }
    }
  }

  private func obey(_ command: String, _ conversation: Conversation) {
    let words = command.split(separator: " ", maxSplits: 1).map(String.init)
    let rest = words.count > 1 ? words[1].trimmingWhitespace() : nil
    switch (words[0], rest) {
    case ("/reset", nil):
      conversation.reset()
      Console.note("all but the system message is forgotten")
    case ("/save", let path?): save(conversation, path)
    case ("/reset", _): Console.warning("/reset takes nothing after it")
    case ("/save", nil): Console.warning("/save needs the name of a file")
    case ("/help", nil):
      Console.note("/reset, /save FILE and /quit; a message that begins with / needs a space before it")
    default:
      Console.warning(
        "\(words[0]) is not known here; /help tells what is, and a message that begins with / needs a space before it"
      )
    }
  }

  private func save(_ conversation: Conversation, _ path: String) {
    var path = path
    if path.hasPrefix("~/"), let home = getenv("HOME") { path = String(cString: home) + path.dropFirst() }
    do {
      let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else { throw CommandError("cannot write to \(path): \(systemMessage())") }
      defer { close(descriptor) }
      try TextOutput(descriptor: descriptor, name: path).write(
        ConversationFile(conversation.messages).json())
      Console.note("\(conversation.messages.count) messages are in \(path)")
    } catch {
      Console.warning("\(error)")
    }
  }

  private func answer(_ text: String, _ conversation: Conversation) throws {
    Interrupt.watch()
    defer { Interrupt.ignoreNoMore() }
    var last: Character?
    var writing: (any Error)?
    func show(_ text: String) throws {
      guard output.format == .text, let end = text.last else { return }
      do {
        try TextOutput.standard.write(text)
      } catch {
        writing = error
        throw error
      }
      last = end
    }
    let session: DecodingSession
    do {
      session = try conversation.respond(to: text, shouldStop: { Interrupt.isRequested }) {
        try show($0.text)
      }
    } catch {
      if let writing { throw writing }
      // The conversation is as before; a shorter line, or /reset, may do.
      Console.warning("\(error)")
      if output.format == .json {
        try TextOutput.standard.write(try JSONOutput.line(Refusal(error: "\(error)")) + "\n")
      }
      return
    }
    try show(session.cancelledText)
    let generation = session.generation
    if output.format == .json {
      let answer = Answer(
        content: generation.text, stopReason: generation.stopReason, tokenIds: generation.tokenIDs,
        promptTokens: generation.promptTokenIDs.count, reusedTokens: conversation.reusedTokens)
      try TextOutput.standard.write(try JSONOutput.line(answer) + "\n")
    } else if last?.isNewline != true {
      try TextOutput.standard.write("\n")
    }
    if generation.stopReason == .contextFull { Console.warning("the context is full; /reset begins anew") }
  }
}
