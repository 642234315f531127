import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Prompts that begin alike, with drafts and with a guard: read once, to the tokens that each gets alone.
@Suite struct SharedBeginningTests {
  private let models: BatchDraftTests.Models

  init() throws { models = try BatchDraftTests.Models() }

  /// Prompts of two families, each with a long beginning in common.
  private func orders(_ count: Int, seed: UInt64, _ strategy: (Int) -> any DecodingStrategy)
    -> [RandomArrivals.Order]
  {
    var random = SplitMix64(seed: seed)
    let beginnings = [randomPrompt(&random, count: 333), randomPrompt(&random, count: 150)]
    return (0..<count).map { index in
      // Endings of no, of one and of more tokens; some beginnings are cut as well.
      let common = beginnings[index % 2].dropLast(index % 5 == 3 ? 40 : 0)
      let ending = randomPrompt(&random, count: index % 4 == 0 ? index % 3 : 20)
      return RandomArrivals.Order(
        prompt: common + ending,
        options: GenerationOptions(maxTokens: Int.random(in: 4...20, using: &random)),
        strategy: strategy(index))
    }
  }

  /// A guard that some of the prompts are inside of.
  private func makeGuard(_ prompts: [[TokenID]], layer: Int? = nil) throws -> ApplicabilityGuard {
    let profiles = try prompts.map {
      try #require(try models.large.promptProfile($0, layer: layer, shouldStop: { false }))
    }
    let digest = String(repeating: "0", count: 64)
    let inside = stride(from: 0, to: profiles.count, by: 2).map { profiles[$0] }
    return try ApplicabilityGuard(
      fitting: Array(inside.prefix(inside.count / 2)), heldBack: Array(inside.suffix(inside.count / 2)),
      layer: layer, modelDigest: digest, documentsDigest: digest)
  }

  /// Whether a strategy's sessions do not hang on measured times, so that all that is told of tokens is the same.
  private static let fixedCount = 8

  @Test func `whoever drafts, what was read for another prompt is not read again`() throws {
    let strategies = try models.fixed()
    #expect(strategies.count == Self.fixedCount)
    for (number, strategy) in strategies.enumerated() {
      let all = orders(16, seed: UInt64(70 + number)) { _ in strategy }
      let arrivals = RandomArrivals(model: models.large, orders: all)
      let alone = try arrivals.alone()
      let shared = all.reduce(0) { $0 + $1.prompt.count } * 6 / 10
      for (width, limit) in [(1, 1 << 26), (5, 1 << 26), (16, 1)] {
        let prefixes = PrefixCache(byteLimit: limit)
        let together = try arrivals.together(
          width: width, promptParts: nil, prefixes: prefixes, seed: UInt64(width))
        for index in alone.indices {
          #expect(together[index] == alone[index], "\(number): \(index), width \(width)")
        }
        // With room for nothing, those under way alone are gone on from.
        #expect(
          prefixes.reusedTokens > (limit == 1 ? 0 : shared),
          "\(number), width \(width): \(prefixes.reusedTokens)")
      }
    }
  }

  @Test func `in a conversation whoever drafts goes on from the turn before`() throws {
    let large = models.large
    let model = LanguageModel(
      name: large.name, decoder: large.decoder, tokenizer: large.tokenizer,
      promptTemplate: PromptTemplate.chatML(system: nil), endTokens: large.endTokens)
    let options = GenerationOptions(maxTokens: 12)
    for (number, strategy) in try models.fixed().enumerated() {
      let conversation = Conversation(model: model, options: options, strategy: strategy)
      for text in ["Why is it so?", "And then?", "Good."] {
        let prompt = try model.prompt(
          messages: conversation.messages + [ChatMessage(role: "user", content: text)])
        let expected = try strategy.makeSession(model: model, prompt: prompt, options: options) { false }
        while try expected.next() != nil {}
        let isFirst = conversation.messages.isEmpty
        let found = try conversation.respond(to: text)
        #expect(found.generation == expected.generation, "\(number)")
        #expect((conversation.reusedTokens > 0) == !isFirst, "\(number): \(conversation.reusedTokens)")
      }
    }
  }

  @Test func `exact drafts keep the output`() throws {
    let strategies = try models.timed()
    let all = orders(30, seed: 91) { strategies[$0 / 2 % strategies.count] }
    let arrivals = RandomArrivals(model: models.large, orders: all)
    let alone = try arrivals.alone()
    let prefixes = PrefixCache(byteLimit: 1 << 26)
    let together = try arrivals.together(width: 7, promptParts: nil, prefixes: prefixes, seed: 3)
    for index in alone.indices {
      #expect(together[index].generation?.tokenIDs == alone[index].generation?.tokenIDs, "\(index)")
    }
    #expect(prefixes.reusedTokens > 0 && prefixes.byteCount > 0)
  }

  @Test(arguments: [nil, 2]) func `a guard sees the whole prompt`(layer: Int?) throws {
    let strategies = try models.fixed()
    var all = orders(36, seed: 17) { strategies[$0 / 2 % strategies.count] }
    let found = try makeGuard(all.map(\.prompt), layer: layer)
    for index in all.indices where index % 7 != 6 { all[index].options.applicability = found }
    let arrivals = RandomArrivals(model: models.large, orders: all)
    let alone = try arrivals.alone()
    let prefixes = PrefixCache(byteLimit: 1 << 26)
    let together = try arrivals.together(width: 6, promptParts: nil, prefixes: prefixes, seed: 4)
    for index in alone.indices {
      // Outside the guard, drafts are exact and hang on measured times.
      #expect(together[index].generation == alone[index].generation, "\(index)")
    }
    let outputs = alone.compactMap(\.generation)
    #expect(outputs.contains { $0.applicability?.isInside == true })
    #expect(outputs.contains { $0.applicability?.isInside == false })
    #expect(prefixes.reusedTokens > all.reduce(0) { $0 + $1.prompt.count } / 3, "\(prefixes.reusedTokens)")
  }

  @Test func `a guard of another layer, or none, is no help to a guard`() throws {
    let prompts = orders(40, seed: 5) { _ in FullDepth() }.map(\.prompt)
    let (last, lower) = (try makeGuard(prompts), try makeGuard(prompts, layer: 1))
    let prefixes = PrefixCache(byteLimit: 1 << 26)
    let batch = BatchDecoder(model: models.large, prefixes: prefixes, shouldStop: { false })
    func reused(_ found: ApplicabilityGuard?) throws -> Int {
      var options = GenerationOptions(maxTokens: 3)
      options.applicability = found
      let before = prefixes.reusedTokens
      let output = try #require(try batch.run(prompts: [prompts[0]], options: options)?.first)
      let session = try models.large.makeSession(prompt: prompts[0], options: options)
      while try session.next() != nil {}
      #expect(output == session.generation)
      return prefixes.reusedTokens - before
    }
    let whole = prompts[0].count - 1
    #expect(try reused(nil) == 0)
    #expect(try reused(last) == 0)
    #expect(try reused(last) == whole / 16 * 16)
    #expect(try reused(lower) == 0)
    #expect(try reused(lower) == whole / 16 * 16)
    #expect(try reused(nil) == whole)
    #expect(try reused(last) == whole / 16 * 16)
  }
}
