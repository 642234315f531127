import FileFormats
import Foundation
import LossTables
import RiskControl
import TextLosses

/// From documents to a certificate: a sweep's outputs go to a file of runs, their losses to a table, and a rule chooses
/// the threshold.
///
/// ```swift
/// let sweep = try ThresholdSweep.exits(subject, strategy: strategy, policy: policy, regime: regime)
/// let calibrator = try Calibrator(sweep, metric: metric, documentsPath: "docs.jsonl")
/// let certificate = try calibrator.certificate(settings: CalibrationSettings(epsilon: 0.05), output: "docs")
/// try certificate?.write(to: "docs.certificate.json")
/// ```
public struct Calibrator {
  /// What decodes the documents at every threshold.
  public let sweep: ThresholdSweep
  /// What outputs are measured by.
  public let metric: QualityMetric
  /// What losses are relative to.
  public let risk: QualityRisk
  /// The documents.
  public private(set) var records: [DocumentRecord]
  private let settings: RunSettings
  private let name: String

  /// - Parameters:
  ///   - sweep: What decodes the documents.
  ///   - metric: What outputs are measured by.
  ///   - risk: What losses are relative to.
  ///   - documentsPath: The file of the documents; its digest goes to the file of runs.
  ///   - records: The documents of that file to use; `nil` for all.
  /// - Throws: ``CertificationError`` for documents that cannot be read, and for one without references where the risk
  ///   needs them.
  public init(
    _ sweep: ThresholdSweep, metric: QualityMetric, risk: QualityRisk = .gap, documentsPath: String,
    records: [DocumentRecord]? = nil
  ) throws {
    self.sweep = sweep
    self.metric = metric
    self.risk = risk
    self.records = try records ?? DocumentFile.read(path: documentsPath)
    try risk.check(self.records, metric: metric, name: documentsPath)
    name = documentsPath
    var settings = sweep.settings
    settings.documents = try FileDigest.sha256(path: documentsPath)
    self.settings = settings
  }

  /// A calibrator whose outputs are all in shards: it decodes nothing.
  ///
  /// - Parameters:
  ///   - shards: Of one calibration, all of them.
  ///   - metric: What outputs are measured by.
  ///   - risk: What losses are relative to.
  ///   - documentsPath: The file of the documents.
  public init(
    _ shards: ShardSet, metric: QualityMetric, risk: QualityRisk = .gap, documentsPath: String
  ) throws {
    try self.init(
      .recorded(shards.runSettings()), metric: metric, risk: risk, documentsPath: documentsPath,
      records: shards.documents(path: documentsPath))
  }

  /// The same for one shard's documents, which certify nothing by themselves.
  public func restricted(to shard: Shard) -> Calibrator {
    var part = self
    part.records = records.filter { shard.contains($0.id) }
    return part
  }

  /// What certificates made here are about.
  public func subject() throws -> Certificate.Subject {
    try sweep.settings.policy.subject(metric: metric, risk: risk)
  }

  /// Opens the file of runs: outputs that an earlier run has left in it are kept.
  ///
  /// - Parameters:
  ///   - path: Where it is.
  ///   - measure: Measures what the parts of decoding cost, for a new file; `nil` to let the sweep do it. A shard may
  ///     leave it to its merge.
  ///   - shard: What the documents are a part of, where they are not all.
  public func openRuns(
    _ path: String, measure: (() throws -> SweepCosts?)? = nil, shard: ShardDescription? = nil
  ) throws -> RunFile {
    try RunFile(
      path: path, settings: settings, measure: measure ?? sweep.measure, records: records, shard: shard)
  }

  /// The same with prices that are known, or measured for a new file where they are not.
  ///
  /// - Throws: ``CertificationError`` for a file that was begun with other prices.
  public func openRuns(_ path: String, prices: SweepCosts?, measure: () throws -> SweepCosts) throws
    -> RunFile
  {
    let file = try RunFile(
      path: path, settings: settings, measure: { try prices ?? measure() }, records: records)
    guard prices == nil || prices == file.costs else {
      throw CertificationError(
        .runs, "\(path) was begun with other prices; give the same again, or choose another --output")
    }
    return file
  }

  /// Decodes the documents that the file of runs does not have yet.
  ///
  /// - Parameters:
  ///   - file: From ``openRuns(_:measure:shard:)``.
  ///   - shouldStop: Asked before each token.
  ///   - progress: Told how many documents the file has.
  /// - Returns: The lines of all documents, or `nil` where it was told to stop; the same call goes on from there.
  public func complete(
    _ file: RunFile, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    progress: (Int) -> Void = { _ in }
  ) throws -> [RunLine]? {
    let rest = Array(records.dropFirst(file.lines.count))
    let isComplete = try sweep.run(rest, shouldStop) { index, outputs in
      try file.append(RunLine(id: rest[index].id, outputs: outputs))
      progress(file.lines.count)
    }
    return isComplete ? Array(file.lines.prefix(records.count)) : nil
  }

