import Dispatch
import EarlyExit
import Generation
import Serving
import SpeculativeDecoding
import Synchronization
import TestSupport
import Testing

@Suite struct EngineTests {
  private let folder: TemporaryDirectory
  private let model: LanguageModel

  init() throws {
    folder = try TemporaryDirectory()
    model = try RunningServer.subject(in: folder, contextLength: 4096).model
  }

  private func outputs(_ stream: EngineStream, _ count: Int) async throws -> [Generation?] {
    var outputs = [Generation?](repeating: nil, count: count)
    for try await event in stream.events {
      if case .finished(let index, let generation) = event { outputs[index] = generation }
    }
    return outputs
  }

  /// Knows documents around a prompt only.
  private func makeGuard(around prompt: [Int]) throws -> ApplicabilityGuard {
    let center = try #require(try model.promptProfile(prompt, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let digest = String(repeating: "0f", count: 32)
    return try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), modelDigest: digest,
      documentsDigest: digest)
  }

  @Test func `exits, drafts and guards give beside others what they give alone`() async throws {
    let near: [Int] = (0..<400).map { 60 + ($0 * 3) % 25 }
    let found = try makeGuard(around: near)
    // Longer than a part of a prompt, so that reading it takes several turns.
    let prompts: [[Int]] = (0..<18).map { index in
      guard index % 4 != 0 else { return near }
      let count: Int = 50 + index * 47
      return (0..<count).map { 10 + ($0 * 7 + index * 3) % 240 }
    }
    let exits = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0, layers: [1]), measure: SoftmaxConfidence())
    let drafts = try SpeculationStrategy(
      [.promptLookup], for: model, rule: .exact, fallback: 0.6, draftLength: 4)
    let strategies: [any DecodingStrategy] = [FullDepth(), exits, drafts]
    let works = prompts.enumerated().map { index, prompt in
      var options = GenerationOptions(maxTokens: 24)
      if index % 2 == 0 { options.applicability = found }
      return EngineWork(prompt: prompt, options: options, strategy: strategies[index % 9 / 3])
    }
    let alone = try works.map { work in
      let session = try work.strategy.makeSession(
        model: model, prompt: work.prompt, options: work.options, shouldStop: { false })
      while try session.next() != nil {}
      return session.generation
    }
    #expect(Set(alone.compactMap { $0.applicability?.isInside }) == [true, false])
    #expect(alone.contains { $0.layers.contains(1) })
    var limits = ModelEngine.Limits()
    limits.slots = 5
    let engine = ModelEngine(model: model, limits: limits)
    let results = try await outputs(try engine.submit(works), works.count)
    for (result, expected) in zip(results, alone) { #expect(result == expected) }
    await engine.drain()
    #expect(engine.outstanding == 0)
    #expect(throws: EngineError.stopping) { try engine.submit(works) }
  }

  @Test func `drafted tokens are counted by their place in the draft`() async throws {
    let drafts = try SpeculationStrategy(
      [.promptLookup], for: model, rule: .exact, fallback: 0.6, draftLength: 4)
    let engine = ModelEngine(model: model)
    var (kept, discarded): ([Int: Int], [Int: Int]) = ([:], [:])
    // How much is drafted depends on the clock: until there is something to count.
    for start in 0..<300 where start < 6 || kept.count < 2 || discarded.isEmpty {
      let prompt = (0..<60).map { 60 + ($0 + start) % (5 + start % 6) }
      let work = EngineWork(prompt: prompt, options: .init(maxTokens: 60), strategy: drafts)
      var letters = ""
      for try await event in try engine.submit([work]).events {
        guard case .token(_, let step) = event else { continue }
        letters += ["lookup": "L", "corrected": "C"][step.source?.writer.rawValue ?? ""] ?? "T"
      }
      // A draft: what was kept of it, and the model's own token that ends it.
      for draft in letters.matches(of: /(L*)([CT]|$)/) {
        for place in 0..<draft.1.count { kept[place + 1, default: 0] += 1 }
        if draft.2 == "C" { discarded[draft.1.count + 1, default: 0] += 1 }
      }
    }
    await engine.drain()
    #expect(kept.count > 1 && !discarded.isEmpty, "\(kept) \(discarded)")
    #expect(engine.metrics.draftedCounts(kept: true) == kept)
    #expect(engine.metrics.draftedCounts(kept: false) == discarded)
  }

  @Test func `one output at fault ends its request alone`() async throws {
    let engine = ModelEngine(model: model)
    let good = EngineWork(prompt: [70, 71], options: .init(maxTokens: 4))
    let bad = EngineWork(prompt: [], options: .init(maxTokens: 4))
    let (first, second) = (try engine.submit([good, bad, good]), try engine.submit([good]))
    await #expect(throws: GenerationError.self) { try await outputs(first, 3) }
    #expect(try await outputs(second, 1)[0] != nil)
    await engine.drain()
    #expect(engine.outstanding == 0)
  }

  @Test func `audits are decoded while nobody asks, and requests go first`() async throws {
    let long = try #require(
      try (0..<200).lazy.map { EngineWork(prompt: [70 + $0, 71], options: .init(maxTokens: 2000)) }.first {
        try outputAlone($0).tokenIDs.count == 2000
      })
    let alone = try outputAlone(long)
    var limits = ModelEngine.Limits()
    limits.audits = 2
    let engine = ModelEngine(model: model, limits: limits)
    // Holds the engine until all of it has come.
    let gate = DispatchSemaphore(value: 0)
    let isHeld = Mutex(false)
    engine.audit(
      AuditWork(work: nil) { output in
        #expect(output == nil)
        isHeld.withLock { $0 = true }
        gate.wait()
      })
    while !isHeld.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(2)) }
    let found = Mutex<[(output: Generation?, requests: Int)]>([])
    for _ in 0..<5 {
      engine.audit(
        AuditWork(work: long) { output in found.withLock { $0.append((output, engine.outstanding)) } })
    }
    #expect(engine.metrics.auditsDroppedCount == 3)
    let request = try engine.submit([EngineWork(prompt: [70, 71], options: .init(maxTokens: 4))])
    gate.signal()
    #expect(try await outputs(request, 1)[0] != nil)
    while found.withLock(\.count) < 2 { try await Task.sleep(for: .milliseconds(2)) }
    for audit in found.withLock({ $0 }) { #expect(audit.output == alone && audit.requests == 0) }
    await engine.drain()
    engine.audit(AuditWork(work: long) { _ in Issue.record("decoded after the end") })
    #expect(engine.metrics.auditsDroppedCount == 4)
  }

  private func outputAlone(_ work: EngineWork) throws -> Generation {
    let session = try work.strategy.makeSession(
      model: model, prompt: work.prompt, options: work.options, shouldStop: { false })
    while try session.next() != nil {}
    return session.generation
  }

  @Test func `giving up ends what waits and what runs`() async throws {
    var limits = ModelEngine.Limits()
    limits.slots = 1
    let engine = ModelEngine(model: model, limits: limits)
    let work = EngineWork(prompt: [70, 71], options: .init(maxTokens: 3000))
    let streams = try (0..<3).map { _ in try engine.submit([work, work]) }
    engine.abort()
    for stream in streams {
      await #expect(throws: CancellationError.self) { try await outputs(stream, 2) }
    }
    await engine.drain()
    #expect(engine.outstanding == 0)
  }
}
