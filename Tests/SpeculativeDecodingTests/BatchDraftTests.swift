import EarlyExit
import FileFormats
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Drafts of several sequences, verified together.
@Suite struct BatchDraftTests {
  /// A tiny model with everything that can draft for it.
  struct Models {
    let large: LanguageModel
    let small: LanguageModel
    let head: DraftHead
    let listedHead: DraftHead

    init() throws {
      var tiny = TinyDecoder()
      (tiny.seed, tiny.layerCount, tiny.contextLength) = (21, 4, 512)
      (tiny.weightScale, tiny.hasTiedEmbedding) = (0.1, false)
      let gguf = tiny.gguf()
      let directory = try TemporaryDirectory()
      let path = try directory.write("model.gguf", gguf.build())
      large = try LanguageModel(path: path, threads: 2).ending(with: [5])
      small = try tinyModel(seed: 22, layers: 1) { $0.contextLength = 512 }.ending(with: [5])
      func head(_ name: String, shortlist: [TokenID]) throws -> DraftHead {
        var files = TinyDraftHead(
          of: tiny, gguf: gguf, token: 0.5, state: 1, layer: 0.5, shortlist: shortlist)
        files.addMap(layer: 2, 0.2)
        let file = try files.write(to: directory, name: name, modelPath: path)
        return try DraftHead(path: file, modelDigest: FileDigest.sha256(model: path))
      }
      self.head = try head("head", shortlist: [])
      listedHead = try head("listed", shortlist: Array(stride(from: 0, to: 272, by: 2)))
    }

    /// Strategies whose drafts hang on no measured time: all that is told of their tokens is the same each time.
    func fixed() throws -> [any DecodingStrategy] {
      try [
        SpeculationStrategy(
          [.model(small)], for: large, rule: .rollback(threshold: 5.4), fallback: 0, draftLength: 4),
        SpeculationStrategy(
          [.head(head)], for: large, rule: .rollback(threshold: 5.2), fallback: 0, draftLength: 3),
        SpeculationStrategy(
          [.head(listedHead)], for: large, rule: .rollback(threshold: 4.8), fallback: 0, draftLength: 5),
        SpeculationStrategy([.promptLookup], for: large, rule: .rollback(threshold: 5), draftLength: 9),
        SpeculationStrategy(
          [.earlyExit(layer: 2)], for: large, rule: .rollback(threshold: 4), fallback: 0, draftLength: 2),
        SpeculationStrategy(
          [.model(small)], for: large, exits: exits(), rule: .rollback(threshold: 5.4), fallback: 0,
          draftLength: 4),
        exits(), FullDepth(),
      ]
    }

    /// Strategies that keep the output and choose how much to draft by measured times.
    func timed() throws -> [any DecodingStrategy] {
      try [
        SpeculationStrategy([.promptLookup, .model(small)], for: large, rule: .exact, fallback: 0),
        SpeculationStrategy([.promptLookup, .head(head)], for: large, rule: .exact, fallback: 0),
        SpeculationStrategy([.earlyExit(layer: 1)], for: large, rule: .exact, fallback: 0),
        SpeculationStrategy([.promptLookup], for: large, exits: exits(), rule: .exact),
        FullDepth(),
      ]
    }

    private func exits() throws -> ExitStrategy {
      ExitStrategy(
        policy: try ThresholdPolicy(threshold: 0.004, layers: [1, 3]), measure: SoftmaxConfidence(),
        groupLimit: 6)
    }
  }

  private func orders(
    _ count: Int, seed: UInt64, _ strategies: [any DecodingStrategy]
  ) -> [RandomArrivals.Order] {
    var random = SplitMix64(seed: seed)
    return (0..<count).map { index in
      let prompt = randomPrompt(&random, count: index % 9 == 4 ? 300 : Int.random(in: 1...40, using: &random))
      return RandomArrivals.Order(
        prompt: prompt, options: GenerationOptions(maxTokens: Int.random(in: 2...28, using: &random)),
        strategy: strategies[index % strategies.count],
        leavesAfter: index % 6 == 2 ? Int.random(in: 1...6, using: &random) : nil)
    }
  }

