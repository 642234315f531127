import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import TestSupport
import Testing
import TextLosses

/// From documents to a certificate and back to a strategy, by the library alone.
@Suite struct CertificationTests {
  private let directory: TemporaryDirectory
  private let subject: DecodingSubject
  private let data: String
  private let regime = DecodingRegime(
    tasks: [.summarize], options: GenerationOptions(), maxTokens: 8)

  init() throws {
    directory = try TemporaryDirectory()
    // Outputs hang on all tokens before; exits see the same model, so that their losses are 0 and all is certified.
    let (model, _) = LanguageModel.hashing()
    subject = DecodingSubject(model: model, modelDigest: String(repeating: "a", count: 64))
    let lines = (0..<60).map {
      #"{"id": \#($0), "document": "Text number \#($0).", "references": ["abc def"]}"#
    }
    data = try directory.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
  }

  private func calibrator(of subject: DecodingSubject? = nil) throws -> Calibrator {
    let policy = try ThresholdPolicy(threshold: 0, layers: [1, 2])
    let strategy = ExitStrategy(policy: policy, measure: SoftmaxConfidence())
    let sweep = try ThresholdSweep.exits(
      subject ?? self.subject, strategy: strategy, policy: policy, maxTokens: 8, regime: regime)
    return try Calibrator(
      sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .consistency, documentsPath: data)
  }

  private func certify(epsilon: Double = 0.1) throws -> (path: String, certificate: Certificate) {
    let certificate = try #require(
      try calibrator().certificate(
        settings: CalibrationSettings(epsilon: epsilon), output: directory.path + "/docs",
        shouldStop: { false }))
    let path = directory.path + "/docs.certificate.json"
    try certificate.write(to: path)
    return (path, certificate)
  }

  @Test func `a certificate leads to the strategy that it was made with`() throws {
    let (path, certificate) = try certify()
    #expect(certificate.outcome == .certified)
    let certified = try CertifiedPolicy.load(path, for: subject, regime: regime)
    #expect(certified.certificate == certificate)
    if certified.pays {
      guard case .exits(let strategy) = certified.decoding else {
        Issue.record("it pays, so tokens leave early")
        return
      }
      #expect(strategy.policy.exitLayers(layerCount: 4) == [1, 2])
    } else {
      guard case .fullDepth = certified.decoding else {
        Issue.record("it does not pay, so tokens pass all layers")
        return
      }
    }
    let session = try certified.makeSession(
      model: subject.model, prompt: [65, 66], options: GenerationOptions(maxTokens: 8), shouldStop: { false })
    while try session.next() != nil {}
    #expect(!session.generation.tokenIDs.isEmpty)
  }

  @Test func `a certificate does not hold for anything else`() throws {
    let (path, _) = try certify()
    var other = subject
    other.modelDigest = String(repeating: "b", count: 64)
    var headed = subject
    headed.headsDigest = String(repeating: "c", count: 64)
    var drafted = subject
    drafted.draft = .init(name: "none", source: .promptLookup, digest: "d")
    for (subject, word) in [(other, "model"), (headed, "exit head"), (drafted, "policy")] {
      let error = #expect(throws: (any Error).self) {
        try CertifiedPolicy.load(path, for: subject, regime: regime)
      }
      #expect("\(error, default: "")".contains(word))
    }
    let longer = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 9)
    let error = #expect(throws: CertificationError.self) {
      try CertifiedPolicy.load(path, for: subject, regime: longer)
    }
    #expect(error?.kind == .notCovered && error?.description.contains("max-tokens") == true)
  }

  @Test func `a run goes on where it was stopped, with the costs that it began with`() throws {
    let path = directory.path + "/stopped.runs.jsonl"
    let calibrator = try calibrator()
    var done = 0
    let file = try calibrator.openRuns(path)
    #expect(try calibrator.complete(file, shouldStop: { done >= 3 }, progress: { done = $0 }) == nil)
    #expect(file.lines.count >= 3 && file.lines.count < 60)
    let costs = file.costs
    let again = try RunFileCheck.reopen(calibrator, path)
    #expect(again.costs == costs)
    let lines = try #require(try calibrator.complete(again, shouldStop: { false }))
    #expect(lines.map(\.id) == (0..<60).map(DocumentIdentifier.number))
    var other = subject
    other.modelDigest = String(repeating: "b", count: 64)
    let error = #expect(throws: CertificationError.self) {
      try RunFileCheck.reopen(self.calibrator(of: other), path)
    }
    #expect(error?.kind == .runs && error?.description.contains("another model") == true)
  }

  @Test func `a shard counts, and only what is priced has losses`() throws {
    let calibrator = try calibrator()
    let unpriced = #expect(throws: CertificationError.self) {
      try calibrator.openRuns(directory.path + "/bare.runs.jsonl", measure: { nil })
    }
    #expect(unpriced?.description.contains("has to say what the parts of decoding cost") == true)
    let part = calibrator.restricted(to: try Shard("1/4"))
    let file = try part.openRuns(
      directory.path + "/part.runs.jsonl", measure: { nil },
      shard: ShardDescription(
        Shard("1/4"), command: "calibrate", arguments: [], data: "", dataDigest: "", modelDigest: "",
        output: "", documents: 60, lines: part.records.count))
    var lines = try #require(try part.complete(file, shouldStop: { false }))
    #expect(file.costs == nil && lines.allSatisfy(\.times.isEmpty))
    let path = directory.path + "/part.losses.jsonl"
    let error = #expect(throws: CertificationError.self) { try part.losses(lines, path: path) }
    #expect(error?.description.contains("have no prices") == true)
    let wrong = #expect(throws: CertificationError.self) {
      try lines[0].price(by: .prompts(PromptCosts(layer: 1, propagatedLayer: 1, token: 1)))
    }
    #expect(wrong?.description.contains("costs of another way of decoding") == true)
    let costs = ExitCosts(layer: [2], head: 3, exitHead: 5, gate: 7, propagatedLayer: 11)
    for index in lines.indices { try lines[index].price(by: .exits(costs)) }
    // At full depth every token passes all layers and the head.
    let layers = Double(subject.model.decoder.configuration.layerCount)
    #expect(lines.allSatisfy { $0.times[0] == 2 * layers + 3 })
    #expect(try part.losses(lines, path: path).sampleCount == lines.count)
  }

  @Test func `documents without what the risk needs are refused by name`() throws {
    let bare = try directory.write("bare.jsonl", #"{"id": "x", "document": "A text."}"# + "\n")
    let sweep = try calibrator().sweep
    let error = #expect(throws: CertificationError.self) {
      try Calibrator(sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .gap, documentsPath: bare)
    }
    #expect("\(error, default: "")".contains("\"x\""))
    #expect(throws: CertificationError.self) { try DocumentFile.read(path: directory.path + "/none.jsonl") }
  }
}

/// A file of runs is locked while it is open; the first one has to be gone.
private enum RunFileCheck {
  static func reopen(_ calibrator: Calibrator, _ path: String) throws -> RunFile {
    let copy = "\(path).\(UUID().uuidString)"
    try FileManager.default.copyItem(atPath: path, toPath: copy)
    return try calibrator.openRuns(copy)
  }
}
