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
}
