import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Generation

/// Fits exit heads to what a model writes, or writes a shard of that.
struct ExitFittingRun {
  let documents: DataOptions
  let models: ModelOptions
  let fitting: FittingOptions
  /// Where the heads go.
  let output: String

  /// What the model writes takes longest: it is kept in a file, and a run after an interruption goes on from there.
  private var work: String { String(output.dropLast(".safetensors".count)) + ".outputs.jsonl" }

  /// Writes the outputs of a shard's documents.
  func run(_ shard: Shard, command: String) throws {
    let records = try documents.read(limit: fitting.limit)
    let own = records.filter { shard.contains($0.id) }
    let path = shard.path(for: work)
    let begun = try ShardOptions.begun(
      shard, command: command, models: models, data: documents.data, output: work, documents: records.count,
      lines: own.count)
    guard var description = begun else { return }
    let loaded = try models.load()
    // Layers that the model lacks are refused now, not after hours.
    _ = try fitting.makeFitter(loaded.model)
    description.modelDigest = try loaded.digest()
    let runner = try fitting.makeRunner(loaded, for: records)
    try runner.run(
      own, input: documents.data, output: path,
      shard: BatchShardHeader(shard: description, settings: runner.settings.digest))
  }

  /// Writes all outputs that are not there yet, and fits heads to them.
  func fit() throws -> ExitHeadsDescription {
    let records = try documents.read(limit: fitting.limit)
    let loaded = try models.load()
    let digest = try loaded.digest()
    var fitter = try fitting.makeFitter(loaded.model)
    try fitting.makeRunner(loaded, for: records).run(records, input: documents.data, output: work)
    try read(into: &fitter)
    let (layers, refine) = (fitting.exitLayers.layers, fitting.refine)
    let steps = ProgressBar(total: refine * layers.count, what: "steps")
    let (heads, description) = try fitter.fit(name: loaded.model.name, digest: digest) { layer, step in
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      steps.show(done: refine * (layers.firstIndex(of: layer) ?? 0) + step)
    }
    steps.clear()
    try heads.write(to: output, description: description)
    return description
  }

  private func read(into fitter: inout ExitHeadFitter) throws {
    let (bytes, _) = try TextInput.bytes(path: work)
    let lines = bytes.split(separator: UInt8(ascii: "\n"))
    let bar = ProgressBar(total: lines.count, what: "outputs")
    for (index, line) in lines.enumerated() {
      if Interrupt.isRequested { throw ExitCode(Interrupt.exitCode) }
      let result = try JSONOutput.decode(BatchResult.self, from: line)
      try fitter.add(
        Generation(
          text: result.text, tokenIDs: result.tokenIds, promptTokenIDs: result.promptTokenIds,
          stopReason: result.stopReason), isHeldOut: ExitHeadFitter.isHeldOut(index))
      bar.show(done: index + 1)
    }
    bar.clear()
  }
}
