import Checkpoints
import EarlyExit
import Foundation
import Generation
import TensorKernels
import TestSupport
import Testing
import Transformers

/// Early exits after prompts whose tokens stop after a layer: what a sweep says of them, and what a run does.
@Suite struct StoppedPromptTests {
  private static let layerCount = 6
  private static let depth = 3

  private static func model(_ compute: ComputePath = .quantized) throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.layerCount = layerCount
    tiny.vocabularySize = 320
    tiny.contextLength = 700
    tiny.format = .q8_0
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    return LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, compute: compute, threads: 1),
      tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [5])
  }

  private static func prompt(_ count: Int, seed: UInt64 = 3) -> [TokenID] {
    var numbers = SplitMix64(seed: seed)
    return (0..<count).map { _ in Int(numbers.next() % 256) }
  }

  private static func options(_ depth: Int? = depth, tokens: Int = 10) -> GenerationOptions {
    var options = GenerationOptions(maxTokens: tokens)
    options.promptDepth = depth
    return options
  }

  private static func strategy(_ cache: ExitCachePolicy = .defer, group: Int = 16) throws -> (
    ExitStrategy, ThresholdPolicy
  ) {
    let policy = try ThresholdPolicy(threshold: 0, layers: [2, 4])
    let strategy = ExitStrategy(
      policy: policy, measure: SoftmaxConfidence(), cachePolicy: cache, groupLimit: group)
    return (strategy, policy)
  }

  private static func run(
    _ model: LanguageModel, _ prompt: [TokenID], _ options: GenerationOptions, _ strategy: ExitStrategy?
  ) throws -> (generation: Generation, bytes: Int) {
    let session = try model.makeSession(prompt: prompt, options: options, exits: strategy)
    var bytes = 0
    while let step = try session.next() { bytes += step.depth?.bytesRead ?? 0 }
    return (session.generation, bytes)
  }

  private static func sweep(_ cache: ExitCachePolicy = .defer, grid: [Double]? = nil, lowest: Double = 0)
    throws -> (ExitSweep, LanguageModel)
  {
    let model = try model()
    let (strategy, policy) = try strategy(cache)
    return (
      try ExitSweep(model: model, strategy: strategy, policy: policy, grid: grid, lowest: lowest), model
    )
  }

  @Test(arguments: [ExitCachePolicy.defer, .propagate], [90, 300])
  func `a sweep's outputs are those of each threshold after the prompt that stopped`(
    cache: ExitCachePolicy, count: Int
  ) throws {
    let model = try Self.model()
    let (strategy, policy) = try Self.strategy(cache, group: 3)
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    // One whose output the depth changes.
    let prompt = try #require(
      try (0..<20).map { Self.prompt(count, seed: $0) }.first { prompt in
        try Self.run(model, prompt, Self.options(nil), nil).generation.tokenIDs
          != Self.run(model, prompt, Self.options(), nil).generation.tokenIDs
      })
    func output(_ threshold: Double) throws -> (generation: Generation, bytes: Int) {
      var strategy = strategy
      strategy.policy = policy.with(threshold: threshold)
      return try Self.run(model, prompt, Self.options(), strategy)
    }
    let pieces = try #require(try sweep.run(prompt, options: Self.options()))
    // Full depth is that of the prompt too, and no output after a prompt that stopped.
    let full = try Self.run(model, prompt, Self.options(nil), nil).generation
    let stopped = try Self.run(model, prompt, Self.options(), nil).generation
    #expect(pieces[0].threshold == 1 && pieces[0].generation == full)
    #expect(pieces[1].threshold == 1.0.nextDown && pieces[1].generation.tokenIDs == stopped.tokenIDs)
    #expect(zip(pieces, pieces.dropFirst()).allSatisfy { $0.threshold > $1.threshold })
    #expect(Set(pieces.map(\.generation.tokenIDs)).count > 3)
    for (place, piece) in pieces.enumerated().dropFirst() {
      let found = try output(piece.threshold)
      #expect(found.generation == piece.generation, "\(piece.threshold)")
      #expect(Double(found.bytes) / Double(found.generation.tokenIDs.count - 1) == piece.bytesPerToken)
      let next = place + 1 < pieces.count ? pieces[place + 1].threshold : 0
      let between = (piece.threshold + next) / 2
      if between > next { #expect(try output(between).generation == piece.generation, "\(between)") }
    }
    // At full depth no exit is looked at, and below every token looks.
    #expect(pieces[0].work.exitHead == 0 && pieces[1].work.exitHead == 2 * pieces[1].work.tokens)
  }

  @Test func `a prompt that passes all layers is swept as without a depth`() throws {
    let (sweep, model) = try Self.sweep()
    let (long, short) = (Self.prompt(90), Self.prompt(LanguageModel.deepPromptTokens))
    #expect(
      try sweep.run(long, options: Self.options(Self.layerCount))
        == sweep.run(long, options: Self.options(nil)))
    #expect(try sweep.run(short, options: Self.options()) == sweep.run(short, options: Self.options(nil)))
    #expect(throws: GenerationError.self) { try sweep.run(long, options: Self.options(7)) }
    let (strategy, policy) = try Self.strategy()
    let comparing = try ExitSweep(model: model, strategy: strategy, policy: policy, distance: .brier)
    let error = #expect(throws: EarlyExitError.self) { try comparing.run(long, options: Self.options()) }
    #expect("\(error, default: "")".contains("prompt-depth must be absent where distributions are compared"))
  }

  @Test(arguments: [1, 2, 3, 8])
  func `prompts together get what each gets alone`(width: Int) throws {
    let (sweep, _) = try Self.sweep()
    let requests = (0..<5).map {
      ExitSweep.Request(
        prompt: Self.prompt(20 + 60 * $0, seed: UInt64($0)),
        options: Self.options($0 == 3 ? nil : 2 + $0 % 2, tokens: 4 + $0))
    }
    var order: [Int] = []
    let isComplete = try sweep.run(requests, width: width) { index, pieces in
      order.append(index)
      let alone = try sweep.run(requests[index].prompt, options: requests[index].options)
      #expect(alone == pieces, "\(index)")
    }
    #expect(isComplete && order == Array(requests.indices))
    var asked = 0
    let stopped = try sweep.run(
      requests, width: width,
      shouldStop: {
        asked += 1; return asked > 9
      }
    ) { _, _ in }
    #expect(!stopped)
  }

  @Test func `one at a time is enough where batches change numbers`() throws {
    let model = try Self.model(.float32)
    #expect(model.decoder.invariantBatchLimit == 1)
    let (strategy, policy) = try Self.strategy()
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy, grid: [0.5, 0.02])
    let pieces = try #require(try sweep.run(Self.prompt(90), options: Self.options()))
    #expect(pieces.count > 1 && pieces[0].threshold == 1 && pieces[1].threshold == 0.5)
    for piece in pieces.dropFirst() {
      var strategy = strategy
      strategy.policy = policy.with(threshold: piece.threshold)
      #expect(
        try Self.run(model, Self.prompt(90), Self.options(), strategy).generation == piece.generation)
    }
  }

  @Test func `a grid and a lowest threshold leave pieces out and change none`() throws {
    let (every, _) = try Self.sweep()
    let prompt = Self.prompt(90)
    let all = try #require(try every.run(prompt, options: Self.options()))
    #expect(all.count > 6)
    let grid = [0.99, all[2].threshold, (all[4].threshold + all[5].threshold) / 2]
    let (some, _) = try Self.sweep(grid: grid)
    let coarse = try #require(try some.run(prompt, options: Self.options()))
    #expect(coarse[0] == all[0] && coarse[1].threshold == 0.99)
    #expect(coarse.dropFirst().allSatisfy { grid.contains($0.threshold) } && coarse.count > 3)
    for threshold in grid {
      let piece = try #require(coarse.last { $0.threshold >= threshold })
      #expect(all.last { $0.threshold >= threshold }?.generation == piece.generation)
    }
    let (high, _) = try Self.sweep(lowest: all[4].threshold)
    #expect(try high.run(prompt, options: Self.options()) == Array(all.prefix(5)))
    // Where no threshold is tried, full depth is all there is.
    let (none, _) = try Self.sweep(grid: [])
    #expect(try none.run(prompt, options: Self.options()) == [all[0]])
  }

  @Test(arguments: [ExitCachePolicy.defer, .propagate])
  func `what a guard finds outside has full depth alone, and a tripwire acts as in a run`(
    cache: ExitCachePolicy
  ) throws {
    let (sweep, model) = try Self.sweep(cache)
    let (known, other) = (Self.prompt(100, seed: 1), Self.prompt(300, seed: 2))
    let center = try #require(try model.promptProfile(known, layer: 2, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let digest = String(repeating: "0f", count: 32)
    var options = Self.options(tokens: 24)
    options.applicability = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), layer: 2, modelDigest: digest,
      documentsDigest: digest)
    options.tripwire = RepetitionTripwire(limit: 0)
    let outside = try #require(try sweep.run(other, options: options))
    #expect(outside.count == 1 && outside[0].generation.applicability?.isInside == false)
    #expect(
      try outside[0].generation.tokenIDs
        == Self.run(model, other, Self.options(nil, tokens: 24), nil).generation
        .tokenIDs)
    let inside = try #require(try sweep.run(known, options: options))
    #expect(inside.count > 3 && inside.contains { $0.generation.trippedAt != nil })
    #expect(inside[0].generation.trippedAt == nil)
    let (strategy, policy) = try Self.strategy(cache)
    for (prompt, pieces) in [(known, inside), (other, outside)] {
      for threshold in [0.9, 0.3, 0.05, 0.01, 0] {
        var strategy = strategy
        strategy.policy = policy.with(threshold: threshold)
        let piece = try #require(pieces.last { $0.threshold >= threshold }).generation
        let alone = try Self.run(model, prompt, options, strategy).generation
        #expect(alone.tokenIDs == piece.tokenIDs && alone.trippedAt == piece.trippedAt, "\(threshold)")
        #expect(alone.applicability == piece.applicability)
      }
    }
    // Nothing is known in time below the layer that the guard reads.
    options.promptDepth = 1
    #expect(throws: GenerationError.self) { try sweep.run(known, options: options) }
  }

  /// A model that loops early and often, and a prompt of which every output differs by how it is read.
  private static func looping() throws -> LanguageModel {
    var tiny = TinyDecoder()
    (tiny.layerCount, tiny.vocabularySize, tiny.contextLength, tiny.weightScale) = (
      layerCount, 320, 700, 0.15
    )
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    return LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: .plain, endTokens: [5])
  }

  @Test(arguments: [ExitCachePolicy.defer, .propagate])
  func `an output that loops goes on from prompt and output read again at full depth`(
    cache: ExitCachePolicy
  ) throws {
    let model = try Self.looping()
    let (strategy, policy) = try Self.strategy(cache, group: 3)
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    var options = Self.options(2, tokens: 30)
    options.tripwire = RepetitionTripwire(limit: 1)
    var requests: [(prompt: [TokenID], strategy: ExitStrategy)] = []
    var expected: [Generation] = []
    var (trips, other) = (0, 0)
    for seed in 0..<6 as Range<UInt64> {
      let prompt = Self.prompt(seed == 5 ? 290 : 60 + 20 * Int(seed), seed: seed)
      let pieces = try #require(try sweep.run(prompt, options: options, shouldStop: { false }))
      for threshold in stride(from: 0.2, through: 0, by: -0.01) {
        var live = strategy
        live.policy = policy.with(threshold: threshold)
        let caught = try Self.run(model, prompt, options, live).generation
        let piece = try #require(pieces.last { $0.threshold >= threshold }).generation
        #expect(caught.tokenIDs == piece.tokenIDs && caught.trippedAt == piece.trippedAt, "\(threshold)")
        requests.append((prompt, live))
        expected.append(caught)
        guard let kept = caught.trippedAt else { continue }
        trips += 1
        // What follows is what full depth writes after the same tokens.
        let begun = prompt + caught.tokenIDs.prefix(kept)
        let rest = try Self.run(model, begun, Self.options(nil, tokens: 30 - kept), nil).generation.tokenIDs
        #expect(caught.tokenIDs.dropFirst(kept).elementsEqual(rest), "\(seed) \(threshold)")
        // A prompt that stopped gives something else.
        let stopped = try Self.run(model, begun, Self.options(2, tokens: 30 - kept), nil).generation.tokenIDs
        other += stopped == rest ? 0 : 1
      }
    }
    #expect(trips > 10 && other > 5, "\(trips) \(other)")
    for (width, parts) in [(3, 1), (16, nil)] as [(Int, Int?)] {
      let batch = BatchDecoder(model: model, width: width, promptParts: parts, shouldStop: { false })
      for request in requests {
        batch.submit(prompt: request.prompt, options: options, strategy: request.strategy)
      }
      while !batch.isIdle {
        for (ticket, generation) in try batch.step() { #expect(generation == expected[ticket], "\(ticket)") }
      }
    }
  }

  @Test func `in a batch a prompt gets what it gets alone`() throws {
    let model = try Self.model()
    let requests = (0..<6).map { index in
      (
        prompt: Self.prompt(60 + 50 * index, seed: UInt64(index)),
        options: Self.options(index % 3 == 0 ? nil : index % 3), threshold: [0.01, 0.5, 0.2][index % 3]
      )
    }
    func strategy(_ threshold: Double) throws -> ExitStrategy {
      var (strategy, policy) = try Self.strategy()
      policy = policy.with(threshold: threshold)
      strategy.policy = policy
      return strategy
    }
    let batch = BatchDecoder(model: model, prefixes: PrefixCache(byteLimit: 1 << 30), shouldStop: { false })
    // Twice, so that beginnings are there to be gone on from.
    for _ in 0..<2 {
      for request in requests {
        try batch.submit(
          prompt: request.prompt, options: request.options, strategy: strategy(request.threshold))
      }
    }
    var found: [Int: Generation] = [:]
    while !batch.isIdle { for (ticket, generation) in try batch.step() { found[ticket] = generation } }
    var changed = 0
    for index in 0..<12 {
      let request = requests[index % 6]
      let exits = try strategy(request.threshold)
      let alone = try Self.run(model, request.prompt, request.options, exits).generation
      #expect(found[index] == alone, "\(index)")
      let full = try Self.run(model, request.prompt, Self.options(nil), exits).generation
      changed += full.tokenIDs == alone.tokenIDs ? 0 : 1
    }
    #expect(changed >= 4)
  }
}
