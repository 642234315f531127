import Checkpoints
import EarlyExit
import Foundation
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct SweepTests {
  private let model: LanguageModel
  private let prompts = [[10, 20, 30], [7], [40, 41, 42, 43, 44, 45], [99, 3]]

  init() throws {
    var tiny = TinyDecoder()
    tiny.layerCount = 6
    tiny.vocabularySize = 320
    tiny.format = .q8_0
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    model = LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: .plain, endTokens: [5, 6, 7])
  }

  private func run(
    _ prompt: [TokenID], _ strategy: ExitStrategy?, tokens: Int = 12
  ) throws -> (generation: Generation, bytes: Int) {
    let session = try model.makeSession(
      prompt: prompt, options: GenerationOptions(maxTokens: tokens), exits: strategy)
    var bytes = 0
    while let step = try session.next() { bytes += step.depth?.bytesRead ?? 0 }
    return (session.generation, bytes)
  }

  private func makeHeads(shortlist: [TokenID] = []) throws -> ExitHeads {
    var maps: [Int: ExitHeads.LayerMap] = [:]
    var classifiers: [Int: ClassifierConfidence.Weights] = [:]
    var numbers = SplitMix64(seed: 3)
    for layer in [2, 4] {
      let weights = (0..<64 * 64).map { $0 % 65 == 0 ? 1 : Float(numbers.next() % 1000) / 5000 - 0.1 }
      maps[layer] = try .init(weights: weights, hiddenSize: 64)
      classifiers[layer] = .init(
        weights: (0..<64).map { _ in Float(numbers.next() % 1000) / 2000 - 0.25 }, bias: 0)
    }
    return ExitHeads(maps: maps, classifiers: classifiers, shortlist: shortlist)
  }

  /// A confidence measure, exit layers, decay, cache policy and group limit.
  struct Setting: Sendable {
    var name: String
    var measure: String
    var layers: [Int]?
    var decay: Double?
    var cache: ExitCachePolicy
    var group = 16
    var shortlist: [TokenID] = []
  }

  private static let settings = [
    Setting(name: "softmax", measure: "softmax", cache: .defer),
    Setting(name: "decaying", measure: "softmax", layers: [2, 4], decay: 4, cache: .defer),
    Setting(name: "saturation", measure: "saturation", layers: [3, 5], cache: .defer, group: 3),
    Setting(name: "classifier", measure: "classifier", layers: [2, 4], cache: .defer, group: 1),
    Setting(
      name: "shortlist", measure: "softmax", layers: [2, 4, 6], cache: .defer, shortlist: Array(60..<200)),
    Setting(name: "propagated", measure: "softmax", layers: [2, 4], cache: .propagate),
  ]

  private func makeStrategy(_ setting: Setting) throws -> (ExitStrategy, ThresholdPolicy) {
    let policy = try ThresholdPolicy(threshold: 0, layers: setting.layers, decay: setting.decay)
    let heads = try makeHeads(shortlist: setting.shortlist)
    let measure: any ConfidenceMeasure =
      switch setting.measure {
      case "softmax": SoftmaxConfidence()
      case "saturation": SaturationConfidence()
      default: ClassifierConfidence(heads.classifiers)
      }
    let strategy = ExitStrategy(
      policy: policy, measure: measure, heads: heads, cachePolicy: setting.cache, groupLimit: setting.group)
    return (strategy, policy)
  }

  @Test(arguments: settings.indices)
  func `a sweep gives output, layers and bytes of every threshold`(index: Int) throws {
    let (strategy, policy) = try makeStrategy(Self.settings[index])
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    func output(_ prompt: [TokenID], _ threshold: Double) throws -> (generation: Generation, bytes: Int) {
      var strategy = strategy
      strategy.policy = policy.with(threshold: threshold)
      return try run(prompt, strategy)
    }
    var outputs = 0
    for prompt in prompts {
      let pieces = try #require(try sweep.run(prompt, options: GenerationOptions(maxTokens: 12)))
      #expect(pieces[0].threshold == 1)
      #expect(zip(pieces, pieces.dropFirst()).allSatisfy { $0.threshold > $1.threshold })
      #expect(try pieces[0].generation == run(prompt, nil).generation)
      outputs += Set(pieces.map(\.generation.tokenIDs)).count
      for (place, piece) in pieces.enumerated() {
        let found = try output(prompt, piece.threshold)
        #expect(found.generation == piece.generation)
        let count = Double(max(found.generation.tokenIDs.count - 1, 1))
        #expect(Double(found.bytes) / count == piece.bytesPerToken)
        let next = place + 1 < pieces.count ? pieces[place + 1].threshold : 0
        let between = (piece.threshold + next) / 2
        if between > next { #expect(try output(prompt, between).generation == piece.generation) }
      }
    }
    #expect(outputs > prompts.count)
  }

  @Test(arguments: [0, 5])
  func `a sweep prices what a run does`(index: Int) throws {
    let (strategy, policy) = try makeStrategy(Self.settings[index])
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    // Completing tokens together costs nothing here, so that a run's own record says all of deferred completion.
    let isDeferred = strategy.cachePolicy == .defer
    let costs = ExitCosts(
      layer: Array(repeating: isDeferred ? 0 : 10, count: 16), head: 1000, exitHead: 100, gate: 7,
      propagatedLayer: 1)
    let pieces = try #require(try sweep.run(prompts[0], options: GenerationOptions(maxTokens: 12)))
    #expect(costs.costPerToken(of: pieces[0].work) == (isDeferred ? 1000 : 1060) && pieces.count > 3)
    for piece in pieces.dropFirst() {
      var strategy = strategy
      strategy.policy = policy.with(threshold: piece.threshold)
      let session = try model.makeSession(
        prompt: prompts[0], options: GenerationOptions(maxTokens: 12), exits: strategy)
      var expected = 0.0
      var count = 0.0
      while let step = try session.next() {
        guard let depth = step.depth else { continue }
        expected += Double(100 * depth.checks.count) + (depth.reason == .lastLayer ? 1000 : 0)
        if !isDeferred { expected += Double(10 * step.layer + (6 - step.layer)) }
        count += 1
      }
      #expect(abs(costs.costPerToken(of: piece.work) - expected / count) < 1e-9)
    }
  }

  @Test(arguments: [1, 2, 3, 8])
  func `prompts together get what each gets alone`(width: Int) throws {
    let (strategy, policy) = try makeStrategy(Self.settings[0])
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    let requests = prompts.enumerated().map {
      ExitSweep.Request(prompt: $1, options: GenerationOptions(maxTokens: 4 + 3 * $0))
    }
    var order: [Int] = []
    let isComplete = try sweep.run(requests, width: width) { index, pieces in
      order.append(index)
      let alone = try sweep.run(requests[index].prompt, options: requests[index].options)
      #expect(alone == pieces)
    }
    #expect(isComplete && order == Array(prompts.indices))
    var asked = 0
    let stopped = try sweep.run(
      requests, width: width,
      shouldStop: {
        asked += 1; return asked > 5
      }
    ) { _, _ in }
    #expect(!stopped)
  }

  @Test func `a grid and a lowest threshold leave pieces out and change none`() throws {
    let (strategy, policy) = try makeStrategy(Self.settings[0])
    let options = GenerationOptions(maxTokens: 12)
    let every = try #require(
      try ExitSweep(model: model, strategy: strategy, policy: policy).run(prompts[0], options: options))
    #expect(every.count > 6)
    let grid = [every[5].threshold, 0.99, every[1].threshold, (every[3].threshold + every[4].threshold) / 2]
    let coarse = try #require(
      try ExitSweep(model: model, strategy: strategy, policy: policy, grid: grid)
        .run(prompts[0], options: options))
    #expect(coarse.count > 3 && coarse.dropFirst().allSatisfy { grid.contains($0.threshold) })
    for threshold in grid {
      let piece = try #require(coarse.last { $0.threshold >= threshold })
      #expect(every.last { $0.threshold >= threshold }?.generation == piece.generation)
    }
    let high = try #require(
      try ExitSweep(model: model, strategy: strategy, policy: policy, lowest: every[4].threshold)
        .run(prompts[0], options: options))
    #expect(high == Array(every.prefix(5)))
  }

  @Test(arguments: DistributionDistance.allCases)
  func `distances are those of the heads' distributions on the full output`(
    distance: DistributionDistance
  ) throws {
    var setting = Self.settings[2]
    // With the prompt's tokens, so that none has to join it.
    setting.shortlist = Array(30..<200)
    let (strategy, policy) = try makeStrategy(setting)
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy, distance: distance)
    let pieces = try #require(try sweep.run(prompts[2], options: GenerationOptions(maxTokens: 8)))
    let full = try run(prompts[2], nil, tokens: 8).generation
    #expect(pieces.allSatisfy { $0.generation.tokenIDs == full.tokenIDs })
    #expect(pieces[0].distance == 0 && pieces.count > 2)
    for piece in pieces {
      // The plain way: a batch of one, each token through all layers, the heads of its exit layer and of the last.
      let cache = try model.decoder.makeCache(capacity: 64)
      let states = HiddenStates(hiddenSize: 64, capacity: 1)
      var expected = 0.0
      for (position, token) in (prompts[2] + full.tokenIDs.dropLast()).enumerated() {
        try model.decoder.embed([token], into: states)
        let place = position - prompts[2].count + 1
        var early: [Double] = []
        let layer = place > 0 ? piece.generation.layers[place] : 6
        try model.decoder.advance(
          states, rows: [BatchRow(cache: cache, position: position)], layers: 0..<layer)
        early = try probabilities(states, layer: layer, heads: strategy.heads)
        if layer < 6 {
          try model.decoder.advance(
            states, rows: [BatchRow(cache: cache, position: position)], layers: layer..<6)
        }
        guard place > 0 else { continue }
        let last = try probabilities(states, layer: 6, heads: nil)
        switch distance {
        case .brier: expected += zip(early, last).map { ($0 - $1) * ($0 - $1) }.reduce(0, +)
        case .hellinger:
          expected += (zip(early, last).map { pow($0.squareRoot() - $1.squareRoot(), 2) }.reduce(0, +) / 2)
            .squareRoot()
        }
      }
      #expect(abs(expected / Double(full.tokenIDs.count) - piece.distance) < 1e-3)
    }
    #expect((pieces.last?.distance ?? 0) > 0)
  }

  private func probabilities(_ states: HiddenStates, layer: Int, heads: ExitHeads?) throws -> [Double] {
    let head = HiddenStates(hiddenSize: 64, capacity: 1)
    head.count = 1
    head[0] = states[0]
    if let map = heads?.maps[layer] {
      let scale = (states[0].map { Double($0 * $0) }.reduce(0, +) / 64).squareRoot()
      head[0] = (0..<64).map { output in
        var sum = 0.0
        for input in 0..<64 { sum += Double(states[0][input]) * Double(map.weights[input * 64 + output]) }
        return Float(sum / scale)
      }
    }
    var logits: [Float] = []
    try model.decoder.logits(of: head, rows: 0..<1, into: &logits)
    let listed = layer < 6 ? heads?.shortlist ?? [] : []
    let weights = logits.enumerated().map { listed.isEmpty || listed.contains($0) ? exp(Double($1)) : 0 }
    let total = weights.reduce(0, +)
    return weights.map { $0 / total }
  }

  @Test func `settings that make no sense are refused`() throws {
    let (strategy, policy) = try makeStrategy(Self.settings[5])
    #expect(throws: EarlyExitError.self) {
      try ExitSweep(model: model, strategy: strategy, policy: policy, distance: .brier)
    }
    #expect(throws: EarlyExitError.self) {
      try ExitSweep(model: model, strategy: strategy, policy: policy, grid: [1])
    }
    #expect(throws: EarlyExitError.self) {
      try ExitSweep(
        model: model, strategy: strategy, policy: ThresholdPolicy(threshold: 0, layers: [9]))
    }
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    #expect(throws: EarlyExitError.self) {
      try sweep.run(
        [1], options: GenerationOptions(sampling: .random(RandomSampling(temperature: 1, seed: 1))))
    }
  }
}
