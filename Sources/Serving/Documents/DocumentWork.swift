import Certification
import Generation
import Transformers

/// What a request about a document comes to: a prompt, and the way it is decoded.
struct DocumentWork: Sendable {
  let asked: DocumentRequest
  private let served: ServedModel
  /// As the task wants them.
  private var options: GenerationOptions
  private var prompt: [TokenID] = []
  /// The certificate of such requests; `nil` where there is none.
  let certificate: ServedCertificate?
  /// Why it is not applied; `nil` where it is.
  private(set) var reason: String?
  /// Whether the document fitted as it is.
  private(set) var isWhole = true
  /// What had to be done to make it fit.
  private(set) var notes: [String] = []

  init(_ asked: DocumentRequest, served: ServedModel) throws {
    self.asked = asked
    self.served = served
    options = try served.model.options(asked.options, for: asked.task, document: asked.document)
    let found = served.certificate(for: asked.regime)
    certificate = found?.certificate
    reason = found?.reason
    if let certified = certifiedAnswers { options.applicability = certified.applicability }
  }

  /// What decides whether an answer is given; `nil` where every one is.
  var certifiedAnswers: CertifiedAnswers? {
    if reason == nil, case .answers(let certified)? = certificate?.subject { certified } else { nil }
  }

  /// Whether nothing of the output is shown before its end.
  var isHeldBack: Bool { certifiedAnswers != nil }

  /// Makes the document fit.
  ///
  /// - Parameter decode: Decodes prompts of parts at full depth.
  mutating func makePrompt(
    decodingParts decode: ([DocumentPart]) async throws -> [Generation]
  ) async throws {
    let model = served.model
    let task = model.completed(asked.task, document: asked.document)
    var document = asked.document
    var round = 0
    while true {
      try Task.checkCancellation()
      let plan = try model.plan(
        task, document: document, options: options, rule: model.roundRule(asked.rule, round), raw: false)
      if let note = plan.note { add(note) }
      switch plan {
      case .whole(let prompt, _):
        self.prompt = prompt
        return
      case .parts(let parts, _):
        document = LanguageModel.join(try await decode(parts))
        round += 1
      }
    }
  }

  private mutating func add(_ note: LongDocumentNote) {
    isWhole = false
    switch note {
    case .split(let tokens, let parts):
      notes.append(
        "the text has \(tokens) tokens, more than fit; it is summarised in \(parts) parts, then as a whole")
    case .selected(let tokens, let passages, let count):
      notes.append(
        "the document has \(tokens) tokens, more than fit; the \(passages) of its \(count) passages nearest to the "
          + "question are read")
    case .truncated(let tokens, let kept):
      notes.append("the text has \(tokens) tokens, more than fit; only the first \(kept) are read")
    }
    // A certificate says nothing about a document that had to be made to fit, nor about its parts.
    if case .decoding? = certificate?.subject, reason == nil {
      reason = "the document had to be made to fit: decoded at full depth"
    }
  }

  /// What compares the output with full depth; `nil` where nobody does, and where it came about at full depth.
  var watch: CertificateWatch? { reason == nil ? certificate?.watch : nil }

  /// The same at full depth.
  var plainWork: EngineWork { EngineWork(prompt: prompt, options: options.atFullDepth) }

  var engineWork: EngineWork {
    if reason == nil, case .decoding(let policy)? = certificate?.subject {
      return EngineWork(prompt: prompt, options: options, strategy: policy)
    }
    // Answers may be certified together with the exits or the drafts that they came about with.
    return EngineWork(
      prompt: prompt, options: options, strategy: certifiedAnswers?.strategy ?? served.strategy)
  }
}
