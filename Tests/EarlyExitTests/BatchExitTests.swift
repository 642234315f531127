import Checkpoints
import EarlyExit
import Generation
import TestSupport
import Testing
import Transformers

/// Sequences that leave early, decoded together.
@Suite struct BatchExitTests {
  private let model: LanguageModel
  private let size = 64

  init() throws {
    var tiny = TinyDecoder()
    tiny.layerCount = 6
    tiny.vocabularySize = 320
    tiny.weightScale = 0.15
    tiny.contextLength = 1024
    let directory = try TemporaryDirectory()
    model = LanguageModel(
      name: "tiny",
      decoder: try Transformer(
        checkpoint: .open(directory.write("tiny.gguf", tiny.gguf().build())), threads: 2),
      tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [5, 6, 7])
  }

  private func heads(shortlist: [TokenID]) throws -> ExitHeads {
    var numbers = SplitMix64(seed: 3)
    var maps: [Int: ExitHeads.LayerMap] = [:]
    for layer in [2, 4] {
      let weights = (0..<size * size).map { place -> Float in
        let noise = Float(numbers.next() >> 40) / Float(1 << 24) - 0.5
        return (place % (size + 1) == 0 ? 1 : 0) + 0.05 * noise
      }
      maps[layer] = try ExitHeads.LayerMap(weights: weights, hiddenSize: size)
    }
    return ExitHeads(maps: maps, shortlist: shortlist)
  }

  /// Strategies that differ in everything that a pass depends on.
  private func strategies() throws -> [any DecodingStrategy] {
    var found: [any DecodingStrategy] = [FullDepth()]
    for cache in ExitCachePolicy.allCases {
      for (threshold, layers) in [(0.004, [2, 4]), (0.006, [1, 3, 5]), (0, [2]), (1, [2])] {
        found.append(
          ExitStrategy(
            policy: try ThresholdPolicy(threshold: threshold, layers: layers), measure: SoftmaxConfidence(),
            cachePolicy: cache, groupLimit: 5))
      }
      found.append(
        ExitStrategy(
          policy: try ThresholdPolicy(threshold: 0.8), measure: SaturationConfidence(), cachePolicy: cache))
      for shortlist in [[], Array(stride(from: 0, to: 320, by: 3))] {
        found.append(
          ExitStrategy(
            policy: try ThresholdPolicy(threshold: 0.01, layers: shortlist.isEmpty ? [2, 4] : [2, 4, 6]),
            measure: SoftmaxConfidence(), heads: try heads(shortlist: shortlist), cachePolicy: cache))
      }
    }
    return found
  }

