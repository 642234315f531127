import ArgumentParser
import FileFormats

struct FitExitsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fit-exits",
    abstract: "Fit exit heads and classifiers on a model's own outputs.",
    discussion: """
      Runs the model on every document, then fits, per exit layer, a linear map to the final hidden state (ridge \
      regression) and a classifier that tells whether the map's best token is the full model's. Every fifth document \
      is held out for the report of agreement. Writes FILE.safetensors and FILE.json; FILE.outputs.jsonl keeps what \
      the model wrote, so that an interrupted run goes on where it was. With --shard that is all that is written: egress \
      merge puts it together, and the same command without --shard then fits on all of it.

      EXAMPLES
        egress fit-exits --data docs.jsonl --exit-layers 12,18,24 --output exits.safetensors
        egress summarize --exit-threshold 0.9 --confidence classifier --exit-heads exits.safetensors article.txt
      """)

  @OptionGroup var documents: DataOptions

  @Option(help: ArgumentHelp("Where the heads go.", valueName: "file.safetensors"))
  var output: String

  @OptionGroup var fitting: FittingOptions
  @OptionGroup var sharding: ShardOptions
  @OptionGroup var models: ModelOptions
  @OptionGroup var form: OutputOptions

  func validate() throws {
    try sharding.validate(data: documents.data)
    guard output.hasSuffix(".safetensors") else {
      throw ValidationError("--output must end in .safetensors.")
    }
  }

  func run() throws {
    let work = ExitFittingRun(documents: documents, models: models, fitting: fitting, output: output)
    if let shard = try sharding.chosen() {
      return try ShardFailure.classifying { try work.run(shard, command: Self._commandName) }
    }
    let description = try work.fit()
    try TextOutput.standard.write(
      form.format == .json ? try JSONOutput.line(description) + "\n" : description.text)
  }
}
