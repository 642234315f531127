import ArgumentParser
import Certification
import EarlyExit
import Generation

/// What a run is, whose time is estimated.
struct RunPlanOptions: ParsableArguments {
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

  /// Numbers of machines.
  var counts: [Double] { machines?.values ?? [1, 2, 4, 8] }

  func validate() throws {
    guard sample >= RunPlan.parts else {
      throw ValidationError("--sample must be at least \(RunPlan.parts), but is \(sample).")
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

  /// What runs some documents, and says whether it came to their end.
  func makeWork(
    _ loaded: LoadedModel, records: [DocumentRecord]
  ) throws -> ([DocumentRecord]) throws -> Bool {
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
      return { try sweep.run($0, { Interrupt.isRequested }) { _, _ in } }
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
}
