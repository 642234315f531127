import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Drafts after prompts whose tokens stop after a layer: what is written, what a sweep says of it, and what a batch
/// does.
@Suite struct StoppedPromptDraftTests {
  private let models: BatchDraftTests.Models
  private let large: LanguageModel

  init() throws {
    models = try BatchDraftTests.Models()
    large = models.large
  }

  private static func options(_ depth: Int?, tokens: Int = 24, tripwire limit: Int? = nil)
    -> GenerationOptions
  {
    var options = GenerationOptions(maxTokens: tokens)
    options.promptDepth = depth
    options.tripwire = limit.map(RepetitionTripwire.init(limit:))
    return options
  }

  private var sources: [[SpeculationStrategy.Source]] {
    [
      [.model(models.small)], [.head(models.head)], [.head(models.listedHead)], [.promptLookup],
      [.earlyExit(layer: 2)],
    ]
  }

  private func strategy(_ sources: [SpeculationStrategy.Source], _ threshold: Double) throws
    -> SpeculationStrategy
  {
    try SpeculationStrategy(
      sources, for: large, rule: .rollback(threshold: threshold), fallback: 0, draftLength: 4)
  }

  private func decode(
    _ strategy: SpeculationStrategy, _ prompt: [TokenID], _ options: GenerationOptions,
    choosesLength: Bool = false
  ) throws -> Run {
    try run(strategy.makeSession(prompt: prompt, options: options, choosesLength: choosesLength))
  }

  @Test func `exact drafts give the tokens of plain decoding after the prompt that stopped`() throws {
    var random = SplitMix64(seed: 61)
    let both = sources + [[.promptLookup, .head(models.head)], [.promptLookup, .model(models.small)]]
    var (accepted, changed, trips) = (0, 0, 0)
    for trial in 0..<70 {
      let drafting = try SpeculationStrategy(
        both[trial % both.count], for: large, rule: .exact, fallback: 0, draftLength: 1 + trial % 6)
      let prompt = randomPrompt(&random, count: 25 + 4 * trial)
      // What loops is brought back as plain decoding is.
      let options = Self.options(1 + trial % 3, tripwire: trial % 4 == 0 ? 1 : nil)
      let expected = try large.plain(prompt, options)
      let found = try decode(drafting, prompt, options, choosesLength: trial % 2 == 0)
      #expect(found.generation == expected && found.text == expected.text, "\(trial)")
      accepted += found.statistics.accepted
      trips += expected.trippedAt == nil ? 0 : 1
      changed += try large.plain(prompt, Self.options(nil)).tokenIDs == expected.tokenIDs ? 0 : 1
    }
    // The test says nothing unless drafts were taken, and depths changed outputs.
    #expect(accepted > 50 && changed > 20 && trips > 1, "\(accepted) \(changed) \(trips)")
  }

