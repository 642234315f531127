import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import Transformers

/// What pays, on the clock.
extension AdaptationRun {
  /// Certifies the candidates, times all that are certified, with and without drafts that change no output, and keeps
  /// the fastest.
  func choose(among candidates: [Candidate], heads: ExitHeads) throws -> Adaptation? {
    // Nothing uses a folder without its description: what an earlier run with another epsilon has left is not to be
    // taken for what this one finds.
    try? FileManager.default.removeItem(atPath: Adaptation.File.description.path(in: folder))
    for way in Adaptation.Way.allCases {
      try? FileManager.default.removeItem(atPath: Adaptation.certificate(of: way, in: folder))
    }
    var (certified, attempts): ([Candidate], [Adaptation.Attempt]) = ([], [])
    if !candidates.isEmpty {
      let policies = candidates.map { Calibration.Policy(name: $0.way.rawValue, table: $0.table) }
      // All hold together, since they divide delta: the clock may choose among them.
      let results = try Calibration(settings).choose(among: policies).results
      attempts = zip(candidates, results).map(Self.attempt)
      for (candidate, result) in zip(candidates, results) {
        guard case .certified = result.outcome else { continue }
        let certificate = try makeCertificate(candidate, result, compared: candidates.count)
        guard certificate.pays != false else { continue }
        try certificate.write(to: Adaptation.certificate(of: candidate.way, in: folder))
        certified.append(candidate)
      }
    }
    guard let timings = try time(certified, heads: heads) else { return nil }
    let best = timings.min { $0.timing.documentMilliseconds < $1.timing.documentMilliseconds }
    let head = Adaptation.File.draftHead.path(in: folder)
    if best?.drafts == .head {
      try draftHead?.copy(to: head)
    } else if draftHead?.path != head {
      try? FileManager.default.removeItem(atPath: head)
    }
    let digest = try FileDigest.sha256(path: documentsPath)
    return Adaptation(
      model: subject.model.name, modelDigest: subject.modelDigest, documentsDigest: digest,
      metric: metric.name, risk: risk.name, regime: regime, epsilon: settings.epsilon, delta: settings.delta,
      fittedDocuments: fitting.count, certifyingDocuments: certifying.count, skippedDocuments: skipped.count,
      way: best?.way ?? .fullDepth, looksUp: best.map { $0.drafts != .none } ?? false,
      draftHead: best?.drafts == .head ? draftHead?.description.headDigest : nil, attempts: attempts,
      timings: timings.map(\.timing), timedDocuments: min(Self.timedDocuments, fitting.count))
  }

  private static func attempt(_ candidate: Candidate, _ result: CalibrationResult) -> Adaptation.Attempt {
    let choice = result.outcome.choice
    var layer: Int?
    if case .exits(let description) = candidate.calibrator.sweep.settings.policy {
      layer = description.prompt?.layer
    }
    return Adaptation.Attempt(
      name: candidate.way.rawValue, outcome: result.outcome.kind, threshold: choice?.threshold,
      promptLayer: layer, risk: choice?.empiricalRisk, bound: choice?.upperBound, milliseconds: choice?.cost,
      fullMilliseconds: choice?.safestCost ?? candidate.table.meanCosts()?.first)
  }

  private func makeCertificate(
    _ candidate: Candidate, _ result: CalibrationResult, compared: Int
  ) throws -> Certificate {
    var certificate = Certificate(
      result, table: candidate.table, settings: settings, policiesCompared: compared,
      subject: try candidate.calibrator.subject(), program: EgressVersion.program)
    try candidate.calibrator.complete(&certificate, by: candidate.lines)
    return certificate
  }

  /// A way of decoding on the clock.
  fileprivate struct Timed {
    var way: Adaptation.Way
    var drafts: Adaptation.Drafts
    var strategy: any DecodingStrategy
    /// With the certificate's guard, tripwire and prompt depth.
    var protection = GenerationOptions()
    var seconds = 0.0
    var tokenSeconds = 0.0
    var tokens = 0
    var texts: [String] = []
  }

  private func time(_ certified: [Candidate], heads: ExitHeads) throws -> [(
    way: Adaptation.Way, drafts: Adaptation.Drafts, timing: Adaptation.Timing
  )]? {
    let model = subject.model
    var ways = [Timed(way: .fullDepth, drafts: .none, strategy: FullDepth())]
    for drafts in Adaptation.Drafts.allCases {
      guard let strategy = try drafts.strategy(head: draftHead, model) else { continue }
      ways.append(Timed(way: .fullDepth, drafts: drafts, strategy: strategy))
    }
    for chosen in certified {
      let path = Adaptation.certificate(of: chosen.way, in: folder)
      let subject = try chosen.way.leavesEarly ? exiting(heads) : self.subject
      let policy = try CertifiedPolicy.load(path, for: subject, regime: regime)
      var protection = GenerationOptions()
      (protection.applicability, protection.tripwire, protection.promptDepth) =
        try CertifiedPolicy.protection(
          path, for: subject)
      ways.append(
        Timed(way: chosen.way, drafts: .none, strategy: policy.plainStrategy, protection: protection))
      for drafts in Adaptation.Drafts.allCases {
        guard let drafted = try policy.withDrafts(drafts, head: draftHead, model) else { continue }
        ways.append(Timed(way: chosen.way, drafts: drafts, strategy: drafted, protection: protection))
      }
    }
    let records = Array(fitting.prefix(Self.timedDocuments))
    for (index, record) in records.enumerated() {
      progress(.timing, index, records.count)
      let prompt = try model.wholePrompt(
        for: record, options: model.options(for: record, maxTokens: maxTokens))
      // By turns, so that what else the machine does falls on all; the first document warms up.
      for _ in 0..<(index == 0 ? 2 : 1) {
        for place in ways.indices {
          if shouldStop() { return nil }
          try ways[place].add(model, prompt, model.options(for: record, maxTokens: maxTokens), index)
        }
      }
    }
    progress(.timing, records.count, records.count)
    return ways.map { way in
      let count = Double(records.count)
      return (
        way.way, way.drafts,
        Adaptation.Timing(
          name: Adaptation.name(way.way, way.drafts),
          tokenMilliseconds: 1000 * way.tokenSeconds / Double(max(way.tokens, 1)),
          documentMilliseconds: 1000 * way.seconds / count,
          identicalOutputs: zip(way.texts, ways[0].texts).count { $0 == $1 })
      )
    }
  }
}

extension AdaptationRun.Timed {
  /// Decodes one document; the first is decoded again, and its first time does not count.
  fileprivate mutating func add(
    _ model: LanguageModel, _ prompt: [TokenID], _ usual: GenerationOptions, _ index: Int
  ) throws {
    var options = usual
    (options.applicability, options.tripwire, options.promptDepth) = (
      protection.applicability, protection.tripwire, protection.promptDepth
    )
    if index == 0 { (seconds, tokenSeconds, tokens, texts) = (0, 0, 0, []) }
    let clock = ContinuousClock()
    let start = clock.now
    let session = try model.makeSession(prompt: prompt, options: options, strategy: strategy)
    var first: ContinuousClock.Instant?
    while try session.next() != nil { first = first ?? clock.now }
    let end = clock.now
    seconds += (end - start).seconds
    tokenSeconds += (end - (first ?? end)).seconds
    tokens += max(session.generation.tokenIDs.count - 1, 0)
    texts.append(session.generation.text)
  }
}
