import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Prompts from files with early exits and drafts.
@Suite struct PromptCacheDraftTests {
  private static let digest = String(repeating: "ab", count: 32)

  /// Decodes each prompt twice with a file and once without.
  ///
  /// - Returns: Tokens that came from the file.
  private func expectSame(
    _ model: LanguageModel,
    _ makeSession: (_ prompt: [TokenID], GenerationOptions) throws -> any GenerationSession
  ) throws -> Int {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/prompt.cache"
    var random = SplitMix64(seed: 4)
    let document = randomPrompt(&random, count: 70)
    var reused = 0
    for number in 0..<6 {
      let prompt = document + randomPrompt(&random, count: 1 + number)
      func output(_ cache: PromptCache?) throws -> Generation {
        var options = GenerationOptions(maxTokens: 20)
        options.promptCache = cache
        let session = try makeSession(prompt, options)
        while try session.next() != nil {}
        if let cache {
          reused += PromptCache.reusedTokens(of: session) ?? 0
          try cache.save(session)
        }
        return session.generation
      }
      let expected = try output(nil)
      for _ in 0..<2 {
        let cache = try PromptCache(path: path, model: model, modelDigest: Self.digest)
        #expect(try output(cache) == expected)
      }
    }
    return reused
  }

  @Test(arguments: ExitCachePolicy.allCases)
  func `exits leave where they leave without a file`(cachePolicy: ExitCachePolicy) throws {
    let model = try tinyModel(seed: 21, layers: 4)
    let strategy = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0.006, layers: [1, 2]), measure: SoftmaxConfidence(),
      cachePolicy: cachePolicy, groupLimit: 5)
    let reused = try expectSame(model) { prompt, options in
      try model.makeSession(prompt: prompt, options: options, strategy: strategy, shouldStop: { false })
    }
    #expect(reused > 6 * 70)
  }

  @Test func `drafts that change nothing and drafts that do are the same`() throws {
    let (large, small) = (try tinyModel(seed: 21, layers: 3), try tinyModel(seed: 22, layers: 1))
    for rule in [AcceptanceRule.exact, .rollback(threshold: 4)] {
      for sources in [[SpeculationStrategy.Source.model(small)], [.promptLookup], [.earlyExit(layer: 1)]] {
        let strategy = try SpeculationStrategy(sources, for: large, rule: rule, fallback: 0, draftLength: 4)
        let reused = try expectSame(large) { prompt, options in
          try strategy.makeSession(prompt: prompt, options: options, choosesLength: false)
        }
        #expect(reused > 6 * 70)
      }
    }
  }

  /// Reads hidden states, as a draft head does, and notes of which tokens.
  private final class Reader: Drafter {
    let profile: DrafterProfile
    private(set) var seen = 0

    init(layer: Int) { profile = DrafterProfile(writer: .draft, readsLayers: [layer]) }

    func draft(after history: [TokenID], limit: Int, target: DraftTarget) -> Draft {
      Draft(tokens: [TokenID(seen % 250)])
    }
    func read(_ states: [Int: HiddenStates], positions: Range<Int>) { seen += positions.count }
    func crop(to count: Int) {}
  }

  @Test func `a drafter that reads the prompt's states gets all of them`() throws {
    let model = try tinyModel(seed: 21, layers: 3)
    let reused = try expectSame(model) { prompt, options in
      try SpeculativeSession(
        model: model, prompt: prompt, options: options, drafters: [Reader(layer: 3)],
        rule: .rollback(threshold: 1), draftLength: 2)
    }
    #expect(reused == 0)
  }
}
