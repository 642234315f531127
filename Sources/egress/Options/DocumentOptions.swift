import ArgumentParser
import EarlyExit
import Generation

/// What `summarize` and `answer` have in common: the document, or a file of many.
struct DocumentOptions: ParsableArguments {
  @Argument(help: "The document; - or nothing reads standard input.")
  var file: String?

  @Option(
    help: ArgumentHelp(
      "Work through a JSON Lines file of documents, with the fields id, document and question.",
      valueName: "docs.jsonl"))
  var input: String?

  @Option(
    help: ArgumentHelp(
      "Where the results of --input go, a line each. Lines that are there already are kept: run it again to resume.",
      valueName: "out.jsonl"))
  var output: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      "Documents of --input to decode at a time; it changes no output. (default: \(DocumentBatch.usualWidth), and of 64 "
        + "documents or more what a short measurement at the start says)",
      valueName: "count"))
  var batch: Int?

  @OptionGroup var sharding: ShardOptions

  @Option(
    help: ArgumentHelp(
      "What to do with a document longer than the context: split works on parts, truncate leaves the end out.",
      valueName: "rule"))
  var long: LongDocumentRule = .split

  @Flag(help: "Show after the text what in the document it rests on.")
  var cite = false

  @Flag(help: "Give the request to the model as it is, without its prompt template.")
  var raw = false

  func validate() throws {
    guard (input == nil) == (output == nil) else {
      throw ValidationError("--input and --output belong together.")
    }
    if let batch {
      guard input != nil else { throw ValidationError("--batch has no effect without --input.") }
      guard (1...256).contains(batch) else {
        throw ValidationError("--batch must be in 1...256, but is \(batch).")
      }
    }
    if sharding.shard != nil {
      guard let input, let output else { throw ValidationError("--shard needs --input and --output.") }
      guard input != "-", output != "-" else {
        throw ValidationError("--shard takes files, not standard input or output.")
      }
    }
    if input != nil, file != nil {
      throw ValidationError("Give either a file or --input, not both.")
    }
    if input != nil, cite {
      throw ValidationError("--cite is for a text on standard output; the results of --input always say it.")
    }
  }
}
