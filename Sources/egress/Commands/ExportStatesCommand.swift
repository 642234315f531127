import ArgumentParser

struct ExportStatesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export-states",
    abstract: "Write the hidden states of texts to files, to train heads on.",
    discussion: """
      Reads results that --input and --output of summarize or answer left, runs every prompt with its output through \
      the model, and writes files of safetensors to a folder: layer.N, (tokens, hidden size) in half precision, each \
      row divided by its root mean square; scale.N, (tokens), these root mean squares; tokens, their numbers; starts \
      and outputs, the rows where each text and its output begin. A file that is there already is kept: run it again \
      to go on after an interruption. A shard writes a folder of its own, and beside it a list of its texts, which \
      egress merge reads.

      EXAMPLES
        egress summarize --input docs.jsonl --output outputs.jsonl
        egress export-states --data outputs.jsonl --output states/
      """)

  @Option(
    help: ArgumentHelp("JSON Lines file of prompts with their outputs.", valueName: "outputs.jsonl"))
  var data: String

  @Option(help: ArgumentHelp("The folder that the files go to.", valueName: "folder"))
  var output: String

  @Option(help: ArgumentHelp("Layers after which to look. (default: the last)", valueName: "layers"))
  var layers: ExitPolicyOptions.LayerList?

  @OptionGroup var sharding: ShardOptions
  @OptionGroup var models: ModelOptions

  func validate() throws { try sharding.validate(data: data) }

  func run() throws {
    let work = StateExportRun(data: data, models: models, layers: layers?.layers, output: output)
    guard let shard = try sharding.chosen() else { return try work.run() }
    try ShardFailure.classifying { try work.run(shard, command: Self._commandName) }
  }
}
