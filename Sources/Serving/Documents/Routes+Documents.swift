import Certification
import Generation
import Hummingbird
import RiskControl
import Transformers

extension Routes {
  @Sendable func summarize(_ request: Request, _ context: ServingContext) async throws -> Response {
    try await document(request, context, kind: .summary)
  }

  @Sendable func answer(_ request: Request, _ context: ServingContext) async throws -> Response {
    try await document(request, context, kind: .answer)
  }

  private func document(
    _ request: Request, _ context: ServingContext, kind: DocumentRequest.Kind
  ) async throws -> Response {
    var fields = try await fields(request, context)
    let asked = try DocumentRequest(
      &fields, kind: kind, context: configuration.context, style: served.model.promptStyle)
    try check(asked.model)
    var work: DocumentWork
    do {
      work = try DocumentWork(asked, served: served)
      try await work.makePrompt(decodingParts: { try await decode($0, context) })
    } catch {
      throw Self.promptError(error, param: "document")
    }
    let served = try await begin([work.engineWork], context)
    guard asked.streams else {
      var tally = DraftTally()
      let outputs = try await served.outputs { tally.add($0) }
      guard let output = outputs.first else { throw APIError.stopping }
      audit(work, output, context)
      return Self.respond(.object(try result(work, output, tally)))
    }
    return served.stream { [self, work] write in
      var tally = DraftTally()
      for try await event in served.events {
        switch event {
        case .token(_, let step):
          tally.add(step)
          // Whether an answer is given is known at its end.
          guard !work.isHeldBack, !step.text.isEmpty else { continue }
          var piece: [String: JSONValue] = ["text": .text(step.text), "layer": .integer(step.layer)]
          if let source = step.source { piece["writer"] = .text(source.writer.rawValue) }
          try await write(.object(piece))
        case .finished(_, let generation):
          audit(work, generation, context)
          var last = try result(work, generation, tally)
          last["done"] = .boolean(true)
          try await write(.object(last))
        }
      }
    }
  }

  /// Has a share of what a certificate brought about decoded at full depth as well, when nobody is kept waiting by it.
  private func audit(_ work: DocumentWork, _ output: Generation, _ context: ServingContext) {
    guard let watch = work.watch, watch.draws() else { return }
    let (metrics, logger) = (engine.metrics, context.logger)
    let isInside = output.applicability?.isInside ?? true
    engine.audit(
      AuditWork(work: isInside ? work.plainWork : nil) { full in
        watch.note(output, full: full, source: work.asked.document, metrics: metrics, logger: logger)
      })
  }

  /// Decodes parts of a long document, so few at a time that other requests get their turns.
  private func decode(
    _ parts: [DocumentPart], _ context: ServingContext
  ) async throws -> [Generation] {
    let atATime = max(1, configuration.slots / 4)
    return try await withThrowingTaskGroup(of: (Int, Generation?).self) { group in
      var outputs = [Generation?](repeating: nil, count: parts.count)
      for (index, part) in parts.enumerated() {
        if index >= atATime, let (done, output) = try await group.next() { outputs[done] = output }
        group.addTask {
          let request = try await begin(
            [EngineWork(prompt: part.prompt, options: part.options)], context, isPart: index > 0)
          return (index, try await request.outputs().first)
        }
      }
      for try await (done, output) in group { outputs[done] = output }
      return outputs.compactMap { $0 }
    }
  }

  /// What the command line says with `--format json`, and how it came about.
  private func result(
    _ work: DocumentWork, _ output: Generation, _ tally: DraftTally
  ) throws -> [String: JSONValue] {
    var result: [String: JSONValue] = [
      "object": .text("egress.output"), "id": .text("egress-" + Reply.randomName()),
      "model": .text(served.name), "system_fingerprint": .text(served.fingerprint),
      "text": .text(output.text), "stop_reason": .text(output.stopReason.rawValue),
      "usage": Reply.usage(promptTokens: output.promptTokenIDs.count, outputTokens: output.tokenIDs.count),
      "notes": .array(work.notes.map { .text($0) }), "egress": egress(work, output, tally),
    ]
    switch work.asked.task {
    case .answer(let question):
      let answer = DocumentAnswer(output, document: work.asked.text, question: question)
      result["answered"] = .boolean(answer.answered)
      result["confidence"] = .optional(answer.confidence)
      result["source"] = try answer.source.map { try JSONValue(encoding: $0) } ?? .null
      if let certified = work.certifiedAnswers {
        result["given"] = .boolean(certified.gives(output, answer: answer, isWhole: work.isWhole))
      }
    case .summary:
      result["sentences"] = try JSONValue(
        encoding: SummarySupport(document: work.asked.text).check(output.text))
    }
    return result
  }

  private func egress(_ work: DocumentWork, _ output: Generation, _ tally: DraftTally) -> JSONValue {
    var found: JSONValue = .null
    if let applicability = output.applicability {
      found = .object([
        "inside": .boolean(applicability.isInside), "p_value": .number(applicability.pValue),
      ])
    }
    return .object([
      "certificate": work.certificate?.json(reason: work.reason) ?? .null, "guard": found,
      "average_layer": .optional(output.averageLayer), "layer_count": .integer(served.layerCount),
      "tripped_at": output.trippedAt.map { .integer($0) } ?? .null, "drafts": tally.json,
      "seed": .optional(work.asked.seed.map { "\($0)" }),
    ])
  }
}

/// Who wrote the tokens of an output that was drafted.
struct DraftTally: Sendable {
  private var tokens = 0
  private var accepted = 0
  private var discarded = 0

  mutating func add(_ step: TokenStep) {
    guard let source = step.source else { return }
    tokens += 1
    if source.writer == .draft || source.writer == .lookup { accepted += 1 }
    discarded += source.discarded
  }

  /// Null where nothing was drafted.
  var json: JSONValue {
    tokens == 0 ? .null : .object(["accepted": .integer(accepted), "discarded": .integer(discarded)])
  }
}