  private func orders(
    _ count: Int, seed: UInt64, strategies: [any DecodingStrategy],
    _ change: (inout GenerationOptions) -> Void = { _ in }
  ) -> [RandomArrivals.Order] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { index in
      let length = index % 9 == 4 ? 300 : 1 + Int(random.next() % 30)
      let prompt = (0..<length).map { _ in 10 + Int(random.next() % 240) }
      var options = GenerationOptions(maxTokens: 4 + Int(random.next() % 24))
      if index % 5 == 3 {
        options.sampling = .random(RandomSampling(temperature: 0.7, seed: UInt64(index)))
      }
      change(&options)
      return RandomArrivals.Order(
        prompt: prompt, options: options, strategy: strategies[index % strategies.count],
        leavesAfter: index % 6 == 2 ? 1 + Int(random.next() % 6) : nil)
    }
  }

  @Test func `each gets the tokens, layers, confidences and bytes it gets alone`() throws {
    let arrivals = RandomArrivals(
      model: model, orders: orders(60, seed: 11, strategies: try strategies()))
    let alone = try arrivals.alone()
    for (width, seed) in [(1, 1), (3, 2), (8, 3), (40, 4)] as [(Int, UInt64)] {
      let together = try arrivals.together(width: width, promptParts: width == 40 ? nil : 1, seed: seed)
      for index in alone.indices { #expect(together[index] == alone[index], "\(index), width \(width)") }
    }
    // Nothing is shown unless tokens leave at several layers, and some not at all.
    let layers = Set(alone.flatMap { $0.generation?.layers ?? [] })
    #expect(layers.isSuperset(of: [1, 2, 3, 4, 6]), "\(layers)")
    #expect(alone.contains { $0.generation == nil })
  }

  @Test func `a guard and a tripwire do what they do alone`() throws {
    let digest = String(repeating: "0", count: 64)
    let known = (0..<20).map { 10 + $0 }
    let center = try #require(try model.promptProfile(known, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e3 - 0.5 } }
    let found = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), modelDigest: digest,
      documentsDigest: digest)
    var all = orders(40, seed: 12, strategies: Array(try strategies().dropFirst())) {
      $0.tripwire = RepetitionTripwire(limit: 1)
      $0.maxTokens = 30
    }
    for index in stride(from: 0, to: all.count, by: 3) { all[index].options.applicability = found }
    for index in stride(from: 0, to: all.count, by: 6) { all[index].prompt = known }
    let arrivals = RandomArrivals(model: model, orders: all)
    let alone = try arrivals.alone()
    let together = try arrivals.together(width: 7, seed: 5)
    for index in alone.indices { #expect(together[index] == alone[index], "\(index)") }
    let outputs = alone.compactMap(\.generation)
    #expect(outputs.contains { $0.applicability?.isInside == true })
    #expect(outputs.contains { $0.applicability?.isInside == false })
    #expect(outputs.contains { $0.trippedAt != nil })
    // What the guard refuses is at full depth, and nothing brings it back there.
    for output in outputs where output.applicability?.isInside == false {
      #expect(output.layers.allSatisfy { $0 == 6 } && output.trippedAt == nil)
    }
  }

  private struct Sure: ConfidenceMeasure {
    let name = "sure"
    let reads: ConfidenceInput = []
    func confidence(_ reading: ConfidenceReading) -> Double { 0.5 }
  }

  @Test func `rows share each layer that several pass, and part where one leaves`() throws {
    let decoder = ScriptedModel { history, _ in ScriptedModel.logits(favouring: 100 + history.count) }
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [5])
    func exits(_ threshold: Double) throws -> ExitStrategy {
      ExitStrategy(
        policy: try ThresholdPolicy(threshold: threshold, layers: [1, 3]), measure: Sure(), groupLimit: 100)
    }
    let batch = BatchDecoder(model: model, shouldStop: { false })
    for threshold in [0.3, 0.3, 0.7, 0.3] {
      batch.submit(
        prompt: [10, 20], options: GenerationOptions(maxTokens: 3), strategy: try exits(threshold))
    }
    batch.submit(prompt: [10, 20], options: GenerationOptions(maxTokens: 3))
    while !batch.isIdle { _ = try batch.step() }
    // Five prompts; then, for each of two tokens, all up to the first exit, and from there on those that stay: up to
    // the next, and to the end.
    #expect(decoder.batches == [2, 2, 2, 2, 2, 5, 2, 2, 5, 2, 2])
  }

  @Test func `what fails by itself disturbs nobody`() throws {
    struct Wrong: ExitPolicy {
      func exitLayers(layerCount: Int) -> [Int] { [2] }
      func decide(_ observation: ExitObservation) -> ExitDecision {
        observation.tokenIndex < 3 ? .continue : .exit(layer: 1, reason: .confident)
      }
    }
    let right = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0.004, layers: [2, 4]), measure: SoftmaxConfidence())
    let options = GenerationOptions(maxTokens: 12)
    let session = try model.makeSession(prompt: [40, 50], options: options, exits: right)
    while try session.next() != nil {}
    let batch = BatchDecoder(model: model, shouldStop: { false })
    let good = batch.submit(prompt: [40, 50], options: options, strategy: right)
    let bad = batch.submit(
      prompt: [60, 70], options: options,
      strategy: ExitStrategy(policy: Wrong(), measure: SoftmaxConfidence()))
    var finished: [Int: Generation] = [:]
    var failed: [Int] = []
    while !batch.isIdle {
      try batch.step { ticket, event in
        switch event {
        case .token: break
        case .finished(let generation): finished[ticket] = generation
        case .failed: failed.append(ticket)
        }
      }
    }
    #expect(failed == [bad])
    #expect(finished == [good: session.generation])
  }
}
