import ArgumentParser
import Certification
import FileFormats
import RiskControl

struct AdaptCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "adapt",
    abstract: "Make any model faster on documents like yours, with a certificate.",
    discussion: """
      Runs the model on the documents, fits exit heads to it, plans which exits to look at on this machine, certifies \
      early exits and prompt depths, times what is certified with and without drafts looked up in the text, and keeps \
      what is fastest. The first three tenths of the documents, at most 100, make heads, plan and guard; the others \
      certify.

      Everything goes to MODEL.egress/ beside the model, and report.html there says what was tried. summarize and \
      answer use the folder from then on; --full-depth decodes without it. An interrupted command goes on where it was.

      Several machines share the longest part, decoding at every threshold: --prepare makes what they need, --shard \
      works on a part of the documents, egress merge puts the files of each way together, and adapt goes on from there.

      EXAMPLES
        egress adapt model.gguf --data docs.jsonl --epsilon 0.02
        egress summarize --model model.gguf article.txt
        egress adapt smollm2-135m-instruct --data questions.jsonl --metric token-f1 --epsilon 0.05
        egress adapt model.gguf --data docs.jsonl --prepare
        egress adapt model.gguf --data docs.jsonl --shard 3/8
        egress merge 'model.gguf.egress/exits.*-of-8.runs.jsonl'

      Exit status: 0 something pays; 3 nothing does, and decoding stays at full depth; 1 the data are wrong; 64 the \
      options are.
      """)

  @Argument(help: "A model's name, a .gguf file, or a Hugging Face directory.")
  var model: String

  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents with references, at least \(AdaptationRun.fewestDocuments); a question makes its "
        + "document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(help: "What outputs are measured by: \(QualityMetric.names.joined(separator: ", ")).")
  var metric = "rouge-l"

  @Option(
    help: """
      gap, the loss against the references beyond full depth's, or consistency, the loss against full depth's output, \
      which needs no references.
      """)
  var risk = QualityRisk.gap

  @Option(parsing: .unconditional, help: "By how much the loss may rise on average, in (0, 1).")
  var epsilon = 0.02

  @Option(parsing: .unconditional, help: "Tolerated probability of an unlucky set of documents, in (0, 1).")
  var delta = 0.1

  @Option(parsing: .unconditional, help: "Documents to use. (default: all)")
  var limit: Int?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with questions, 48)")
  var maxTokens: Int?

  @Option(
    parsing: .unconditional, help: "Threads to compute with, 1 to 256. (default: the processors, at most 8)")
  var threads: Int?

  @Flag(help: "Stop when everything is there that the machines of --shard need.")
  var prepare = false

  @OptionGroup var sharding: ShardOptions
  @OptionGroup var form: OutputOptions

  func validate() throws {
    _ = try settings()
    let metric = try quality()
    if !metric.readsReferences, risk == .consistency {
      throw ValidationError("--metric \(metric.name) is a property of one text: --risk must be gap.")
    }
    if prepare, sharding.shard != nil { throw ValidationError("Give either --prepare or --shard.") }
    try sharding.validate(data: data)
    if let maxTokens, maxTokens < 2 {
      throw ValidationError("--max-tokens must be at least 2, but is \(maxTokens).")
    }
    if let threads, !(1...256).contains(threads) {
      throw ValidationError("--threads must be in 1...256, but is \(threads).")
    }
  }

  private func settings() throws -> CalibrationSettings {
    let settings = CalibrationSettings(epsilon: epsilon, delta: delta)
    do { _ = try Calibration(settings) } catch { throw ValidationError("\(error)") }
    return settings
  }

  private func quality() throws -> QualityMetric {
    guard let metric = QualityMetric(name: metric), metric.distance == nil else {
      throw ValidationError("--metric must be one that compares texts, such as rouge-l or token-f1.")
    }
    return metric
  }

  func run() throws {
    guard let shard = try sharding.chosen() else { return try runWhole() }
    try ShardFailure.classifying {
      let bar = StepBar()
      let (run, path) = try begin(bar)
      let begun = ShardDescription(
        shard, command: Self._commandName, arguments: ShardOptions.arguments.filter { $0 != model },
        data: data,
        dataDigest: try FileDigest.sha256(path: data), modelDigest: "", output: path, documents: 0, lines: 0)
      defer { bar.clear() }
      guard try run.run(begun) else { throw ExitCode(Interrupt.exitCode) }
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
    let records = Array(try DocumentFile.read(data).prefix(limit ?? .max))
    let loaded = try ModelOptions.load(model, threads: threads)
    let folder = Adaptation.folder(of: loaded.path)
    Interrupt.watch()
    let run = try AdaptationRun(
      loaded.subject(), records: records, documentsPath: data, folder: folder, settings: settings(),
      metric: quality(), risk: risk, maxTokens: maxTokens, shouldStop: { Interrupt.isRequested },
      progress: bar.show)
    if !run.skipped.isEmpty {
      Console.warning(
        "\(run.skipped.count) documents are too long to be read whole and are left out; they are decoded at full depth"
      )
    }
    return (run, folder)
  }
}
