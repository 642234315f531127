import ArgumentParser
import Certification
import FileFormats
import SpeculativeDecoding

struct AdaptCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapt",
    abstract: "Make any model faster on documents like yours, with a certificate.",
    discussion: """
      Runs the model on the documents, fits exit heads to it, plans which exits to look at on this machine, certifies \
      early exits, prompt depths and both together, times what is certified with and without drafts looked up in the \
      text or made by a draft head, and keeps what is fastest. The first three tenths of the documents, at most 100, make heads, plans and \
      guards; the others certify.

      Everything goes to MODEL.egress/ beside the model, and report.html there says what was tried. summarize and \
      answer use the folder from then on; --full-depth decodes without it. An interrupted command goes on where it was.

      Several machines share the longest part, decoding at every threshold: --prepare makes what they need, --shard \
      works on a part of the documents, egress merge puts the files of each way together, and adapt goes on from there.

      EXAMPLES
        egress adapt model.gguf --data docs.jsonl --epsilon 0.02
        egress summarize --model model.gguf article.txt
        egress adapt smollm2-135m-instruct --data questions.jsonl --metric token-f1 --epsilon 0.05
        egress adapt model.gguf --data docs.jsonl --draft head.safetensors
        egress adapt model.gguf --data docs.jsonl --prepare
        egress adapt model.gguf --data docs.jsonl --shard 3/8
        egress merge 'model.gguf.egress/exits.*-of-8.runs.jsonl'

      Exit status: 0 something pays; 3 nothing does, and decoding stays at full depth; 1 the data are wrong; 64 the \
      options are.
      """)

  @Argument(help: "A model's name, a .gguf file, or a Hugging Face directory.")
  var model: String

  @OptionGroup var work: AdaptationOptions

  @Option(
    help: ArgumentHelp(
      """
      A .safetensors file with a draft head to try as well; what it drafts changes no output. (default: the one that \
      comes with the model, if one does)
      """, valueName: "head"))
  var draft: String?

  @Flag(help: "Stop when everything is there that the machines of --shard need.")
  var prepare = false

  @OptionGroup var sharding: ShardOptions
  @OptionGroup var form: OutputOptions

  func validate() throws {
    if prepare, sharding.shard != nil { throw ValidationError("Give either --prepare or --shard.") }
    try sharding.validate(data: work.data)
  }

  func run() throws {
    guard let shard = try sharding.chosen() else { return try runWhole() }
    try ShardFailure.classifying {
      let folder = Adaptation.folder(of: try ModelStore().resolve(model).path)
      let begun = ShardDescription(
        shard, command: Self._commandName, arguments: ShardOptions.arguments.filter { $0 != model },
        data: work.data, dataDigest: try FileDigest.sha256(path: work.data), modelDigest: "", output: folder,
        documents: 0, lines: 0)
      let ways = Adaptation.guardedWays(in: folder)
      let areDone = try ways.allSatisfy { way in
        try ShardOptions.isDone(begun, path: Adaptation.runs(of: way, shard: shard, in: folder)) {
          try ModelOptions.digest(of: model)
        }
      }
      if !ways.isEmpty, areDone { return }
      let bar = StepBar()
      defer { bar.clear() }
      guard try begin(bar).run.run(begun) else { throw ExitCode(Interrupt.exitCode) }
    }
  }

  private func runWhole() throws {
    let bar = StepBar()
    let (run, folder) = try begin(bar)
    let found = prepare ? nil : try run.run()
    let isPrepared = prepare ? try run.prepare() : false
    bar.clear()
    if isPrepared { return Console.note("\(folder) is prepared; adapt --shard goes on from there") }
    guard let found else {
      Console.note("\(folder) is not finished; the same command goes on from there")
      throw ExitCode(Interrupt.exitCode)
    }
    try AdaptationPage(found, folder: folder).write(to: folder)
    try TextOutput.standard.write(
      form.format == .json
        ? try JSONOutput.line(found) + "\n" : AdaptationText.describe(found, folder: folder))
    if found.way == .fullDepth, !found.looksUp { throw ExitCode(3) }
  }

  private func begin(_ bar: StepBar) throws -> (run: AdaptationRun, folder: String) {
    let records = Array(try DocumentFile.read(work.data).prefix(work.limit ?? .max))
    let loaded = try ModelOptions.load(model, threads: work.threads, prompts: work.prompts)
    let folder = Adaptation.folder(of: loaded.path)
    Interrupt.watch()
    let run = try AdaptationRun(
      loaded.subject(), records: records, documentsPath: work.data, folder: folder, settings: work.settings(),
      metric: work.quality(), risk: work.risk, maxTokens: work.maxTokens, draftHead: draftHead(of: loaded),
      shouldStop: { Interrupt.isRequested },
      progress: bar.show)
    if !run.skipped.isEmpty {
      Console.warning(
        "\(run.skipped.count) documents are too long to be read whole and are left out; they are decoded at full depth"
      )
    }
    return (run, folder)
  }

  private func draftHead(of loaded: LoadedModel) throws -> DraftHead? {
    guard let path = try draft ?? LoadedDraft.shippedHead(loaded) else { return nil }
    guard path.hasSuffix(".safetensors") else {
      throw ValidationError(
        "--draft takes a .safetensors file with a draft head, but is \(path); what a small model drafts is certified "
          + "with calibrate.")
    }
    return try DraftHead(path: path, modelDigest: loaded.digest())
  }
}
