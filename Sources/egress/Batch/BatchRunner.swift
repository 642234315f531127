import ArgumentParser
import EarlyExit

/// Works through a file of documents, several at a time, and writes the results in the file's order.
struct BatchRunner {
  let model: LanguageModel
  let options: GenerationOptions
  let rule: LongDocumentRule
  let raw: Bool
  /// Whether exits are those of a certificate, which holds for whole documents.
  let isCertified: Bool
  let settings: BatchSettings

  /// - Throws: `ExitCode` 130 after an interruption; results that are complete are in the output.
  func run(_ records: [BatchRecord], input: String, output path: String) throws {
    let output = try BatchOutput(
      path: path, records: records.map { ($0.id, settings.digest(of: $0.item)) }, input: input)
    let before = output.completed
    if before > 0 {
      Console.note("\(path) has \(before) of \(records.count) results already; the others follow")
    }
    let rest = records[before...]
    let batch = DocumentBatch(
      model: model, options: options, rule: rule, raw: raw, exitsOnWholeOnly: isCertified,
      shouldStop: { Interrupt.isRequested })
    let bar = ProgressBar(total: records.count, what: "documents")
    Interrupt.watch()
    bar.show(done: before)
    defer { bar.clear() }
    let isComplete = try batch.run(rest.map(\.item)) { event in
      switch event {
      case .note(let item, let note):
        bar.clear()
        let name = "document \(rest[before + item].id)"
        Console.warning(note.sentence(for: name))
        if isCertified { Console.warning("\(name): \(ExitOptions.notCovered)") }
      case .finished(let item, let generation):
        let record = rest[before + item]
        var result = BatchResult(
          id: record.id, settings: settings.digest(of: record.item), text: generation.text,
          tokenIds: generation.tokenIDs, promptTokenIds: generation.promptTokenIDs,
          stopReason: generation.stopReason,
          averageExitLayer: options.exits == nil ? nil : generation.averageLayer)
        result.guard = GuardResult(generation.applicability)
        result.trippedAt = generation.trippedAt
        if let found = generation.applicability, !found.isInside {
          bar.clear()
          Console.warning(GuardResult.sentence("document \(record.id)", found))
        }
        let findings = Findings(task: record.item.task, document: record.original, cites: false)
        result.sentences = findings.sentences(generation)
        if let answer = findings.answer(generation) {
          (result.answered, result.confidence, result.source) =
            (answer.answered, answer.confidence, answer.source)
        }
        try output.append(result)
        bar.show(done: before + item + 1)
      }
    }
    if !isComplete { throw ExitCode(Interrupt.exitCode) }
  }
}
