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

  private func path(_ way: Adaptation.Way, _ suffix: String) -> String {
    "\(folder)/\(way.rawValue).\(suffix)"
  }

  /// Runs all that may pay at every threshold.
  func certify(heads: ExitHeads, plan: ExitPlan, outputs: [Generation]) throws -> [Candidate]? {
    let layerCount = subject.model.decoder.configuration.layerCount
    let prices = try promptPrices()
    var candidates: [Candidate] = []
    if let strategy = try exitStrategy(heads, plan) {
      guard let protection = try makeGuard(.exits, layer: nil, outputs) else { return nil }
      let sweep = try ThresholdSweep.exits(
        exiting(heads), strategy: strategy.exits, policy: strategy.policy,
        // Every other of the usual two dozen: a model nobody knows is to be done in minutes.
        grid: ThresholdSweep.usualGrid(strategy.exits.measure.name).enumerated().compactMap {
          $0.offset % 2 == 1 ? $0.element : nil
        },
        maxTokens: maxTokens, regime: regime, guard: protection)
      guard let candidate = try run(.exits, .exits, sweep, prices) else { return nil }
      candidates.append(candidate)
    }
    let depths = PromptDepthSweep.usualDepths(layerCount: layerCount)
    // A model of a few layers has no depth worth trying.
    guard let least = depths.min() else { return candidates }
    guard let protection = try makeGuard(.prompts, layer: least, outputs) else { return nil }
    let sweep = try ThresholdSweep.prompts(
      subject, depths: depths, maxTokens: maxTokens, regime: regime, guard: protection)
    guard let candidate = try run(.prompts, .prompts, sweep, prices) else { return nil }
    return candidates + [candidate]
  }

  /// The model with its fitted heads.
  func exiting(_ heads: ExitHeads) throws -> DecodingSubject {
    var subject = subject
    subject.heads = heads
    subject.headsDigest = try FileDigest.sha256(path: Adaptation.File.heads.path(in: folder))
    return subject
  }

  private func exitStrategy(_ heads: ExitHeads, _ plan: ExitPlan) throws -> (
    exits: ExitStrategy, policy: ThresholdPolicy
  )? {
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
      subject, records: fitting, path: path(way, "guard.safetensors"), layer: layer, maxTokens: maxTokens,
      outputs: outputs.map(\.tokenIDs), shouldStop: shouldStop
    ) { if case .read(let done) = $0 { progress(.protection, done, fitting.count) } }
  }

  /// What a prompt costs, so that ways that spare prompts are compared with ways that spare outputs: measured once, and
  /// kept in the folder as the file of runs keeps the other costs.
  private func promptPrices() throws -> PromptCosts {
    let path = folder + "/prices.json"
    if let bytes = FileManager.default.contents(atPath: path) {
      guard let found = try? JSONDecoder().decode(PromptCosts.self, from: bytes) else {
        throw CertificationError(.runs, "\(path) is damaged; remove it to begin again")
      }
      return found
    }
    let prices = try PromptCosts.measured(subject.model.decoder)
    try write(JSONEncoder().encode(prices), to: path)
    return prices
  }

  private func run(
    _ way: Adaptation.Way, _ step: Step, _ sweep: ThresholdSweep, _ prices: PromptCosts
  ) throws -> Candidate? {
    let calibrator = try Calibrator(
      sweep, metric: metric, risk: risk, documentsPath: documentsPath, records: certifying)
    let file = try calibrator.openRuns(path(way, "runs.jsonl")) {
      way == .prompts ? .prompts(prices) : try sweep.measure()
    }
    progress(step, file.lines.count, certifying.count)
    let found = try calibrator.complete(file, shouldStop: shouldStop) { progress(step, $0, certifying.count) }
    guard let found else { return nil }
    try calibrator.checkVacuity(found)
    let lines = way == .exits ? try zip(found, certifying).map { try whole($0, of: $1, prices) } : found
    let table = try calibrator.losses(lines, path: path(way, "losses.jsonl"))
    return Candidate(way: way, calibrator: calibrator, lines: lines, table: table)
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