  @Test func `each gets the tokens, drafts and layers it gets alone`() throws {
    let models = try Models()
    let arrivals = RandomArrivals(model: models.large, orders: orders(64, seed: 31, try models.fixed()))
    let alone = try arrivals.alone()
    for (width, seed) in [(1, 1), (4, 2), (16, 3)] as [(Int, UInt64)] {
      let together = try arrivals.together(width: width, seed: seed)
      for index in alone.indices { #expect(together[index] == alone[index], "\(index), width \(width)") }
    }
    let writers = alone.flatMap(\.steps).compactMap { $0.source?.writer }
    for writer in TokenSource.Writer.allCases {
      #expect(writers.filter { $0 == writer }.count > 10, "\(writer)")
    }
  }

  @Test func `exact drafts give each the output it gets alone, however many are made`() throws {
    let models = try Models()
    let arrivals = RandomArrivals(model: models.large, orders: orders(60, seed: 32, try models.timed()))
    let alone = try arrivals.alone()
    for (width, seed) in [(3, 5), (12, 6)] as [(Int, UInt64)] {
      let together = try arrivals.together(width: width, seed: seed)
      for index in alone.indices {
        #expect(together[index].generation?.tokenIDs == alone[index].generation?.tokenIDs, "\(index)")
        #expect(together[index].generation?.layers == alone[index].generation?.layers, "\(index)")
        #expect(together[index].steps.map(\.text) == alone[index].steps.map(\.text), "\(index)")
      }
    }
  }

  @Test func `a guard and a tripwire do what they do alone`() throws {
    let models = try Models()
    let digest = String(repeating: "0", count: 64)
    let known: [TokenID] = [70, 80, 90, 100]
    let center = try #require(try models.large.promptProfile(known, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let found = try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), modelDigest: digest,
      documentsDigest: digest)
    let loose: [any DecodingStrategy] = try [
      SpeculationStrategy(
        [.model(models.small)], for: models.large, rule: .rollback(threshold: .infinity), fallback: 0,
        draftLength: 4),
      SpeculationStrategy(
        [.head(models.listedHead)], for: models.large, rule: .rollback(threshold: .infinity), fallback: 0,
        draftLength: 4),
    ]
    var all = orders(40, seed: 33, loose)
    for index in all.indices {
      all[index].options.tripwire = RepetitionTripwire(limit: 1)
      all[index].options.maxTokens = 40
      if index % 3 == 0 { all[index].options.applicability = found }
      if index % 6 == 0 { all[index].prompt = known }
    }
    let arrivals = RandomArrivals(model: models.large, orders: all)
    let (alone, together) = (try arrivals.alone(), try arrivals.together(width: 6, seed: 9))
    // From where an output was brought back, and outside the guard, drafts are exact and hang on measured times.
    for index in alone.indices {
      let (one, other) = (alone[index], together[index])
      #expect(one.generation == other.generation, "\(index)")
      #expect(one.steps.map(\.text) == other.steps.map(\.text), "\(index)")
    }
    let outputs = alone.compactMap(\.generation)
    #expect(outputs.contains { $0.applicability?.isInside == true })
    #expect(outputs.contains { $0.applicability?.isInside == false })
    #expect(outputs.contains { $0.trippedAt != nil })
  }

  @Test func `rows of several drafts share the large model's passes`() throws {
    let decoder = ScriptedModel { history, _ in ScriptedModel.logits(favouring: 70 + history.count % 40) }
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [])
    // What stands in the prompt comes again: look-up is right from the second token on.
    let prompt = (0..<60).map { 70 + $0 % 40 }
    let strategy = try SpeculationStrategy(
      [.promptLookup], for: model, rule: .rollback(threshold: 0.1), draftLength: 4)
    let before = decoder.batches.count
    let batch = BatchDecoder(model: model, shouldStop: { false })
    let outputs = try #require(
      try batch.run(
        prompts: [prompt, prompt, prompt], options: GenerationOptions(maxTokens: 11), strategy: strategy))
    #expect(outputs.allSatisfy { $0.tokenIDs == (60..<71).map { 70 + $0 % 40 } })
    // Three prompts; then two passes of four drafted tokens and one more, for three sequences.
    #expect(Array(decoder.batches[before...]) == [60, 60, 60, 15, 15])
  }
}
