import ArgumentParser
import Certification
import EarlyExit
import FileFormats
import Generation

/// A file of many documents, or one shard of it.
extension DocumentReport {
  func runBatch(_ input: String, output: String, options: GenerationOptions) throws {
    guard search.beams == nil else {
      throw ValidationError("beams are for one document at a time; leave --beams out with --input")
    }
    guard let shard = try documents.sharding.chosen() else {
      let records = try DocumentFile.read(input, makeTask: makeTask)
      try checkSingleDocumentOptions()
      let (runner, _) = try makeRunner(records, options: options)
      try runner.run(records, input: input, output: output)
      return
    }
    if auditing.audit != nil {
      throw ValidationError("--audit looks at all documents in a row; leave it out with --shard.")
    }
    try ShardFailure.classifying {
      try run(shard, of: input, output: output, options: options)
    }
  }

  private func run(_ shard: Shard, of input: String, output: String, options: GenerationOptions) throws {
    let all = try DocumentFile.read(input, makeTask: makeTask)
    try checkSingleDocumentOptions()
    let own = all.filter { shard.contains($0.id) }
    let begun = try ShardOptions.begun(
      shard, command: command, models: models, data: input, output: output, documents: all.count,
      lines: own.count)
    guard var description = begun else { return }
    // What outputs depend on is settled by all documents, so that it is the same for every shard.
    let (runner, model) = try makeRunner(all, options: options)
    description.modelDigest = try model.digest()
    try runner.run(
      own, input: input, output: shard.path(for: output),
      shard: BatchShardHeader(shard: description, settings: runner.settings.digest))
  }

  private func checkSingleDocumentOptions() throws {
    if exits.trace != nil || exits.showExits || speculation.showDrafts {
      throw ValidationError("--trace, --show-exits and --show-drafts take one document, not --input.")
    }
  }

  private func makeRunner(_ records: [DocumentRecord], options: GenerationOptions) throws -> (
    BatchRunner, LoadedModel
  ) {
    let model = try load()
    var options = options
    options.isExtractive = extraction(model)
    let regime = DecodingRegime(
      tasks: records.map(\.item.task), options: options, maxTokens: sampling.maxTokens)
    let runner = try adapted(to: model, regime).makeRunner(model, regime, options: options)
    return (runner, model)
  }

  private func makeRunner(
    _ model: LoadedModel, _ regime: DecodingRegime, options: GenerationOptions
  ) throws -> BatchRunner {
    var options = options
    let certified = try certifiedAnswers(model, regime, &options)
    func policy(_ exits: ExitOptions) throws -> BatchRunner.Policy {
      var options = options
      let exitStrategy = try speculation.exitStrategy(exits, model, regime: regime)
      let strategy =
        try certified?.strategy
        ?? speculation.strategy(
          model, threads: models.threads, exits: exits, exitStrategy: exitStrategy, regime: regime)
      try exits.protect(&options, model)
      return BatchRunner.Policy(
        options: options, strategy: strategy, hasExits: exitStrategy != nil || strategy is ExitStrategy,
        auditor: try auditing.makeAuditor(exits))
    }
    let first = try policy(exits)
    var names = try exits.settings(model).merging(speculation.settings(model, threads: models.threads)) { $1 }
    names["answers"] = try answering?.certificate.digest()
    let settings = try BatchSettings(
      model, options: first.options, rule: documents.long, raw: documents.raw, seed: sampling.seed,
      exits: names)
    return BatchRunner(
      model: model.model, policy: first,
      saferPolicy: {
        var exits = exits
        exits.certificate = try auditing.certificateInUse(exits)
        return exits.certificate == self.exits.certificate ? nil : try policy(exits)
      },
      rule: documents.long, raw: documents.raw, isCertified: exits.certificate != nil, settings: settings,
      width: documents.batch, certified: certified
    )
  }
}
