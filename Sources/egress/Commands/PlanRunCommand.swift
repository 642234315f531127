import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation

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

  @Option(
    help: ArgumentHelp(
      "JSON Lines file of documents; a question makes its document one to answer from.",
      valueName: "docs.jsonl"))
  var data: String

  @Option(parsing: .unconditional, help: "Documents of the file to run, evenly spaced.")
  var sample = 32

  @Option(
    help: ArgumentHelp("Numbers of machines, as 1,2,4. (default: 1,2,4,8)", valueName: "numbers"))
  var machines: NumberList?

  @Flag(help: "Plan a calibration of exits instead.")
  var calibrate = false

  @Option(
    help: ArgumentHelp("Decode under this certificate of exits or of prompts.", valueName: "cert.json"))
  var certificate: String?

  @Option(parsing: .unconditional, help: "The most tokens of an output. (default: 160; with a question, 48)")
  var maxTokens: Int?

  @OptionGroup(title: "Model Options") var models: ModelOptions
  @OptionGroup(title: "Output Options") var output: OutputOptions

  private var counts: [Double] { machines?.values ?? [1, 2, 4, 8] }

  /// Parts of the sample, by whose differences the error of the estimate is known.
  private static let parts = 4

  private struct Result: Encodable {
    var documents: Int
    var tokens: Int
    var sample: Int
    var secondsPerToken: Double
    var secondsPerTokenError: Double
    var load: Double
    var peakResidentBytes: Int
    var shares: [RunPlan.Share]
  }

  func validate() throws {
    guard sample >= Self.parts else {
      throw ValidationError("--sample must be at least \(Self.parts), but is \(sample).")
    }
    guard !counts.isEmpty,
      counts.allSatisfy({ Int(exactly: $0).map { (1...Shard.largestCount).contains($0) } == true })
    else {
      throw ValidationError("--machines must hold whole numbers in 1...\(Shard.largestCount).")
    }
    if calibrate, certificate != nil { throw ValidationError("Give either --calibrate or --certificate.") }
    if let maxTokens, maxTokens < 1 {
      throw ValidationError("--max-tokens must be at least 1, but is \(maxTokens).")
    }
  }

  func run() throws {
    let records = try DocumentFile.read(data)
    guard records.count >= Self.parts else {
      throw CommandError("\(data) has \(records.count) documents; a plan takes \(Self.parts) at least")
    }
    let loaded = try models.load()
    let model = loaded.model
    let work = try records.map {
      (id: $0.id, tokens: try model.prompt(for: $0.item.task, document: $0.item.document).count)
    }
    let count = min(sample, records.count)
    let chosen = (0..<count).map { $0 * records.count / count }
    let decode = try makeWork(loaded, records: records)
    Interrupt.watch()
    let bar = ProgressBar(total: count, what: "documents of the sample")
    var runs: [RunPlan.Run] = []
    for part in 0..<Self.parts {
      bar.show(done: count * part / Self.parts)
      let places = chosen[count * part / Self.parts..<count * (part + 1) / Self.parts]
      let start = ContinuousClock.now
      guard try decode(places.map { records[$0] }) else {
        bar.clear()
        throw ExitCode(Interrupt.exitCode)
      }
      runs.append(
        .init(
          tokens: places.reduce(0) { $0 + work[$1].tokens }, seconds: (ContinuousClock.now - start).seconds))
    }
    bar.clear()
    let plan = try RunPlan(work: work, runs: runs, loadSeconds: loaded.seconds)
    try show(plan, sample: count)
  }

  /// What runs some documents, and says whether it came to their end.
  private func makeWork(_ loaded: LoadedModel, records: [DocumentRecord]) throws
    -> ([DocumentRecord]) throws -> Bool
  {
    let model = loaded.model
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: GenerationOptions(), maxTokens: maxTokens)
    if calibrate {
      let exits = try ExitPolicyOptions.parse([])
      let subject = try loaded.subject(exits)
      let policy = try exits.policy(threshold: 0, heads: subject.heads)
      let sweep = try ThresholdSweep.exits(
        subject, strategy: exits.strategy(policy, heads: subject.heads, model: model), policy: policy,
        maxTokens: maxTokens, regime: regime)
      let costs = try sweep.measure()
      return { try sweep.run($0, costs, { Interrupt.isRequested }) { _, _ in } }
    }
    var strategy: any DecodingStrategy = FullDepth()
    if let certificate {
      let subject = try loaded.subject(ExitPolicyOptions.parse([]))
      strategy = try CertifiedPolicy.load(certificate, for: subject, regime: regime)
    }
    let usual = records.contains { if case .summary = $0.item.task { true } else { false } } ? 160 : 48
    let options = GenerationOptions(maxTokens: maxTokens ?? usual)
    let batch = DocumentBatch(
      model: model, options: options, strategy: strategy, wholeOnly: certificate != nil,
      shouldStop: { Interrupt.isRequested })
    return { try batch.run($0.map(\.item)) { _ in } }
  }

  private func show(_ plan: RunPlan, sample: Int) throws {
    let shares = try counts.map { try plan.share(of: Int($0)) }
    let bytes = ProcessClock.peakResidentBytes
    if output.format == .json {
      try TextOutput.standard.write(
        JSONOutput.line(
          Result(
            documents: plan.documents, tokens: plan.tokens, sample: sample,
            secondsPerToken: plan.secondsPerToken, secondsPerTokenError: plan.secondsPerTokenError,
            load: plan.loadSeconds, peakResidentBytes: bytes, shares: shares)) + "\n")
      return
    }
    let error = 100 * plan.secondsPerTokenError / max(plan.secondsPerToken, .leastNonzeroMagnitude)
    var text = """
      documents   \(plan.documents.grouped), with \(plan.tokens.grouped) tokens to read
      sample      \(sample) documents: \((1000 * plan.secondsPerToken).formatted(places: 3)) ms a token, ± \
      \(error.formatted(places: 0)) %
      memory      \((Double(bytes) / 1e6).formatted(places: 0)) MB a machine
      loading     \(plan.loadSeconds.formatted(places: 1)) s a machine

      """
    func row(_ columns: [String]) -> String {
      zip(columns, [12, 26, 16, 0]).map { $0.padding(to: $1) }.joined() + "\n"
    }
    text += row(["machines", "until the last is done", "its documents", "all machines"])
    for share in shares {
      let (last, all) = (Self.duration(share.seconds), Self.duration(share.machineSeconds))
      text += row(["\(share.machines)", last, share.documents.grouped, all])
    }
    try TextOutput.standard.write(text)
  }

  /// Hours, minutes or seconds.
  static func duration(_ seconds: Double) -> String {
    switch seconds {
    case ..<90: "\(seconds.formatted(places: 1)) s"
    case ..<5400: "\((seconds / 60).formatted(places: 1)) min"
    default: "\((seconds / 3600).formatted(places: 1)) h"
    }
  }
}
