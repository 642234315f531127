import ArgumentParser
import Checkpoints
import EarlyExit
import Foundation
import RiskControl

struct SweepCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "sweep",
    abstract: "Measure what each exit threshold costs a model on documents with references.",
    discussion: """
      Runs every document at full depth, then at each threshold of the grid at which its output changes. Writes NAME.csv, the \
      table of losses that calibrate reads; NAME.costs.csv, megabytes of weights read a token; NAME.policy.json, which \
      certificates name; and NAME.sweep.jsonl, a line a document: run again, and documents that are in it are kept.

      EXAMPLES
        egress sweep --data docs.jsonl --confidence saturation --exit-layers 24,27 --output run
        egress calibrate run.csv --costs run.costs.csv --policy run.policy.json --model model.gguf --epsilon 0.05
        egress summarize --certificate run.certificate.json --exit-policy run.policy.json article.txt
      """)

  enum Risk: String, ExpressibleByArgument, CaseIterable { case gap, consistency }

  @Option(
    help: ArgumentHelp(
      "JSON Lines file with the fields id, document, question and references.", valueName: "docs.jsonl"))
  var data: String

  @Option(help: ArgumentHelp("Where the results go, without extension.", valueName: "name"))
  var output: String

  @Option(help: "The loss: \(SequenceLoss.all.map(\.name).joined(separator: ", ")).")
  var metric = "rouge-l"

  @Option(
    help: "gap: loss against the references, less that of the full model; consistency: against its output.")
  var risk = Risk.gap

  @Option(
    help: "Thresholds to try, as 0.99,0.9 or 0.95:0.5:-0.05; they must be chosen without looking at results.")
  var grid = NumberList([0.999, 0.99, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5])

  @Option(help: "Documents to use. (default: all)")
  var limit: Int?

  @Option(help: "The most tokens of an output. (default: 160; answer: 48)")
  var maxTokens: Int?

  @OptionGroup var exits: ExitPolicyOptions
  @OptionGroup var models: ModelOptions

  private struct Record: Decodable {
    var references: [String]?
  }

  /// A line of the work file.
  private struct Line: Codable {
    var id: BatchIdentifier
    var thresholds: [Double]
    var losses: [Double]
    var megabytes: [Double]
    var layers: [Double]
    var text: [String]
  }

  func validate() throws {
    guard SequenceLoss(name: metric) != nil else { throw ValidationError("--metric \(metric) is not known.") }
    guard !grid.values.isEmpty, grid.values.allSatisfy({ $0 >= 0 && $0 < 1 }) else {
      throw ValidationError("--grid must hold thresholds at least 0 and below 1.")
    }
    if let limit, limit < 1 { throw ValidationError("--limit must be at least 1, but is \(limit).") }
  }

  func run() throws {
    guard let loss = SequenceLoss(name: metric) else { return }
    let records = try BatchInput.read(data) { $0.map { .answer(question: $0) } ?? .summarize }
      .prefix(limit ?? .max)
    let references = try readReferences(count: records.count)
    let loaded = try models.load()
    let policy = try exits.policy(threshold: 0, heads: exits.loadHeads(loaded))
    let strategy = try exits.strategy(policy, heads: exits.loadHeads(loaded), model: loaded.model)
    let digest = try Checkpoints.FileDigest.sha256(model: loaded.path)
    let description = try ExitPolicyDescription(
      strategy, policy: policy, model: loaded.model, modelDigest: digest,
      headsDigest: exits.exitHeads.map { try Checkpoints.FileDigest.sha256(path: $0) })
    let header = try header(description, of: records)
    var lines = try resume(header: header)
    guard lines.count <= records.count, zip(lines, records).allSatisfy({ $0.id == $1.id }) else {
      throw CommandError("\(output).sweep.jsonl is of other documents; choose another --output")
    }
    let work = try LineFile(path: output + ".sweep.jsonl")
    for line in try [header] + lines.map({ try JSONOutput.line($0) }) { try work.append(line) }
    Interrupt.watch()
    let bar = ProgressBar(total: records.count, what: "documents")
    for (record, reference) in zip(records, references).dropFirst(lines.count) {
      bar.show(done: lines.count)
      let options = GenerationOptions(maxTokens: maxTokens ?? record.item.task.usualMaxTokens)
      let sweep = try ExitSweep(
        model: loaded.model, options: options, strategy: strategy, policy: policy, grid: grid.values)
      let prompt = try loaded.model.prompt(for: record.item.task, document: record.item.document)
      guard prompt.count + (loaded.model.hasEncoder ? 0 : options.maxTokens) <= loaded.model.contextLength
      else {
        throw CommandError("document \(record.id) has \(prompt.count) tokens, more than the model can hold")
      }
      guard let pieces = try sweep.run(prompt, shouldStop: { Interrupt.isRequested }) else {
        throw ExitCode(Interrupt.exitCode)
      }
      let texts = pieces.map { $0.generation.text.trimmingWhitespace() }
      let line = Line(
        id: record.id, thresholds: pieces.map(\.threshold),
        losses: texts.map { text in
          switch risk {
          case .gap:
            loss.loss(text, references: reference) - loss.loss(texts[0], references: reference)
          case .consistency: text == texts[0] ? 0 : loss.loss(text, references: [texts[0]])
          }
        }, megabytes: pieces.map { $0.bytesPerToken / 1e6 },
        layers: pieces.map { $0.generation.averageLayer ?? 0 }, text: texts)
      try work.append(JSONOutput.line(line))
      lines.append(line)
    }
    bar.clear()
    try write(lines, description)
  }

  /// What a work file belongs to; a resumed run must have the same.
  private func header(_ description: ExitPolicyDescription, of records: ArraySlice<BatchRecord>) throws
    -> String
  {
    struct Header: Encodable {
      var policy: ExitPolicyDescription
      var metric: String
      var risk: String
      var grid: [Double]
      var maxTokens: Int?
      var documents: String
    }
    return try JSONOutput.line(
      Header(
        policy: description, metric: metric, risk: risk.rawValue, grid: grid.values, maxTokens: maxTokens,
        documents: Checkpoints.FileDigest.sha256(path: data)))
  }

  private func readReferences(count: Int) throws -> [[String]] {
    let (bytes, name) = try TextInput.bytes(path: data)
    var references: [[String]] = []
    for line in bytes.split(separator: UInt8(ascii: "\n")) where references.count < count {
      guard line.contains(where: { $0 > 32 }) else { continue }
      let found = try? JSONOutput.decode(Record.self, from: line).references
      if risk == .gap, found?.isEmpty ?? true {
        throw CommandError(
          "\(name): document \(references.count + 1) has no references, which --risk gap needs")
      }
      references.append(found ?? [])
    }
    return references
  }

  private func resume(header: String) throws -> [Line] {
    guard let (bytes, name) = try? TextInput.bytes(path: output + ".sweep.jsonl") else { return [] }
    var parts = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    // What follows the last line's end is the part of a line that an interruption left.
    parts.removeLast()
    guard let first = parts.first else { return [] }
    guard Array(first) == Array(header.utf8) else {
      throw CommandError("\(name) is of another model, policy or data; choose another --output")
    }
    return try parts.dropFirst().enumerated().map { index, part in
      do {
        return try JSONOutput.decode(Line.self, from: part)
      } catch {
        throw CommandError("\(name) line \(index + 2) is damaged; remove the file to begin again")
      }
    }
  }

  private func write(_ lines: [Line], _ description: ExitPolicyDescription) throws {
    let table = try LossTable(
      steps: lines.map { LossSteps(thresholds: $0.thresholds, losses: $0.losses, costs: $0.megabytes) })
    var losses = ""
    var costs = ""
    let means = table.meanCosts() ?? []
    for (row, threshold) in table.thresholds.enumerated() {
      let values = table.losses(atRow: row) ?? []
      losses += ([threshold] + values).map { "\($0)" }.joined(separator: ",") + "\n"
      costs += "\(means[row])\n"
    }
    let files = [
      (".csv", Data(losses.utf8)), (".costs.csv", Data(costs.utf8)),
      (".policy.json", try description.jsonData()),
    ]
    for (suffix, data) in files {
      do {
        try data.write(to: URL(fileURLWithPath: output + suffix), options: .atomic)
      } catch {
        throw CommandError("cannot write to \(output + suffix)")
      }
    }
    let rows = zip(table.thresholds, zip(table.meanLosses(), means))
    try TextOutput.standard.write("threshold  mean loss  megabytes a token, of \(lines.count) documents\n")
    for (threshold, (mean, cost)) in rows {
      try TextOutput.standard.write(
        "\(threshold.formatted(places: 4))     \(mean.formatted(places: 4))     \(cost.formatted(places: 1))\n"
      )
    }
  }
}