  @Test(arguments: 0..<5, [Int?.none, 1])
  func `a sweep's outputs are those of each threshold after the prompt that stopped`(
    source: Int, limit: Int?
  ) throws {
    let source = sources[source]
    var random = SplitMix64(seed: 71)
    let sweep = try RollbackSweep(strategy(source, 0))
    let grid = [2.0, 5, 6]
    let coarse = try RollbackSweep(strategy(source, 0), grid: grid)
    var (pieceCount, trips, changed) = (0, 0, 0)
    for trial in 0..<6 {
      let prompt = randomPrompt(&random, count: 40 + 50 * trial)
      let options = Self.options(1, tripwire: limit)
      let pieces = try #require(try sweep.run(prompt, options: options, shouldStop: { false }))
      // Full depth is that of the prompt too; every other threshold goes on from the prompt that stopped.
      let full = try large.plain(prompt, Self.options(nil))
      #expect(pieces[0].threshold == 0 && pieces[0].generation == full)
      #expect(pieces[1].threshold == .leastNonzeroMagnitude)
      for (place, piece) in pieces.enumerated().dropFirst() {
        let own = try decode(strategy(source, piece.threshold), prompt, options)
        #expect(own.generation == piece.generation, "\(piece.threshold)")
        #expect(own.statistics.bytesRead == piece.statistics.bytesRead)
        #expect(own.statistics.acceptedByPosition == piece.statistics.acceptedByPosition)
        let next = place + 1 < pieces.count ? pieces[place + 1].threshold : 2 * piece.threshold + 1
        let between = (piece.threshold + next) / 2
        #expect(try decode(strategy(source, between), prompt, options).generation == piece.generation)
        trips += own.generation.trippedAt == nil ? 0 : 1
      }
      let few = try #require(try coarse.run(prompt, options: options, shouldStop: { false }))
      #expect(few[0].generation == full && few.dropFirst().allSatisfy { grid.contains($0.threshold) })
      for threshold in grid {
        let own = try decode(strategy(source, threshold), prompt, options).generation
        #expect(own == few.last { $0.threshold <= threshold }?.generation, "\(threshold)")
      }
      pieceCount += pieces.count
      changed += pieces[1].generation.tokenIDs == full.tokenIDs ? 0 : 1
    }
    #expect(
      pieceCount > 12 && changed > 2 && (limit == nil || trips > 0), "\(pieceCount) \(changed) \(trips)")
  }

  @Test func `prompts that are swept together get what each gets alone`() throws {
    var random = SplitMix64(seed: 73)
    let requests = (0..<7).map { index in
      RollbackSweep.Request(
        prompt: randomPrompt(&random, count: 10 + 45 * index),
        options: Self.options([1, nil, 2, 4][index % 4], tokens: 1 + 5 * index, tripwire: index % 2))
    }
    let sweep = try RollbackSweep(strategy([.head(models.listedHead)], 0), grid: [1, 4, 5, 6, 20])
    let alone = try requests.map {
      try #require(try sweep.run($0.prompt, options: $0.options, shouldStop: { false }))
    }
    #expect(alone.contains { $0.contains { $0.generation.trippedAt != nil } })
    for width in [1, 3, 8] {
      var found: [[RollbackSweep.Piece]] = []
      let isWhole = try sweep.run(requests, width: width, shouldStop: { false }) { index, pieces in
        #expect(index == found.count)
        found.append(pieces)
      }
      #expect(isWhole && found.count == requests.count)
      for (one, other) in zip(found, alone) {
        #expect(one.map(\.threshold) == other.map(\.threshold))
        #expect(one.map(\.generation) == other.map(\.generation))
        #expect(one.map(\.statistics.bytesRead) == other.map(\.statistics.bytesRead))
      }
    }
    // A prompt that passes all layers is swept as without a depth.
    let prompt = randomPrompt(&random, count: 60)
    func generations(_ depth: Int?, _ prompt: [TokenID]) throws -> [Generation]? {
      try sweep.run(prompt, options: Self.options(depth), shouldStop: { false })?.map(\.generation)
    }
    #expect(try generations(4, prompt) == generations(nil, prompt))
    let short = Array(prompt.prefix(LanguageModel.deepPromptTokens))
    #expect(try generations(1, short) == generations(nil, short))
    #expect(throws: GenerationError.self) { try generations(5, prompt) }
    #expect(try sweep.run(prompt, options: Self.options(1), shouldStop: { true }) == nil)
  }

  @Test func `in a batch each gets what it gets alone, where outputs are brought back too`() throws {
    var random = SplitMix64(seed: 75)
    let strategies = try models.fixed()
    let loose: [any DecodingStrategy] = try [.model(models.small), .head(models.listedHead)].map {
      try strategy([$0], .infinity)
    }
    let orders = (0..<48).map { index in
      let isLoose = index % 3 == 2
      let choices = isLoose ? loose : strategies
      return RandomArrivals.Order(
        prompt: randomPrompt(&random, count: index % 9 == 4 ? 300 : Int.random(in: 1...120, using: &random)),
        options: Self.options(
          index % 5 == 4 ? nil : 1 + index % 3, tokens: Int.random(in: 2...40, using: &random),
          tripwire: isLoose || index % 2 == 0 ? 1 : nil),
        strategy: choices[(index / 2) % choices.count],
        leavesAfter: index % 11 == 2 ? Int.random(in: 1...6, using: &random) : nil)
    }
    let arrivals = RandomArrivals(model: large, orders: orders)
    let alone = try arrivals.alone()
    for (width, parts, seed) in [(1, 1, 1), (5, 1, 2), (16, nil, 3)] as [(Int, Int?, UInt64)] {
      let together = try arrivals.together(
        width: width, promptParts: parts, prefixes: PrefixCache(byteLimit: 1 << 28), seed: seed)
      for index in alone.indices {
        #expect(together[index].generation == alone[index].generation, "\(index), width \(width)")
        #expect(together[index].steps.map(\.text) == alone[index].steps.map(\.text), "\(index)")
      }
    }
    let tripped = zip(orders, alone).filter { $1.generation?.trippedAt != nil }.map(\.0)
    #expect(tripped.count { $0.prompt.count > 32 && $0.options.promptDepth != nil } > 4)
    #expect(tripped.contains { $0.options.promptDepth == nil })
  }

  @Test func `where drafts loop, prompt and output are read again, and the rest is full depth's`() throws {
    var random = SplitMix64(seed: 77)
    var (trips, other) = (0, 0)
    for trial in 0..<40 {
      let drafting = try strategy([trial % 2 == 0 ? .model(models.small) : .head(models.head)], .infinity)
      let prompt = randomPrompt(&random, count: trial % 8 == 7 ? 290 : 50)
      let caught = try decode(drafting, prompt, Self.options(1, tokens: 40, tripwire: 1))
      #expect(caught.text == caught.generation.text)
      guard let kept = caught.generation.trippedAt else { continue }
      trips += 1
      let free = try decode(drafting, prompt, Self.options(1, tokens: 40)).generation.tokenIDs
      #expect(caught.generation.tokenIDs.prefix(kept) == free.prefix(kept))
      let begun = prompt + caught.generation.tokenIDs.prefix(kept)
      let rest = try large.plain(begun, Self.options(nil, tokens: 40 - kept)).tokenIDs
      #expect(caught.generation.tokenIDs.dropFirst(kept).elementsEqual(rest), "\(trial)")
      // Not that of the prompt as it was read first.
      let cache = try large.plain(prompt, Self.options(1, tokens: 40)).tokenIDs
      other += caught.generation.tokenIDs == cache ? 0 : 1
    }
    #expect(trips > 5 && other > 5, "\(trips) \(other)")
  }

  @Test func `what a guard finds outside has full depth's output, and a head reads all layers of it`() throws
  {
    var random = SplitMix64(seed: 79)
    let (known, foreign) = (randomPrompt(&random, count: 90), (0..<120).map { 150 + $0 * 7 % 90 })
    let center = try #require(try large.promptProfile(known, layer: 1, shouldStop: { false }))
    let near = (0..<40).map { _ in center.map { $0 + Float(random.next() % 1000) / 1e5 - 0.005 } }
    let digest = String(repeating: "0", count: 64)
    var options = Self.options(2)
    options.applicability = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), layer: 1, modelDigest: digest,
      documentsDigest: digest)
    let drafting = try strategy([.head(models.listedHead)], .infinity)
    let inside = try decode(drafting, known, options)
    #expect(inside.generation.applicability?.isInside == true)
    #expect(
      try inside.generation.tokenIDs == decode(drafting, known, Self.options(2)).generation.tokenIDs)
    let outside = try decode(drafting, foreign, options)
    #expect(outside.generation.applicability?.isInside == false)
    #expect(outside.generation.tokenIDs == (try large.plain(foreign, Self.options(nil)).tokenIDs))
    // The same drafts as at full depth: the head has read the same.
    let exact = try SpeculationStrategy(
      [.head(models.listedHead)], for: large, rule: .exact, fallback: 0, draftLength: 4)
    let full = try decode(exact, foreign, Self.options(nil))
    #expect(full.statistics.acceptedByPosition == outside.statistics.acceptedByPosition)
    let pieces = try #require(
      try RollbackSweep(drafting, grid: [1, 20]).run(foreign, options: options, shouldStop: { false }))
    #expect(pieces.map(\.threshold) == [0] && pieces[0].generation.tokenIDs == outside.generation.tokenIDs)
    options.promptDepth = 1
    options.applicability = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), layer: 2, modelDigest: digest,
      documentsDigest: digest)
    #expect(throws: GenerationError.self) { try decode(drafting, known, options) }
  }
}
