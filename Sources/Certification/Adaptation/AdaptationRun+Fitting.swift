import EarlyExit
import FileFormats
import Foundation
import Generation

/// Heads and plan, of documents that certify nothing.
extension AdaptationRun {
  private struct OutputLine: Codable {
    var id: DocumentIdentifier
    var prompt: [Int]
    var tokens: [Int]
    var text: String
    var stopReason: StopReason
  }

  /// Full-depth outputs of the documents that heads are fitted to: those that an earlier run has left, and the others.
  func writeOutputs() throws -> [Generation]? {
    let path = Adaptation.File.outputs.path(in: folder)
    // Several machines may read what is whole; one alone may write.
    if let bytes = FileManager.default.contents(atPath: path), bytes.last == UInt8(ascii: "\n") {
      let lines = bytes.dropLast().split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
      if lines.count == fitting.count { return try lines.enumerated().map(output) }
    }
    let file = try ResumableLines(path: path)
    var outputs = try file.lines.enumerated().map(output)
    try file.beginAppending()
    let rest = Array(fitting.dropFirst(outputs.count))
    let model = subject.model
    let usual = fitting.map(\.item.task.usualMaxTokens).max() ?? 1
    let batch = DocumentBatch(
      model: model, options: GenerationOptions(maxTokens: maxTokens ?? usual), shouldStop: shouldStop)
    progress(.outputs, outputs.count, fitting.count)
    let isComplete = try batch.run(rest.map(\.item)) { event in
      guard case .finished(let index, let generation) = event else { return }
      try file.append(
        JSONOutput.line(
          OutputLine(
            id: rest[index].id, prompt: generation.promptTokenIDs, tokens: generation.tokenIDs,
            text: generation.text, stopReason: generation.stopReason)))
      outputs.append(generation)
      progress(.outputs, outputs.count, fitting.count)
    }
    return isComplete ? outputs : nil
  }

  /// The output in a line of the file.
  private func output(_ index: Int, _ line: some Sequence<UInt8>) throws -> Generation {
    guard index < fitting.count, let found = try? JSONOutput.decode(OutputLine.self, from: Data(line)),
      found.id == fitting[index].id
    else {
      throw CertificationError(
        .runs,
        "\(Adaptation.File.outputs.path(in: folder)) line \(index + 1) is damaged; remove the file to begin again"
      )
    }
    return Generation(
      text: found.text, tokenIDs: found.tokens, promptTokenIDs: found.prompt, stopReason: found.stopReason)
  }

  /// Layers after which tokens may leave: six, from two fifths of the model on.
  static func exitLayers(layerCount: Int) -> [Int] {
    let layers = [0.4, 0.5, 0.6, 0.7, 0.8, 0.9].map { Int((Double(layerCount) * $0).rounded()) }
    return Set(layers.filter { $0 >= 1 && $0 < layerCount }).sorted()
  }

  /// Exit heads, fitted to four fifths of the outputs.
  func fitHeads(_ outputs: [Generation]) throws -> ExitHeads? {
    let path = Adaptation.File.heads.path(in: folder)
    if FileManager.default.fileExists(atPath: path) {
      return try ExitHeads(path: path, modelDigest: subject.modelDigest)
    }
    let model = subject.model
    let configuration = model.decoder.configuration
    let layers = Self.exitLayers(layerCount: configuration.layerCount)
    guard !layers.isEmpty else {
      throw CertificationError(
        .documents, "\(model.name) has \(configuration.layerCount) layer, and none to leave before it")
    }
    var fitter = try ExitHeadFitter(
      model: model, layers: layers,
      shortlistSize: ExitHeadFitter.usualShortlistSize(vocabularySize: configuration.vocabularySize))
    for (index, output) in outputs.enumerated() {
      if shouldStop() { return nil }
      try fitter.add(output, isHeldOut: ExitHeadFitter.isHeldOut(index))
      progress(.states, index + 1, outputs.count)
    }
    let (heads, description) = try fitter.fit(name: model.name, digest: subject.modelDigest)
    try heads.write(to: path, description: description)
    return try ExitHeads(path: path, modelDigest: subject.modelDigest)
  }

  /// Which exits to look at: what is cheapest on outputs that the heads were not fitted to, by costs measured here.
  func planExits(_ heads: ExitHeads, _ outputs: [Generation]) throws -> ExitPlan? {
    let path = Adaptation.File.plan.path(in: folder)
    let digest = try FileDigest.sha256(path: Adaptation.File.heads.path(in: folder))
    if let bytes = FileManager.default.contents(atPath: path) {
      let plan = try ExitPlan.read(bytes, name: path)
      guard plan.headsDigest == digest, plan.modelDigest == subject.modelDigest else {
        throw CertificationError(.runs, "\(path) is a plan for other exit heads; remove it to begin again")
      }
      return plan
    }
    var traces = try ExitTraces(model: subject.model, layers: heads.layers, heads: heads)
    for (index, output) in outputs.enumerated() where ExitHeadFitter.isHeldOut(index) {
      if shouldStop() { return nil }
      try traces.add(output)
    }
    let costs = try exitPrices(heads)
    let planner = try ExitPlanner(traces: traces, costs: costs, heads: heads)
    // Completed exactly, so that drafts looked up in the text go with it.
    let plan = ExitPlan(
      planner.best(agreement: Self.plannedAgreement, caches: [.defer]), planner: planner, headsDigest: digest,
      modelDigest: subject.modelDigest, unit: "ms")
    try write(plan.jsonData(), to: path)
    return plan
  }

  /// Where prompts may stop: the lowest layer that leaves nearly all tokens as they are, of the outputs that exits are
  /// planned on.
  func planPrompts(_ outputs: [Generation]) throws -> PromptPlan? {
    let path = Adaptation.File.promptPlan.path(in: folder)
    if let bytes = FileManager.default.contents(atPath: path) {
      let plan = try PromptPlan.read(bytes, name: path)
      guard plan.modelDigest == subject.modelDigest else {
        throw CertificationError(.runs, "\(path) is a plan for another model; remove it to begin again")
      }
      return plan
    }
    let model = subject.model
    let usual = PromptDepthSweep.usualDepths(layerCount: model.decoder.configuration.layerCount)
    let sweep = try PromptDepthSweep(model: model, depths: usual)
    var counts = [Int](repeating: 0, count: sweep.depths.count)
    for (index, output) in outputs.enumerated() where ExitHeadFitter.isHeldOut(index) {
      guard let found = try sweep.agreement(along: output, shouldStop: shouldStop) else { return nil }
      for place in counts.indices { counts[place] += found[place] }
    }
    let plan = PromptPlan(
      zip(sweep.depths, counts).dropFirst().map {
        PromptPlan.Depth(layer: $0, agreement: Double($1) / Double(max(counts[0], 1)))
      },
      agreement: Self.plannedAgreement, tokenCount: counts[0], modelDigest: subject.modelDigest)
    try write(CanonicalJSON.document(plan), to: path)
    return plan
  }
}
