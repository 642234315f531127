import ArgumentParser
import FileFormats
import Generation
import Transformers

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
