import Certification
import EarlyExit
import FileFormats
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import TestSupport
import Testing

/// Policies written down.
@Suite struct DescriptionTests {
  @Test func `a policy's description holds for its own model and template only`() throws {
    let policy = try ThresholdPolicy(threshold: 0, layers: [1, 3], minimumLayer: 2, decay: 4)
    let strategy = ExitStrategy(policy: policy, measure: SaturationConfidence(), cachePolicy: .propagate)
    let description = try ExitPolicyDescription(
      strategy, policy: policy, model: .hashing().0, modelDigest: "m", headsDigest: nil,
      regime: DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 6))
    #expect(description.layers == [3] && description.measure == "saturation")
    let read = try ExitPolicyDescription.read([UInt8](description.jsonData()), name: "policy.json")
    #expect(read == description)
    #expect(try read.policy(threshold: 0.5).threshold == 0.5)
    #expect(throws: EarlyExitError.self) { try ExitPolicyDescription.read(Array("{}".utf8), name: "x") }
    // Of a version that did not say how documents were decoded.
    let old = String(decoding: try description.jsonData(), as: UTF8.self)
      .replacing("\"version\" : 2", with: "\"version\" : 1")
    let error = #expect(throws: EarlyExitError.self) {
      try ExitPolicyDescription.read(Array(old.utf8), name: "x")
    }
    #expect("\(try #require(error))".contains("calibrate again"))
  }

  @Test func `where prompts stop is part of a policy, and of no policy that does not say so`() throws {
    let policy = try ThresholdPolicy(threshold: 0, layers: [1])
    func description(_ depth: Int?) throws -> ExitPolicyDescription {
      try ExitPolicyDescription(
        ExitStrategy(policy: policy, measure: SoftmaxConfidence()), policy: policy, model: .hashing().0,
        modelDigest: "m", headsDigest: "h",
        regime: DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 6),
        promptDepth: depth)
    }
    let (plain, stopped) = try (description(nil), description(3))
    let text = String(decoding: try stopped.jsonData(), as: UTF8.self)
    #expect(text.contains("\"deep_tokens\" : 32") && text.contains("\"layer\" : 3"))
    #expect(try ExitPolicyDescription.read(Array(text.utf8), name: "x") == stopped)
    #expect(try plain.digest() != stopped.digest() && description(2).digest() != stopped.digest())
    // So that digests of policies that were written before hold.
    #expect(!String(decoding: try plain.jsonData(), as: UTF8.self).contains("prompt\""))

    var layer = ExitCosts(layer: [1], head: 2, exitHead: 3, gate: 4, propagatedLayer: 5)
    let prompt = PromptCosts(layer: 6, propagatedLayer: 7, token: 8)
    func prices(_ costs: SweepCosts, heads: String = "h") -> PriceFile {
      var file = PriceFile(
        DecodingSubject(model: .hashing().0, modelDigest: "m", headsDigest: heads), costs: costs)
      file.compute = plain.compute
      return file
    }
    let both = SweepCosts.documents(DocumentCosts(prompt: prompt, output: layer))
    #expect(try prices(both).costs(for: .exits(stopped), name: "p") == both)
    #expect(try prices(both).costs(for: .exits(plain), name: "p") == .exits(layer))
    let written = try JSONDecoder().decode(SweepCosts.self, from: JSONEncoder().encode(both))
    #expect(written == both)
    for (file, words) in [
      (prices(.exits(layer)), "something else than exits after prompts that stop"),
      (prices(.prompts(prompt)), "something else than exits after prompts that stop"),
      (prices(both, heads: "other"), "other exit heads"),
    ] {
      let error = #expect(throws: CertificationError.self) { try file.costs(for: .exits(stopped), name: "p") }
      #expect("\(error, default: "")".contains(words))
    }
    layer.head = 3
    #expect(try prices(.exits(layer)).costs(for: .exits(plain), name: "p") == .exits(layer))
  }

  @Test func `where prompts stop is part of a policy of drafts, and so are its prices`() throws {
    func description(_ depth: Int?) throws -> SpeculationDescription {
      try SpeculationDescription(
        model: .hashing().0, draft: "d", modelDigest: "m", draftDigest: "x", fallback: 0, draftLength: 3,
        regime: DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 6),
        promptDepth: depth)
    }
    let (plain, stopped) = try (description(nil), description(3))
    let text = String(decoding: try stopped.jsonData(), as: UTF8.self)
    #expect(text.contains("\"deep_tokens\" : 32") && text.contains("\"layer\" : 3"))
    #expect(try SpeculationDescription.read(Data(text.utf8), name: "x") == stopped)
    #expect(try JSONDecoder().decode(PolicyDescription.self, from: Data(text.utf8)) == .drafts(stopped))
    #expect(try plain.digest() != stopped.digest() && description(2).digest() != stopped.digest())
    #expect(!String(decoding: try plain.jsonData(), as: UTF8.self).contains("prompt\""))

    let output = DraftCosts(pass: [1], draft: 2)
    let prompt = PromptCosts(layer: 6, propagatedLayer: 7, token: 8)
    func prices(_ costs: SweepCosts, draft: String = "x") -> PriceFile {
      var file = PriceFile(
        DecodingSubject(
          model: .hashing().0, modelDigest: "m", draft: .init(name: "d", source: .promptLookup, digest: draft)
        ),
        costs: costs)
      file.compute = plain.compute
      return file
    }
    let both = SweepCosts.draftedDocuments(DocumentCosts(prompt: prompt, output: output))
    #expect(try prices(both).costs(for: .drafts(stopped), name: "p") == both)
    #expect(try prices(both).costs(for: .drafts(plain), name: "p") == .drafts(output))
    #expect(try prices(.drafts(output)).costs(for: .drafts(plain), name: "p") == .drafts(output))
    for (file, words) in [
      (prices(.drafts(output)), "something else than drafts after prompts that stop"),
      (prices(.prompts(prompt)), "something else than drafts after prompts that stop"),
      (prices(both, draft: "other"), "another draft"),
    ] {
      let error = #expect(throws: CertificationError.self) {
        try file.costs(for: .drafts(stopped), name: "p")
      }
      #expect("\(error, default: "")".contains(words))
    }
  }

  @Test func `the policy of another version is refused by its number`() throws {
    let fields = """
      "model": "a", "draft": "b", "model_sha256": "00", "draft_sha256": "11", "fallback": 0, "draft_length": 3,
      "template_sha256": "22", "regime": {"tasks": ["summarize"], "sampling": "greedy", "stop": [], "extractive": \
      false},
      "draft_policy_version":
      """
    func read(_ version: Int) throws -> SpeculationDescription {
      try SpeculationDescription.read(Data("{\(fields) \(version)}".utf8), name: "policy")
    }
    #expect(try read(SpeculationDescription.currentVersion).draftLength == 3)
    let error = #expect(throws: SpeculativeDecodingError.self) { try read(1) }
    #expect(error?.description.contains("of version 1") == true)
  }

  @Test func `summaries of another rule are not covered, and answers are`() throws {
    func read(_ task: String, _ rules: String) throws -> DecodingRegime {
      try JSONDecoder().decode(
        DecodingRegime.self,
        from: Data(
          """
          {"tasks": ["\(task)"], "sampling": "greedy", "stop": [], "extractive": false\(rules)}
          """.utf8))
    }
    let summaries = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: nil)
    let answers = DecodingRegime(
      tasks: [.answer(question: "?")], options: GenerationOptions(), maxTokens: nil)
    #expect(try read("summarize", "").firstDifference(to: summaries)?.found == "number 3")
    #expect(try read("summarize", ", \"summary_rules\": 2").firstDifference(to: summaries) != nil)
    #expect(try read("summarize", ", \"summary_rules\": 3") == summaries)
    #expect(try read("answer", "").firstDifference(to: answers) == nil)
    // A calibration decodes as is usual for the model: what is asked for beside that is not covered.
    for isExtractive in [true, false] {
      let asked = DecodingRegime(
        tasks: [.answer(question: "?")], options: GenerationOptions(isExtractive: isExtractive),
        maxTokens: nil)
      let difference = try #require(try read("answer", "").firstDifference(to: asked))
      #expect(difference == ("extractive", "the usual", "\(isExtractive)"))
    }
    // What was written before the rules had numbers is written the same, so that its digest holds.
    let first = try String(decoding: JSONEncoder().encode(read("answer", "")), as: UTF8.self)
    #expect(!first.contains("summary_rules"))
    let written = try JSONEncoder().encode(summaries)
    #expect(try JSONDecoder().decode(DecodingRegime.self, from: written) == summaries)
  }

  @Test func `a certificate from before kernels computed with a format otherwise is refused`() throws {
    var tiny = TinyDecoder()
    (tiny.hiddenSize, tiny.feedForwardSize, tiny.headCount, tiny.keyValueHeadCount, tiny.headSize) = (
      256, 256, 8, 4, 32
    )
    let folder = try TemporaryDirectory()
    func subject() throws -> DecodingSubject {
      try DecodingSubject(path: folder.write("tiny.gguf", tiny.gguf().build()), threads: 1)
    }
    let regime = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: nil)
    func load(_ change: (inout ExitPolicyDescription) -> Void = { _ in }) throws {
      let subject = try subject()
      let policy = try ThresholdPolicy(threshold: 0, layers: [1])
      var description = try ExitPolicyDescription(
        ExitStrategy(policy: policy, measure: SoftmaxConfidence()), policy: policy, model: subject.model,
        modelDigest: subject.modelDigest, headsDigest: nil, regime: regime)
      change(&description)
      let table = try LossTable(
        steps: (0..<100).map { _ in LossSteps(thresholds: [1, 0.5], losses: [0, 0]) })
      let settings = CalibrationSettings(epsilon: 0.1, delta: 0.1)
      let certificate = Certificate(
        try Calibration(settings).calibrate(table), table: table, settings: settings,
        subject: Certificate.Subject(
          risk: QualityRisk.gap.name, metric: "rouge-l", modelDigest: subject.modelDigest,
          policyDigest: try description.digest(),
          policy: try JSONDecoder().decode(JSONValue.self, from: description.jsonData())), program: "test")
      try certificate.write(to: folder.path + "/c.json")
      _ = try CertifiedPolicy.load(folder.path + "/c.json", for: subject, regime: regime)
    }
    // Other formats are multiplied as they were.
    tiny.format = .q5_0
    #expect(try subject().model.computeName == nil)
    tiny.format = .q4_1
    #expect(try subject().model.computeName == nil)
    try load()
    let changes: [(inout TinyDecoder) -> Void] = [
      { $0.format = .q2_K }, { $0.format = .q4_0 }, { $0.format = .q4_K }, { $0.format = .iq4_XS },
    ]
    for change in changes {
      change(&tiny)
      #expect(try subject().model.computeName == "quantized, kernels 2")
    }
    tiny.format = .q4_1
    tiny.embeddingFormat = .q6_K
    #expect(try subject().model.computeName == "quantized, kernels 2")
    try load()
    let error = #expect(throws: CertificationError.self) { try load { $0.compute = nil } }
    #expect(
      "\(error, default: "")".hasSuffix(
        "which computed with this model's weights otherwise, and outputs are others now: calibrate again"))
    let other = #expect(throws: CertificationError.self) { try load { $0.compute = "float32" } }
    #expect(
      "\(other, default: "")".contains("is for --compute float32, found --compute quantized, kernels 2"))
  }

  @Test func `a certificate of greedy decoding does not cover penalties`() throws {
    var adjusted = GenerationOptions()
    adjusted.adjustments = LogitAdjustments(presencePenalty: 1)
    let plain = DecodingRegime(tasks: [], options: GenerationOptions(), maxTokens: nil)
    let found = plain.firstDifference(to: DecodingRegime(tasks: [], options: adjusted, maxTokens: nil))
    #expect(found?.field == "sampling")
  }
}
