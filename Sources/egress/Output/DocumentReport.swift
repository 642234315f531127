import ArgumentParser
import EarlyExit

/// Works on one document and shows the output, or on a file of many.
struct DocumentReport {
  let documents: DocumentOptions
  let models: ModelOptions
  let sampling: SamplingOptions
  let exits: ExitOptions
  let speculation: SpeculationOptions
  let search: BeamOptions
  let format: OutputOptions.Format
  /// What stands before a document that an encoder reads; nil for the model's own.
  var prefix: String?
  let usualMaxTokens: Int
  /// What is asked about a document; `question` is that of its record in a batch.
  let makeTask: (_ question: String?) throws -> DocumentTask

  func run() throws {
    var options = sampling.makeOptions(usualMaxTokens: usualMaxTokens)
    if let input = documents.input, let output = documents.output {
      guard !speculation.isActive else {
        throw ValidationError(
          "drafting is for one document at a time; leave --drafter and --draft out with --input")
      }
      guard search.beams == nil else {
        throw ValidationError("beams are for one document at a time; leave --beams out with --input")
      }
      let records = try BatchInput.read(input, makeTask: makeTask)
      if exits.trace != nil || exits.showExits {
        throw ValidationError("--trace and --show-exits take one document, not --input.")
      }
      let model = try load()
      options.exits = try exits.makeStrategy(model)
      let settings = try BatchSettings(
        model, options: options, rule: documents.long, raw: documents.raw, seed: sampling.seed,
        exits: exits.settings(model))
      try BatchRunner(
        model: model.model, options: options, rule: documents.long, raw: documents.raw, settings: settings
      )
      .run(records, input: input, output: output)
      return
    }
    let task = try makeTask(nil)
    let document = try TextInput.document(path: documents.file)
    let model = try load()
    options.exits = try speculation.exitStrategy(exits, model)
    Interrupt.watch()
    let prompt = try model.model.makePrompt(
      for: task, document: document.text.trimmingWhitespace(), options: options, rule: documents.long,
      raw: documents.raw,
      shouldStop: { Interrupt.isRequested }, observe: { Console.warning($0.sentence(for: document.name)) })
    let session: (any OutputSession)? = try prompt.map {
      try search.makeSession(model: model.model, prompt: $0, options: options)
        ?? speculation.makeSession(
          model, prompt: $0, options: options, threads: models.threads, exits: exits)
    }
    try GenerationReport(
      model: model, format: format, options: options, exits: exits, showsDrafts: speculation.showDrafts
    ).run(session)
  }

  private func load() throws -> LoadedModel {
    var model = try models.load()
    guard let prefix else { return model }
    guard model.model.hasEncoder else {
      throw CommandError("--prefix is for encoder-decoders; \(model.model.name) is a decoder alone")
    }
    model.model.summaryPrefix = prefix
    return model
  }
}

extension LongDocumentNote {
  /// What happened, for the user.
  func sentence(for document: String) -> String {
    switch self {
    case .split(let tokens, let parts):
      "\(document) has \(tokens) tokens, more than fit; it is summarised in \(parts) parts, then as a whole"
    case .selected(let tokens, let passages, let count):
      "\(document) has \(tokens) tokens, more than fit; "
        + "the \(passages) of its \(count) passages nearest to the question are read"
    case .truncated(let tokens, let kept):
      "\(document) has \(tokens) tokens, more than fit; only the first \(kept) are read"
    }
  }
}
