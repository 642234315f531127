import ArgumentParser
import FileFormats
import Generation
import Transformers

struct TokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Turn a text into token numbers.",
    discussion: """
      The text is taken to the last byte, a line's end included.

      EXAMPLES
        printf 'Hello, world!' | egress tokenize -
        egress tokenize --format json article.txt
      """)

  private struct Result: Encodable {
    var tokenIds: [TokenID]
  }

  @Argument(help: "The text; - or nothing reads standard input.")
  var file: String?

  @Flag(help: "Text that spells a special token becomes that token.")
  var special = false

  @OptionGroup var vocabulary: VocabularyOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let input = try TextInput(path: file)
    let tokens = try vocabulary.open().tokenizer.encode(input.text, special: special ? .recognize : .asText)
    let text =
      output.format == .json
      ? try JSONOutput.line(Result(tokenIds: tokens)) : tokens.map(String.init).joined(separator: " ")
    try TextOutput.standard.write(text + "\n")
  }
}
