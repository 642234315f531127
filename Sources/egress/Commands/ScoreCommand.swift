import ArgumentParser
import EarlyExit
import FileFormats
import Transformers

struct ScoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score",
    abstract: "Show how probable the model finds each token of a text.",
    discussion: """
      Log-probabilities are natural logarithms, of every token after the first. The text is taken to the last byte, \
      a line's end included, and without a prompt template.

      EXAMPLES
        egress score article.txt
        egress score --compute float32 --format json article.txt
      """)

  private struct Result: Encodable {
    var tokenIds: [TokenID]
    var logprobs: [Double]
    var perplexity: Double
  }

  @Argument(help: "The text; - or nothing reads standard input.")
  var file: String?

  @Flag(help: "Text that spells a special token becomes that token.")
  var special = false

  @Option(parsing: .unconditional, help: "Tokens the text may have. (default: as many as the model can)")
  var context: Int?

  @OptionGroup var models: ModelOptions
  @OptionGroup var output: OutputOptions

  func validate() throws {
    if let context, context < 2 { throw ValidationError("--context must be at least 2, but is \(context).") }
  }

  func run() throws {
    let input = try TextInput(path: file)
    guard !input.text.isEmpty else { throw CommandError("\(input.name) is empty") }
    let model = try models.load().model
    Interrupt.watch()
    guard
      let score = try model.score(
        input.text, special: special ? .recognize : .asText, context: context,
        shouldStop: { Interrupt.isRequested })
    else { throw ExitCode(Interrupt.exitCode) }
    if output.format == .json {
      let result = Result(tokenIds: score.tokenIDs, logprobs: score.logprobs, perplexity: score.perplexity)
      try TextOutput.standard.write(try JSONOutput.line(result) + "\n")
      return
    }
    var lines = ""
    for (index, id) in score.tokenIDs.enumerated() {
      let logprob = index == 0 ? "" : score.logprobs[index - 1].formatted(places: 4)
      let bytes = try model.tokenizer.bytes(of: id)
      lines += "\(id)\t\(logprob)\t\(String(decoding: bytes, as: UTF8.self).debugDescription)\n"
    }
    try TextOutput.standard.write(lines + "perplexity\t\(score.perplexity.formatted(places: 4))\n")
  }
}
