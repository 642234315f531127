import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import Transformers

/// Makes an ``Adaptation``: runs the model on documents, fits exit heads, plans which exits to look at, certifies what
/// changes outputs, and takes what is fastest on the clock.
///
/// Documents are divided in their order: the first ones (three tenths, at most 100) make heads, plan and guard, and the
/// others certify. Every step leaves a file in the folder, and the same call goes on from there.
public struct AdaptationRun {
  /// What a run is doing.
  public enum Step: String, Sendable, CaseIterable {
    /// Writing full-depth outputs.
    case outputs = "outputs to fit on"
    /// Reading them layer by layer.
    case states = "outputs read for the heads"
    /// Making a guard.
    case protection = "documents of the guard"
    /// Decoding at every threshold of early exits.
    case exits = "documents at every exit threshold"
    /// Decoding at every depth of prompts.
    case prompts = "documents at every prompt depth"
    /// Decoding at every threshold of early exits after prompts that stop.
    case both = "documents at every exit threshold after prompts that stop"
    /// Timing what is certified, and what changes no output.
    case timing = "documents on the clock"
  }

  /// The fewest documents that can be adapted to.
  public static let fewestDocuments = 60
  /// Share of tokens that exits, and prompts that stop, have to leave as they are when they are planned; what they do
  /// to outputs is certified afterwards.
  static let plannedAgreement = 0.95
  static let timedDocuments = 12

  let subject: DecodingSubject
  let folder: String
  let settings: CalibrationSettings
  let metric: QualityMetric
  let risk: QualityRisk
  let maxTokens: Int?
  let documentsPath: String
  let fitting: [DocumentRecord]
  let certifying: [DocumentRecord]
  let regime: DecodingRegime
  let draftHead: DraftHead?
  /// Documents that are too long to be read whole.
  public let skipped: [DocumentIdentifier]
  let shouldStop: () -> Bool
  let progress: (Step, Int, Int) -> Void

  /// What a folder's files were made for: another run has to be the same.
  private struct Request: Codable, Equatable {
    var version = 1
    var model: String
    var compute: String
    var documents: String
    var count: Int
    var metric: String
    var risk: String
    var maxTokens: Int?
    /// What the prompts are known by, where they are not those of chat models.
    var prompts: String?
  }

  /// - Parameters:
  ///   - subject: The model.
  ///   - records: The documents, in their order; a question makes its document one to answer from.
  ///   - documentsPath: The file that they are from.
  ///   - folder: Where everything goes; made where it is not there.
  ///   - settings: ε, δ and the rule, fixed before anything is measured.
  ///   - metric: What outputs are measured by.
  ///   - risk: What losses are relative to.
  ///   - maxTokens: The most tokens of an output; `nil` for what is usual for its task.
  ///   - draftHead: What may draft as well, beside look-up in the text.
  ///   - shouldStop: Asked before each token.
  ///   - progress: Told of the step, what is done of it and how much there is.
  /// - Throws: ``CertificationError`` for too few documents, and for a folder of other documents, model or metric;
  ///   `RiskControlError` where so few documents cannot certify ε.
  public init(
    _ subject: DecodingSubject, records: [DocumentRecord], documentsPath: String, folder: String,
    settings: CalibrationSettings, metric: QualityMetric, risk: QualityRisk, maxTokens: Int? = nil,
    draftHead: DraftHead? = nil, shouldStop: @escaping () -> Bool = { Task.isCancelled },
    progress: @escaping (Step, Int, Int) -> Void = { _, _, _ in }
  ) throws {
    self.subject = subject
    self.folder = folder
    self.settings = settings
    self.metric = metric
    self.risk = risk
    self.maxTokens = maxTokens
    self.draftHead = draftHead
    self.documentsPath = documentsPath
    self.shouldStop = shouldStop
    self.progress = progress
    guard !subject.model.hasEncoder else {
      throw CertificationError(
        .documents, "\(subject.model.name) is an encoder-decoder; adapt takes decoders, see calibrate")
    }
    // Nothing is certified of a document that has to be cut, and it is decoded at full depth.
    var (whole, skipped): ([DocumentRecord], [DocumentIdentifier]) = ([], [])
    for record in records {
      let options = try subject.model.options(for: record, maxTokens: maxTokens)
      let prompt = try subject.model.prompt(for: record.item.task, document: record.item.document)
      if prompt.count + options.maxTokens <= subject.model.contextLength {
        whole.append(record)
      } else {
        skipped.append(record.id)
      }
    }
    self.skipped = skipped
    guard whole.count >= Self.fewestDocuments else {
      throw CertificationError(
        .documents,
        "\(documentsPath): \(whole.count) documents that fit the model's context; adapting takes at least "
          + "\(Self.fewestDocuments)")
    }
    let fitted = min(100, whole.count * 3 / 10)
    fitting = Array(whole.prefix(fitted))
    certifying = Array(whole.dropFirst(fitted))
    regime = DecodingRegime(
      tasks: whole.map(\.item.task), options: GenerationOptions(), maxTokens: maxTokens)
    try risk.check(certifying, metric: metric, name: documentsPath)
    var one = settings
    one.delta /= Double(Adaptation.Way.certifiable.count)
    try one.checkFeasibility(sampleCount: certifying.count, lossBound: metric.bound)
    try openFolder(count: records.count)
  }

  private func openFolder(count: Int) throws {
    let request = Request(
      model: subject.modelDigest, compute: subject.model.computeDescription,
      documents: try FileDigest.sha256(path: documentsPath), count: count, metric: metric.name,
      risk: risk.name, maxTokens: maxTokens,
      prompts: subject.model.promptStyle == .chat ? nil : subject.model.promptStyle.fingerprint)
    let path = Adaptation.File.request.path(in: folder)
    do {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    } catch {
      throw CertificationError(.runs, "cannot make the folder \(folder): \(error.localizedDescription)")
    }
    if let bytes = FileManager.default.contents(atPath: path) {
      guard (try? JSONDecoder().decode(Request.self, from: bytes)) == request else {
        throw CertificationError(
          .runs,
          "\(folder) is for another model, other documents or another metric; remove it to begin again")
      }
      return
    }
    try write(try JSONEncoder().encode(request), to: path)
  }

  func write(_ data: Data, to path: String) throws {
    do {
      try data.write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CertificationError(.runs, "cannot write to \(path): \(error.localizedDescription)")
    }
  }

  /// Heads, plan, guards and prices: what an earlier run has not left is made.
  func prepared() throws -> (heads: ExitHeads, planned: [Planned])? {
    guard let outputs = try writeOutputs(), let heads = try fitHeads(outputs),
      let plan = try planExits(heads, outputs), let prompts = try planPrompts(outputs),
      let planned = try planned(heads: heads, plan: plan, prompts: prompts, outputs: outputs)
    else { return nil }
    return (heads, planned)
  }

  /// Does all steps that no earlier run has done.
  ///
  /// - Returns: What pays, as it stands in the folder; `nil` where it was told to stop.
  public func run() throws -> Adaptation? {
    guard let (heads, planned) = try prepared(), let candidates = try certify(planned),
      let adaptation = try choose(among: candidates, heads: heads)
    else { return nil }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
    try write(
      encoder.encode(adaptation) + Data("\n".utf8), to: Adaptation.File.description.path(in: folder))
    return adaptation
  }
}
