import ArgumentParser
import Certification
import FileFormats
import Foundation

struct MergeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Put the shards of a batch, a calibration or an evaluation together.",
    discussion: """
      Results come out in the order of the documents, byte for byte as one machine writes them. Of a calibration, the \
      table of losses and the certificate are made, by the options that its shards were given; no model is needed. The \
      guard that the shards made lies beside them. Its shards count what decoding takes, and --prices says what that \
      costs on the kind of machine that the certificate is for; those of answers need none. Of an evaluation, the \
      result is printed; of hidden states, the files are written anew, from the folders beside the shards' lists; of \
      fit-exits, the outputs are put together, and fit-exits without --shard then fits on them; so it is with adapt.

      Shards that are missing or not whole, that are there twice, or that are of another model, of other options or of \
      other documents are refused. A pattern may be given in quotes, so that no shell is needed.

      EXAMPLES
        egress merge summaries.*-of-8.jsonl --output summaries.jsonl
        egress merge 'docs.*-of-8.runs.jsonl' --prices prices.json

      Exit status: 0 done; 2 nothing and 3 only the safest threshold is certified; 65 the shards do not go together; \
      75 some are missing or not whole yet, or a file cannot be written.
      """)

  @Argument(help: "The files of all shards, in any order, or a pattern of them.")
  var shards: [String]

  @Option(
    name: .shortAndLong,
    help: ArgumentHelp(
      "Where the whole goes; of a calibration, what the names of its files begin with. (default: as the "
        + "shards were told)",
      valueName: "name"))
  var output: String?

  @Option(help: ArgumentHelp("The documents, where they lie elsewhere by now.", valueName: "docs.jsonl"))
  var data: String?

  @Option(
    help: ArgumentHelp(
      "Of a calibration: what the parts of decoding cost, from egress bench --prices.",
      valueName: "prices.json"))
  var prices: String?

  @Flag(help: "Replace what is there under the output's name.")
  var force = false

  @Option(help: "Of an evaluation: text, or json: one object on one line.")
  var format: OutputOptions.Format?

  func run() throws {
    try ShardFailure.classifying {
      let sets = try ShardSet.candidates(paths: shards.flatMap(FilePattern.expanded))
      let set = sets[0]
      if format != nil, set.description.command != EvaluateCommand._commandName {
        throw ValidationError("--format is for shards of an evaluation.")
      }
      guard prices == nil || set.description.command == Calibrate._commandName else {
        throw ValidationError("--prices is for shards of a calibration.")
      }
      switch set.description.command {
      case Calibrate._commandName: try mergeCalibration(sets)
      case EvaluateCommand._commandName: try mergeEvaluation(set)
      case ExportStatesCommand._commandName: try mergeStates(set)
      case AdaptCommand._commandName: try mergeAdaptation(set)
      default: try mergeBatch(set)
      }
    }
  }

  private func mergeCalibration(_ sets: [ShardSet]) throws {
    let set = sets[0]
    // The first shard's options are those of all, but for where things lie.
    var calibrate = try Calibrate.parse(set.description.arguments)
    calibrate.force = calibrate.force || force
    calibrate.documents.output = output ?? set.description.output
    calibrate.documents.data = documents(of: set)
    calibrate.documents.prices = prices
    try calibrate.merge(sets, replacing: force)
  }

  private func mergeEvaluation(_ set: ShardSet) throws {
    guard output == nil, !force else {
      throw ValidationError("an evaluation is printed; leave --output and --force out.")
    }
    let result = try set.evaluation(of: set.documents(path: documents(of: set)))
    try TextOutput.standard.write(format == .json ? try JSONOutput.line(result) + "\n" : result.text)
  }

  private func mergeStates(_ set: ShardSet) throws {
    try set.checkDocuments(path: documents(of: set))
    let texts = try StateText.read(documents(of: set))
    let folder = output ?? StateFiles.folder(of: set.description.output)
    var merge = StateMerge()
    try merge.write(set, texts, to: folder, replacing: force)
    Console.note("\(folder) has \(texts.count) texts of \(set.description.shard.count) shards")
  }

  /// Outputs of an adaptation at every threshold, which adapt goes on from.
  private func mergeAdaptation(_ set: ShardSet) throws {
    try write(set, set.documentsOfShards(path: documents(of: set))) { try set.runs(for: $0) }
  }

  private func mergeBatch(_ set: ShardSet) throws {
    try write(set, set.documents(path: documents(of: set))) { try set.lines(for: $0) }
  }

  private func write(
    _ set: ShardSet, _ records: [DocumentRecord], _ contents: ([DocumentRecord]) throws -> Data
  ) throws {
    let path = output ?? set.description.output
    try ShardSet.write(contents(records), to: path, replacing: force)
    Console.note("\(path) has \(records.count) documents of \(set.description.shard.count) shards")
  }

  private func documents(of set: ShardSet) -> String { data ?? set.description.data }
}
