import ArgumentParser
import Certification
import EarlyExit
import Generation
import RiskControl
import SpeculativeDecoding

/// Works on one document and shows the output, or on a file of many.
struct DocumentReport {
  /// The command's name.
  let command: String
  let documents: DocumentOptions
  let models: ModelOptions
  let sampling: SamplingOptions
  var exits: ExitOptions
  var speculation: SpeculationOptions
  let search: BeamOptions
  let caching: PromptCacheOptions
  var auditing = AuditOptions()
  let format: OutputOptions.Format
  /// What stands before a document that an encoder reads; nil for the model's own.
  var prefix: String?
  let usualMaxTokens: Int
  /// Whether the results say how sure the model was.
  var recordsProbabilities = false
  /// Whether answers have to be spans of the document.
  var isExtractive: Bool?
  /// A certificate of answers, and its path.
  var answering: (certificate: AnswerCertificate, path: String)?
  /// What is asked about a document; in a batch its record may say so.
  let makeTask: (RecordedRequest) throws -> DocumentTask

  func run() throws {
    var report = self
    report.exits.certificate = try auditing.certificateInUse(exits)
    try report.decode()
  }

  private func decode() throws {
    var options = sampling.makeOptions(usualMaxTokens: usualMaxTokens)
    options.recordsProbabilities = recordsProbabilities
    if let input = documents.input, let output = documents.output {
      try runBatch(input, output: output, options: options)
      return
    }
    let task = try makeTask(RecordedRequest())
    let input = try TextInput.document(path: documents.file)
    let model = try load()
    options.isExtractive = extraction(model)
    let regime = DecodingRegime(tasks: [task], options: options, maxTokens: sampling.maxTokens)
    try adapted(to: model, regime).decode(input, task, model: model, regime: regime, options: options)
  }

  private func decode(
    _ input: TextInput, _ task: DocumentTask, model: LoadedModel, regime: DecodingRegime,
    options: GenerationOptions
  ) throws {
    let document = input.text.trimmingWhitespace()
    var options = try model.model.options(options, for: task, document: document, raw: documents.raw)
    let exitStrategy = try speculation.exitStrategy(exits, model, regime: regime)
    let speculation = drafting(model, exitStrategy)
    try exits.protect(&options, model)
    let certified = try certifiedAnswers(model, regime, &options)
    options.promptCache = try caching.open(for: model)
    Interrupt.watch()
    // A certificate says nothing about a document that had to be made to fit, nor about its parts.
    let isCertified = exits.certificate != nil
    let plain = options.atFullDepth
    var isWhole = true
    let partStrategy: (any DecodingStrategy)? = isCertified ? nil : exitStrategy
    let prompt = try model.model.makePrompt(
      for: task, document: document, options: isCertified ? plain : options,
      strategy: partStrategy ?? FullDepth(), rule: documents.long,
      raw: documents.raw, shouldStop: { Interrupt.isRequested }
    ) {
      isWhole = false
      Console.warning($0.sentence(for: input.name))
    }
    let auditor = try auditing.makeAuditor(exits)
    if let auditor, auditor.isAlarmed { Console.warning(auditor.standing) }
    let isCovered = !isCertified || isWhole
    if !isCovered { Console.warning("\(input.name): \(ExitOptions.notCovered)") }
    let session = try prompt.map { prompt in
      let isPlain = !isCovered || auditor?.isAlarmed == true
      let strategy: any DecodingStrategy
      if isPlain, speculation.kind == .promptLookup {
        strategy = try SpeculationStrategy([.promptLookup], for: model.model, rule: .exact)
      } else if isPlain {
        strategy = FullDepth()
      } else {
        strategy =
          try search.strategy ?? certified?.strategy
          ?? speculation.strategy(
            model, threads: models.threads, exits: exits, exitStrategy: exitStrategy, regime: regime)
      }
      return try model.model.makeSession(
        prompt: prompt, options: isPlain ? plain : options, strategy: strategy,
        shouldStop: { Interrupt.isRequested })
    }
    try GenerationReport(
      model: model, name: input.name, format: format, options: options, exits: exits,
      showsDrafts: speculation.showDrafts,
      findings: Findings(task: task, document: input.text, cites: documents.cite), certified: certified,
      isWhole: isWhole
    ).run(session)
    if let session { try options.promptCache?.settle(session) }
    if isCovered, let auditor, !auditor.isAlarmed, let session {
      try auditor.look(at: session.generation, model: model.model, options: options, source: document)
    }
  }

  /// Who drafts: where nobody was asked for, what stands in the text already, since outputs about a document say much
  /// in its words. That changes no output, with early exits or without, and costs nothing to load.
  private func drafting(_ model: LoadedModel, _ exitStrategy: ExitStrategy?) -> SpeculationOptions {
    let isOpen =
      speculation.kind == nil && !exits.fullDepth && exits.trace == nil && !exits.showExits
      && search.beams == nil && answering == nil
    // Wrong drafts have to leave no trace in the cache.
    guard isOpen, !model.model.hasEncoder, exitStrategy?.cachePolicy ?? .defer == .defer else {
      return speculation
    }
    var drafting = speculation
    drafting.drafter = .promptLookup
    return drafting
  }

  /// What a certificate of answers says here.
  func certifiedAnswers(
    _ model: LoadedModel, _ regime: DecodingRegime, _ options: inout GenerationOptions
  ) throws -> CertifiedAnswers? {
    guard let answering else { return nil }
    let draft = try speculation.draft.map { try LoadedDraft($0, for: model, threads: models.threads) }
    let certified = try CertifiedAnswers(
      answering.certificate, path: answering.path,
      for: draft.map { try model.subject(draft: $0) } ?? model.subject(exits.policy), regime: regime)
    if certified.strategy == nil, speculation.isActive || search.beams != nil {
      throw CommandError("\(answering.path): the certificate is for answers decoded greedily at full depth")
    }
    Console.note(answering.certificate.statement)
    options.applicability = certified.applicability
    return certified
  }

  /// Whether answers are to be spans; `nil` for what is usual for the model, asked for or not.
  func extraction(_ model: LoadedModel) -> Bool? {
    isExtractive == model.model.promptStyle.isExtractive ? nil : isExtractive
  }

  func load() throws -> LoadedModel {
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
