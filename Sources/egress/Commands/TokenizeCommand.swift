import ArgumentParser
import Checkpoints
import EarlyExit
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

struct DetokenizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detokenize",
    abstract: "Turn token numbers into the text they stand for.",
    discussion: """
      Numbers may stand between anything that is not a digit, so that the output of tokenize can be piped in, as text \
      or as JSON. The text is written to the last byte, with nothing added.

      EXAMPLES
        egress detokenize 19556 28 905 17
        egress tokenize article.txt | egress detokenize
      """)

  private struct Result: Encodable {
    var text: String
  }

  @Argument(help: "Token numbers; - or nothing reads them from standard input.")
  var tokens: [String] = []

  @OptionGroup var vocabulary: VocabularyOptions
  @OptionGroup var output: OutputOptions

  func run() throws {
    let ids: [TokenID]
    if tokens.isEmpty || tokens == ["-"] {
      ids = try Self.numbers(in: TextInput(path: tokens.first).text)
    } else {
      ids = try tokens.map { token in
        guard let id = TokenID(token) else { throw ValidationError("'\(token)' is not a token number.") }
        return id
      }
    }
    let tokenizer = try vocabulary.open().tokenizer
    var bytes: [UInt8] = []
    var startsText = true
    for id in ids { bytes += try tokenizer.bytes(of: id, startsText: &startsText) }
    if output.format == .json {
      let text = String(decoding: bytes, as: UTF8.self)
      try TextOutput.standard.write(try JSONOutput.line(Result(text: text)) + "\n")
    } else {
      try TextOutput.standard.write(bytes)
    }
  }

  private static func numbers(in text: String) throws -> [TokenID] {
    let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
    return try text.utf8.split { !digits.contains($0) && $0 != UInt8(ascii: "-") }.map { part in
      guard let id = TokenID(Substring(part)) else {
        throw CommandError("'\(Substring(part))' is not a token number")
      }
      return id
    }
  }
}

/// A model of which only the vocabulary is needed: its weights are not looked at.
struct VocabularyOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "A model's name, a .gguf file, or a Hugging Face directory.", valueName: "model"))
  var model: String = ModelManifest.defaultName

  func open() throws -> TextFacts {
    let checkpoint = try Checkpoint.open(ModelStore().resolve(model).path)
    let facts = try TextFacts(checkpoint)
    for note in checkpoint.notes + facts.notes { Console.warning(note) }
    return facts
  }
}
