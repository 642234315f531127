import ArgumentParser
import Certification
import EarlyExit
import Generation
import SpeculativeDecoding

/// Works through a file of documents, several at a time, and writes the results in the file's order.
struct BatchRunner {
  /// How outputs come about, and what watches that.
  struct Policy {
    var options: GenerationOptions
    /// Early exits, drafts, or full depth.
    var strategy: any DecodingStrategy = FullDepth()
    /// Whether tokens of the model may leave its layers early.
    var hasExits = false
    /// Who compares a share of the outputs with full depth.
    var auditor: Auditor?
  }

  let model: LanguageModel
  let policy: Policy
  /// The policy to go on with after an alarm of the one in use; `nil` where none is left but full depth.
  var saferPolicy: () throws -> Policy? = { nil }
  let rule: LongDocumentRule
  let raw: Bool
  /// Whether exits or drafts are those of a certificate, which holds for whole documents.
  let isCertified: Bool
  let settings: BatchSettings
  /// Documents to decode at a time; `nil` for as many as a measurement says.
  var width: Int?
  /// Which answers are given; `nil` for all.
  var certified: CertifiedAnswers?

  /// - Parameter shard: What the documents are a part of; the output is then the shard's file.
  /// - Throws: `ExitCode` 130 or 143 after an interruption; results that are complete are in the output.
  func run(
    _ records: [DocumentRecord], input: String, output path: String, shard: BatchShardHeader? = nil
  ) throws {
    let output = try BatchOutput(
      path: path, records: records.map { ($0.id, settings.digest(of: $0.item)) }, input: input,
      header: shard)
    let before = output.completed
    if before > 0 {
      Console.note("\(path) has \(before) of \(records.count) results already; the others follow")
    }
    let bar = ProgressBar(total: records.count, what: "documents")
    Interrupt.watch()
    bar.show(done: before, since: before)
    defer { bar.clear() }
    if let auditor = policy.auditor, auditor.isAlarmed { Console.warning(auditor.standing) }
    var done = before
    var policy = policy
    while done < records.count {
      // An alarm ends the run, and what is left is decoded by a safer policy, or at full depth.
      if policy.auditor?.isAlarmed == true {
        bar.clear()
        policy = try saferPolicy() ?? fullDepth(policy)
      }
      done += try run(records[done...], policy, after: done, since: before, bar: bar, output: output)
      if Interrupt.isRequested, done < records.count { throw ExitCode(Interrupt.exitCode) }
    }
    try output.finish()
  }

  private func fullDepth(_ policy: Policy) -> Policy {
    Policy(options: policy.options.atFullDepth)
  }

  /// Runs documents to the end, an interruption, or an alarm.
  ///
  /// - Returns: How many are done.
  private func run(
    _ rest: ArraySlice<DocumentRecord>, _ policy: Policy, after before: Int, since resumed: Int,
    bar: ProgressBar, output: BatchOutput
  ) throws -> Int {
    let (options, auditor) = (policy.options, policy.auditor)
    let width = try width ?? usualWidth(of: rest.count, policy)
    let batch = DocumentBatch(
      model: model, options: options, strategy: policy.strategy, wholeOnly: isCertified, rule: rule, raw: raw,
      width: width, shouldStop: { Interrupt.isRequested || auditor?.isAlarmed ?? false })
    var done = 0
    var uncovered: Set<Int> = []
    let records = Array(rest)
    _ = try batch.run(records.map(\.item)) { event in
      switch event {
      case .note(let item, let note):
        bar.clear()
        let name = "document \(records[item].id)"
        Console.warning(note.sentence(for: name))
        uncovered.insert(item)
        if isCertified { Console.warning("\(name): \(ExitOptions.notCovered)") }
      case .finished(let item, let generation):
        let record = records[item]
        try output.append(
          result(
            generation, of: record, hasExits: policy.hasExits, isWhole: !uncovered.contains(item), bar: bar))
        done = item + 1
        bar.show(done: before + done, since: resumed)
        if let auditor, !auditor.isAlarmed, !uncovered.contains(item) {
          try auditor.look(
            at: generation, model: model,
            options: model.options(
              options, for: record.item.task, document: record.item.document, raw: raw),
            source: record.item.document)
        }
      }
    }
    return done
  }

  /// Fewer documents than this are through before a measurement pays.
  private static let worthMeasuring = 64

  /// By what passes of several widths take; where drafts are verified, passes of a few tokens of each document.
  private func usualWidth(of count: Int, _ policy: Policy) throws -> Int {
    guard count >= Self.worthMeasuring else { return DocumentBatch.usualWidth }
    let rows = policy.strategy is SpeculationStrategy ? 3 : 1
    return try BatchWidth(measuring: model, rows: rows, shouldStop: { Interrupt.isRequested }).width
  }

  private func result(
    _ generation: Generation, of record: DocumentRecord, hasExits: Bool, isWhole: Bool, bar: ProgressBar
  ) -> BatchResult {
    var result = BatchResult(
      id: record.id, settings: settings.digest(of: record.item), text: generation.text,
      tokenIds: generation.tokenIDs, promptTokenIds: generation.promptTokenIDs,
      stopReason: generation.stopReason, averageExitLayer: hasExits ? generation.averageLayer : nil)
    result.guard = GuardResult(generation.applicability)
    result.trippedAt = generation.trippedAt
    if let found = generation.applicability, !found.isInside {
      bar.clear()
      Console.warning(GuardResult.sentence("document \(record.id)", found))
    }
    let findings = Findings(task: record.item.task, document: record.original, cites: false)
    result.sentences = findings.sentences(generation)
    if let answer = findings.answer(generation) {
      result.given = certified.map { $0.gives(generation, answer: answer, isWhole: isWhole) }
      (result.answered, result.confidence, result.source) = (
        answer.answered, answer.confidence, answer.source
      )
    }
    return result
  }
}
