import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl

/// What changes outputs, certified on documents that nothing was fitted to.
extension AdaptationRun {
  /// A way of decoding with all its outputs.
  struct Candidate {
    var way: Adaptation.Way
    var calibrator: Calibrator
    var lines: [RunLine]
    var table: LossTable
  }

  /// What is run at every threshold.
  struct Planned {
    var way: Adaptation.Way
    var step: Step
    var calibrator: Calibrator
    var costs: SweepCosts
  }

  /// What may pay, with its guard and with what its parts cost here.
  func planned(heads: ExitHeads, plan: ExitPlan, prompts: PromptPlan, outputs: [Generation]) throws
    -> [Planned]?
  {
    let layerCount = subject.model.decoder.configuration.layerCount
    let prices = try promptPrices()
    var all: [Planned] = []
    func add(_ way: Adaptation.Way, _ step: Step, _ sweep: ThresholdSweep, _ costs: SweepCosts) throws {
      let calibrator = try Calibrator(
        sweep, metric: metric, risk: risk, documentsPath: documentsPath, records: certifying)
      all.append(Planned(way: way, step: step, calibrator: calibrator, costs: costs))
    }
    let leaving = try exitStrategy(heads, plan)
    func exitSweep(_ strategy: PlannedExits, promptDepth: Int?, _ protection: PolicyGuard) throws
      -> ThresholdSweep
    {
      try .exits(
        exiting(heads), strategy: strategy.exits, policy: strategy.policy,
        // Every other of the usual two dozen: a model nobody knows is to be done in minutes.
        grid: ThresholdSweep.usualGrid(strategy.exits.measure.name).enumerated().compactMap {
          $0.offset % 2 == 1 ? $0.element : nil
        },
        maxTokens: maxTokens, regime: regime, promptDepth: promptDepth, guard: protection)
    }
    if let leaving {
      guard let protection = try makeGuard(.exits, layer: nil, outputs) else { return nil }
      try add(
        .exits, .exits, exitSweep(leaving, promptDepth: nil, protection), .exits(exitPrices(heads)))
    }
    let depths = PromptDepthSweep.usualDepths(layerCount: layerCount)
    // A model of a few layers has no depth worth trying.
    guard let least = depths.min() else { return all }
    guard let protection = try makeGuard(.prompts, layer: least, outputs) else { return nil }
    let sweep = try ThresholdSweep.prompts(
      subject, depths: depths, maxTokens: maxTokens, regime: regime, guard: protection)
    try add(.prompts, .prompts, sweep, .prompts(prices))
    // Both, where exits pay and prompts may stop, by their plans.
    if let leaving, let depth = prompts.layer, prices.propagatedLayer < prices.layer {
      guard let protection = try makeGuard(.both, layer: depth, outputs) else { return nil }
      try add(
        .both, .both, exitSweep(leaving, promptDepth: depth, protection),
        .documents(DocumentCosts(prompt: prices, output: exitPrices(heads))))
    }
    return all
  }

  /// How tokens leave, by the plan.
  private typealias PlannedExits = (exits: ExitStrategy, policy: ThresholdPolicy)

  /// Runs all that may pay at every threshold.
  func certify(_ all: [Planned]) throws -> [Candidate]? {
    var candidates: [Candidate] = []
    for planned in all {
      guard let found = try run(planned.calibrator, planned) else { return nil }
      try planned.calibrator.checkVacuity(found)
      let prices = try promptPrices()
      let lines =
        planned.way == .exits ? try zip(found, certifying).map { try whole($0, of: $1, prices) } : found
      let table = try planned.calibrator.losses(lines, path: "\(folder)/\(planned.way.rawValue).losses.jsonl")
      candidates.append(
        Candidate(way: planned.way, calibrator: planned.calibrator, lines: lines, table: table))
    }
    return candidates
  }

  /// All outputs of a calibrator's documents: those that an earlier run has left, and the others.
  func run(_ calibrator: Calibrator, _ planned: Planned, shard: ShardDescription? = nil) throws -> [RunLine]?
  {
    let count = calibrator.records.count
    let file = try calibrator.openRuns(
      Adaptation.runs(of: planned.way, shard: shard?.shard, in: folder), measure: { planned.costs },
      shard: shard)
    progress(planned.step, file.lines.count, count)
    let lines = try calibrator.complete(file, shouldStop: shouldStop) { progress(planned.step, $0, count) }
    if lines != nil { try file.finish() }
    return lines
  }

  /// The model with its fitted heads.
  func exiting(_ heads: ExitHeads) throws -> DecodingSubject {
    var subject = subject
    subject.heads = heads
    subject.headsDigest = try FileDigest.sha256(path: Adaptation.File.heads.path(in: folder))
    return subject
  }

  private func exitStrategy(_ heads: ExitHeads, _ plan: ExitPlan) throws -> PlannedExits? {
    guard !plan.layers.isEmpty, let measure = UsualMeasure(rawValue: plan.measure) else { return nil }
    let policy = try ThresholdPolicy(threshold: 0, layers: plan.layers)
    let strategy = ExitStrategy(
      policy: policy, measure: measure.make(heads: heads), heads: heads, cachePolicy: plan.cache)
    _ = try strategy.validatedLayers(for: subject.model.decoder)
    return (strategy, policy)
  }

  private func makeGuard(
    _ way: Adaptation.Way, layer: Int?, _ outputs: [Generation]
  ) throws -> PolicyGuard? {
    try PolicyGuard.make(
      subject, records: fitting, path: Adaptation.guardPath(of: way, in: folder), layer: layer,
      maxTokens: maxTokens,
      outputs: outputs.map(\.tokenIDs), shouldStop: shouldStop
    ) { if case .read(let done) = $0 { progress(.protection, done, fitting.count) } }
  }

  /// What a prompt costs, so that ways that spare prompts are compared with ways that spare outputs.
  private func promptPrices() throws -> PromptCosts {
    try prices(.promptPrices) { try PromptCosts.measured(subject.model.decoder) }
  }

  /// What the parts of early exits cost.
  func exitPrices(_ heads: ExitHeads) throws -> ExitCosts {
    try prices(.exitPrices) { try ExitCosts.measured(subject.model.decoder, heads: heads) }
  }

  /// Prices that are measured once and kept in the folder, so that every run and every machine has the same.
  private func prices<Prices: Codable>(_ file: Adaptation.File, measure: () throws -> Prices) throws -> Prices
  {
    let path = file.path(in: folder)
    if let bytes = FileManager.default.contents(atPath: path) {
      guard let found = try? JSONDecoder().decode(Prices.self, from: bytes) else {
        throw CertificationError(.runs, "\(path) is damaged; remove it to begin again")
      }
      return found
    }
    let prices = try measure()
    try write(JSONEncoder().encode(prices), to: path)
    return prices
  }

  /// A line of early exits whose times are of whole documents, the prompt at full depth included.
  private func whole(_ line: RunLine, of record: DocumentRecord, _ prices: PromptCosts) throws -> RunLine {
    let model = subject.model
    let prompt = try model.prompt(for: record.item.task, document: record.item.document)
    let reading = Double(prompt.count * model.decoder.configuration.layerCount) * prices.layer
    var whole = line
    for (index, text) in line.texts.enumerated() {
      // The first token comes with the prompt, and the last one ends the output.
      let count = Double(try model.tokenizer.encode(text).count)
      let end = index + 1 < line.starts.count ? line.starts[index + 1] : line.times.count
      for piece in line.starts[index]..<end { whole.times[piece] = reading + line.times[piece] * count }
    }
    return whole
  }
}
