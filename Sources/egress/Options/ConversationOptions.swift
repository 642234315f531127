import ArgumentParser
import Generation

/// What was said before.
struct ConversationOptions: ParsableArguments {
  @Option(help: ArgumentHelp("What the conversation begins with, as its system message.", valueName: "text"))
  var system: String?

  @Option(
    help: ArgumentHelp(
      "A conversation to go on with, as JSON: a list of messages with role and content.", valueName: "file"))
  var messages: String?

  var isGiven: Bool { system != nil || messages != nil }

  /// The messages of both, the system message first.
  func read() throws -> [ChatMessage] {
    var turns: [ChatMessage] = []
    if let messages {
      let input = try TextInput.document(path: messages)
      turns = try ConversationFile(json: Array(input.text.utf8), file: input.name).messages
    }
    if let system {
      guard turns.first?.role != "system" else {
        throw CommandError(
          "--system, and a system message in \(messages ?? "the conversation"): one of them has to go")
      }
      turns.insert(ChatMessage(role: "system", content: system), at: 0)
    }
    return turns
  }

  /// The messages with one more after them, from the command line or standard input, and its text as it came.
  ///
  /// - Parameters:
  ///   - prompt: The message; `nil` and - for standard input.
  ///   - isRaw: A raw prompt counts to the last space; a message ends where its text does.
  func read(with prompt: String?, isRaw: Bool) throws -> (messages: [ChatMessage], text: String) {
    let before = try read()
    guard messages == nil else { return (before, "") }
    var text = prompt ?? "-"
    if text == "-" {
      text = try isRaw ? TextInput(path: prompt).text : TextInput.document(path: prompt).text
      guard !text.isEmpty else { throw CommandError("standard input is empty") }
    }
    return (before + [ChatMessage(role: "user", content: text.trimmingWhitespace())], text)
  }

  func check(_ model: LoadedModel) throws {
    guard !isGiven || !model.model.hasEncoder else {
      throw CommandError(
        "\(model.model.name) reads one text alone; --system and --messages are for other models")
    }
  }
}
