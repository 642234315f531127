import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import SpeculativeDecoding
import TestSupport
import Testing
import TextLosses

/// What sweeps count where prompts stop after a layer, and what it costs.
@Suite struct StoppedPromptSweepTests {
  private static let layerCount = 6
  private static let depth = 2
  private let directory: TemporaryDirectory
  private let subject: DecodingSubject
  private let head: DecodingSubject.Draft
  private let regime = DecodingRegime(tasks: [.summarize], options: GenerationOptions(), maxTokens: 48)
  private let records: [DocumentRecord]
  private let protection: PolicyGuard

  init() throws {
    directory = try TemporaryDirectory()
    // Outputs of random weights loop early and often.
    var tiny = TinyDecoder()
    (tiny.layerCount, tiny.contextLength, tiny.weightScale) = (Self.layerCount, 1024, 0.15)
    tiny.hasTiedEmbedding = false
    var gguf = tiny.gguf()
    gguf.set(
      "tokenizer.chat_template",
      .string(
        #"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"#
          + #"{{ '<|im_end|>\n' }}{% endfor %}{{ '<|im_start|>assistant\n' }}"#))
    let path = try directory.write("tiny.gguf", gguf.build())
    subject = try DecodingSubject(path: path, threads: 1)
    let file = try TinyDraftHead(of: tiny, gguf: gguf, token: 0.5, state: 1, layer: 0.5)
      .write(to: directory, modelPath: path)
    head = .init(
      name: "tiny", source: .head(try DraftHead(path: file, modelDigest: subject.modelDigest)), digest: "d")
    let lines = (0..<40).map {
      #"{"id": \#($0), "document": "The \#($0 * 7919 % 997) of \#($0 * 104_729 % 9973) mills closed."}"#
    }
    let data = try directory.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
    let all = try DocumentFile.read(path: data)
    // Outputs that do not repeat themselves make a tripwire of the least length.
    protection = try #require(
      try PolicyGuard.make(
        subject, records: Array(all.prefix(20)), path: directory.path + "/guard.safetensors", layer: 2,
        maxTokens: 48, outputs: (0..<20).map { _ in Array(0..<48) }, shouldStop: { false }))
    records = Array(all.dropFirst(20))
  }

  /// Layers that a prompt's tokens pass by how it is read.
  private func layers(_ prompt: Int, isStopped: Bool, trippedAt: Int?) -> (passed: Int, propagated: Int) {
    guard isStopped else { return (prompt * Self.layerCount, 0) }
    let shallow = prompt - LanguageModel.deepPromptTokens
    let again = trippedAt.map { (prompt + $0 - 1) * Self.layerCount } ?? 0
    return (
      shallow * Self.depth + LanguageModel.deepPromptTokens * Self.layerCount + again,
      shallow * (Self.layerCount - Self.depth)
    )
  }

  /// Compares what a sweep counts of prompts with what decoding at each threshold does.
  private func check(
    _ sweep: ThresholdSweep, safest: Double, count: (SweepWork) -> PromptWork?,
    strategy: (Double) throws -> any DecodingStrategy
  ) throws {
    let model = subject.model
    var (trips, outside) = (0, 0)
    let isWhole = try sweep.run(records, { false }) { index, outputs in
      let record = records[index]
      for output in outputs {
        var options = try model.options(for: record, maxTokens: 48)
        options.applicability = protection.found
        if output.threshold != safest { (options.tripwire, options.promptDepth) = (protection.tripwire, 2) }
        let prompt = try model.wholePrompt(for: record, options: options)
        let session = try model.makeSession(
          prompt: prompt, options: options,
          strategy: output.threshold == safest ? FullDepth() : strategy(output.threshold),
          shouldStop: { false })
        while try session.next() != nil {}
        let found = session.generation
        #expect(output.text == found.text.trimmingCharacters(in: .whitespacesAndNewlines))
        let isInside = found.applicability?.isInside == true
        #expect(output.isInside == isInside)
        let expected = layers(
          prompt.count, isStopped: isInside && output.threshold != safest, trippedAt: found.trippedAt)
        let work = try #require(count(output.work))
        #expect(work.layer == expected.passed && work.propagatedLayer == expected.propagated)
        trips += found.trippedAt == nil ? 0 : 1
        outside += isInside ? 0 : 1
      }
    }
    #expect(isWhole && trips > 3, "\(trips) \(outside)")
  }

  @Test func `what is read again after exits that loop is counted`() throws {
    let policy = try ThresholdPolicy(threshold: 0, layers: [2, 4])
    let exits = ExitStrategy(policy: policy, measure: SoftmaxConfidence())
    let sweep = try ThresholdSweep.exits(
      subject, strategy: exits, policy: policy, grid: [0.2, 0.05, 0.01], maxTokens: 48, regime: regime,
      promptDepth: Self.depth, guard: protection)
    try check(sweep, safest: 1) {
      if case .documents(let work) = $0 { work.prompt } else { nil }
    } strategy: { threshold in
      var exits = exits
      exits.policy = policy.with(threshold: threshold)
      return exits
    }
  }

  @Test func `what is read again after drafts that loop is counted`() throws {
    let sweep = try ThresholdSweep.drafts(
      subject, draft: head, fallback: 0, draftLength: 3, grid: [2, 5, 30], maxTokens: 48, regime: regime,
      promptDepth: Self.depth, guard: protection)
    try check(sweep, safest: 0) {
      if case .draftedDocuments(let work) = $0 { work.prompt } else { nil }
    } strategy: {
      try SpeculationStrategy(
        [head.source], for: subject.model, rule: .rollback(threshold: $0), fallback: 0, draftLength: 3)
    }
  }

  @Test func `a document with drafts costs its prompt and its passes`() throws {
    let json = """
      {"id": "a", "thresholds": [0, 2], "costs": [1, 1], "layers": [6, 6], "texts": ["x", "y"], "starts": [0, 1],
      "work": [
        {"prompt": {"layer": 600, "propagatedLayer": 0, "token": 0},
         "output": {"tokens": 11, "steps": 10, "shortlistSteps": 0, "drafted": 20}},
        {"prompt": {"layer": 320, "propagatedLayer": 280, "token": 0},
         "output": {"tokens": 9, "steps": 4, "shortlistSteps": 4, "drafted": 8}}
      ]}
      """
    var line = try JSONDecoder().decode(RunLine.self, from: Data(json.utf8))
    let costs = SweepCosts.draftedDocuments(
      DocumentCosts(
        prompt: PromptCosts(layer: 0.5, propagatedLayer: 0.25, token: 100),
        output: DraftCosts(pass: [4, 5, 6], shortlistPass: [3, 4, 5], draft: 0.5)))
    try line.price(by: costs)
    // At 0 a token costs no more than without drafts; then four passes of three rows each, and twelve drafted tokens.
    let plain = 600 * 0.5 + 10.0 * 4
    let reading = 320 * 0.5 + 280 * 0.25
    let drafted = 4 * 5 + 12 * 0.5
    #expect(line.times == [plain, reading + drafted])
    let again = try JSONDecoder().decode(SweepCosts.self, from: JSONEncoder().encode(costs))
    let written = try JSONDecoder().decode(RunLine.self, from: JSONEncoder().encode(line))
    #expect(again == costs && written.work == line.work)
    let wrong = #expect(throws: CertificationError.self) {
      try line.price(by: .drafts(DraftCosts(pass: [4], draft: 1)))
    }
    #expect(wrong?.description.contains("costs of another way of decoding") == true)
  }
}