  /// - Throws: ``CertificationError`` where the full model's outputs have nothing to do with the references, so that a
  ///   gap would be small whatever early exits did.
  public func checkVacuity(_ lines: [RunLine], metric: QualityMetric? = nil, risk: QualityRisk? = nil) throws
  {
    let (metric, risk) = (metric ?? self.metric, risk ?? self.risk)
    guard risk == .gap, case .text(let loss) = metric, loss.readsReferences else { return }
    let losses = zip(lines, records).map { loss.loss($0.texts[0], references: $1.references ?? []) }
    guard let reason = loss.vacuity(fullModelLosses: losses) else { return }
    throw CertificationError(.documents, "\(name): \(reason)")
  }

  /// Writes the table of losses and reads it back, so that a certificate is of what is in the file.
  ///
  /// - Parameters:
  ///   - lines: The outputs.
  ///   - path: Where the table goes.
  ///   - metric: Another than the calibrator's.
  ///   - risk: Another than the calibrator's.
  ///   - isAlone: Leaves out thresholds at which nothing changes; tables of one sweep that go together must not.
  public func losses(
    _ lines: [RunLine], path: String, metric: QualityMetric? = nil, risk: QualityRisk? = nil,
    isAlone: Bool = true
  ) throws -> LossTable {
    let (metric, risk) = (metric ?? self.metric, risk ?? self.risk)
    struct Line: Encodable {
      var id: DocumentIdentifier
      var thresholds: [Double] = []
      var losses: [Double] = []
      var costs: [Double] = []
    }
    var text = ""
    for (line, record) in zip(lines, records) {
      let losses = line.losses(
        metric, risk: risk, references: record.references ?? [], source: record.item.document)
      guard line.times.count == line.thresholds.count else {
        throw CertificationError(.runs, "the runs of document \(line.id) have no prices")
      }
      var row = Line(id: line.id)
      for (threshold, (loss, cost)) in zip(line.thresholds, zip(losses, line.times))
      where !isAlone || loss != row.losses.last || cost != row.costs.last {
        row.thresholds.append(threshold)
        row.losses.append(loss)
        row.costs.append(cost)
      }
      text += try JSONOutput.line(row) + "\n"
    }
    do {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CertificationError(.runs, "cannot write to \(path): \(error.localizedDescription)")
    }
    return try LossTable(path: path, options: TableOptions(lossBound: metric.bound))
  }

  /// Runs all documents and certifies a threshold.
  ///
  /// - Parameters:
  ///   - settings: ε, δ and the rule, fixed before anything is measured.
  ///   - output: What the names of the files begin with: `.runs.jsonl` and `.losses.jsonl` are written.
  ///   - program: What made the certificate.
  ///   - shouldStop: Asked before each token.
  /// - Returns: The certificate, or `nil` where it was told to stop; the same call goes on from there.
  public func certificate(
    settings: CalibrationSettings, output: String, program: String = EgressVersion.program,
    shouldStop: @escaping () -> Bool = { Task.isCancelled }
  ) throws -> Certificate? {
    guard let lines = try complete(openRuns(output + ".runs.jsonl"), shouldStop: shouldStop) else {
      return nil
    }
    try checkVacuity(lines)
    let table = try losses(lines, path: output + ".losses.jsonl")
    let result = try Calibration(settings).calibrate(table)
    return Certificate(result, table: table, settings: settings, subject: try subject(), program: program)
  }
}

extension QualityRisk {
  /// Checks that documents have what losses are to be relative to.
  ///
  /// - Throws: ``CertificationError`` for a document without references, or for references that say nothing, where the
  ///   loss is against them.
  public func check(_ records: [DocumentRecord], metric: QualityMetric, name: String) throws {
    guard self == .gap, metric.readsReferences else { return }
    if let record = records.first(where: { $0.references?.isEmpty ?? true }) {
      throw CertificationError(
        .documents,
        "\(name): document \(record.id) has no references (an array of texts), which --risk gap needs")
    }
    if case .text(let loss) = metric,
      let reason = loss.vacuity(references: records.map { $0.references ?? [] })
    {
      throw CertificationError(.documents, "\(name): \(reason)")
    }
  }
}
