import FileFormats
import Foundation
import Generation
import Transformers

/// Reads messages line by line and answers them.
struct ChatLoop {
  let conversation: Conversation
  let format: OutputOptions.Format

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

  /// Goes on to the end of the input, or to /quit.
  func run() throws {
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
        obey(text)
      } else if !text.isEmpty {
        try answer(text)
      }
    }
  }

  private func obey(_ command: String) {
    let words = command.split(separator: " ", maxSplits: 1).map(String.init)
    let rest = words.count > 1 ? words[1].trimmingWhitespace() : nil
    switch (words[0], rest) {
    case ("/reset", nil):
      conversation.reset()
      Console.note("all but the system message is forgotten")
    case ("/save", let path?): save(path)
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

  private func save(_ path: String) {
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

  private func answer(_ text: String) throws {
    Interrupt.watch()
    defer { Interrupt.ignoreNoMore() }
    var last: Character?
    var writing: (any Error)?
    func show(_ text: String) throws {
      guard format == .text, let end = text.last else { return }
      do {
        try TextOutput.standard.write(text)
      } catch {
        writing = error
        throw error
      }
      last = end
    }
    let session: any GenerationSession
    do {
      session = try conversation.respond(to: text, shouldStop: { Interrupt.isRequested }) {
        try show($0.text)
      }
    } catch {
      if let writing { throw writing }
      // The conversation is as before; a shorter line, or /reset, may do.
      Console.warning("\(error)")
      if format == .json {
        try TextOutput.standard.write(try JSONOutput.line(Refusal(error: "\(error)")) + "\n")
      }
      return
    }
    try show(session.cancelledText)
    let generation = session.generation
    if format == .json {
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
