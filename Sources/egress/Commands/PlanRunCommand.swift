import ArgumentParser
import Certification
import FileFormats

struct PlanRunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan-run",
    abstract: "Estimate how long a file of documents takes on several machines, from a sample of it.",
    discussion: """
      Runs a sample as summarize --input or answer --input would, at full depth or under a certificate; with --calibrate, as \
      calibrate --data would, at every threshold of the usual grid of exits. Then it says what each number of machines would \
      take, every machine with its shard: the time until the last is done, and of all together. It takes machines to be like \
      this one, and nothing else to run on them.

      EXAMPLES
        egress plan-run --data docs.jsonl --machines 1,2,4,8
        egress plan-run --data docs.jsonl --certificate docs.certificate.json --sample 64
        egress plan-run --data docs.jsonl --calibrate --machines 1,10
      """)

  @OptionGroup var documents: DataOptions
  @OptionGroup var work: RunPlanOptions
  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions

  func run() throws {
    let records = try documents.read()
    guard records.count >= RunPlan.parts else {
      throw CommandError(
        "\(documents.data) has \(records.count) documents; a plan takes \(RunPlan.parts) at least")
    }
    let loaded = try models.load()
    let decode = try work.makeWork(loaded, records: records)
    Interrupt.watch()
    let sample = min(work.sample, records.count)
    let bar = ProgressBar(total: sample, what: "documents of the sample")
    let plan = try RunPlan.measured(
      records, model: loaded.model, sample: sample, loadSeconds: loaded.seconds,
      progress: { bar.show(done: $0) }, decode: decode)
    bar.clear()
    guard let plan else { throw ExitCode(Interrupt.exitCode) }
    let report = try RunPlanReport(plan, sample: sample, machines: work.counts)
    try TextOutput.standard.write(
      output.format == .json ? JSONOutput.line(report) + "\n" : report.text)
  }
}
