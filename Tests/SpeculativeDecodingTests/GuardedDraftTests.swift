import EarlyExit
import FileFormats
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Drafts that may change the output, for documents like those of the calibration only.
@Suite struct GuardedDraftTests {
  private let known: [TokenID] = [70, 80, 90, 100]
  private let foreign: [TokenID] = [200, 210, 60]

  private func makeGuard(_ model: LanguageModel) throws -> ApplicabilityGuard {
    let center = try #require(try model.promptProfile(known, shouldStop: { false }))
    var numbers = SplitMix64(seed: 8)
    let near = (0..<40).map { _ in center.map { $0 + Float(numbers.next() % 1000) / 1e5 - 0.005 } }
    let digest = String(repeating: "0", count: 64)
    return try ApplicabilityGuard(
      fitting: Array(near[..<20]), heldBack: [center] + Array(near[20...]), modelDigest: digest,
      documentsDigest: digest)
  }

  @Test func `outside no draft changes the output`() throws {
    let (large, small) = (try tinyModel(seed: 21, layers: 3), try tinyModel(seed: 22, layers: 1))
    let strategy = try SpeculationStrategy(
      [.model(small)], for: large, rule: .rollback(threshold: .infinity), fallback: 0, draftLength: 4)
    var options = GenerationOptions(maxTokens: 24)
    func run(_ prompt: [TokenID], _ options: GenerationOptions) throws -> Run {
      try SpeculativeDecodingTests.run(
        strategy.makeSession(prompt: prompt, options: options, choosesLength: false))
    }
    let unguarded = try [known, foreign].map { try run($0, options) }
    let plain = try [known, foreign].map { try large.plain($0, options) }
    // Drafts that are never taken back make another output of both.
    for index in 0..<2 { #expect(unguarded[index].generation.tokenIDs != plain[index].tokenIDs) }
    options.applicability = try makeGuard(large)
    let inside = try run(known, options)
    #expect(inside.generation.applicability?.isInside == true)
    #expect(inside.generation.tokenIDs == unguarded[0].generation.tokenIDs)
    let outside = try run(foreign, options)
    #expect(outside.generation.applicability?.isInside == false)
    #expect(outside.generation.tokenIDs == plain[1].tokenIDs)
    #expect(outside.statistics.substituted == 0)

    let sweep = try RollbackSweep(strategy, grid: [1, 4, 20])
    #expect(try #require(try sweep.run(known, options: options, shouldStop: { false })).count > 1)
    let pieces = try #require(try sweep.run(foreign, options: options, shouldStop: { false }))
    #expect(pieces.map(\.threshold) == [0])
    #expect(pieces[0].generation.tokenIDs == plain[1].tokenIDs)
  }

  @Test func `drafts that repeat themselves are taken back, and the large model goes on alone`() throws {
    let (large, small) = (try tinyModel(seed: 21, layers: 3), try tinyModel(seed: 22, layers: 1))
    let endless = (large.ending(with: []), small.ending(with: []))
    let strategy = try SpeculationStrategy(
      [.model(endless.1)], for: endless.0, rule: .rollback(threshold: .infinity), fallback: 0, draftLength: 4)
    var random = SplitMix64(seed: 5)
    var trips = 0
    for _ in 0..<40 {
      let prompt = randomPrompt(&random, count: 6)
      var options = GenerationOptions(maxTokens: 40)
      func run(_ options: GenerationOptions) throws -> Run {
        try SpeculativeDecodingTests.run(
          strategy.makeSession(prompt: prompt, options: options, choosesLength: false))
      }
      let free = try run(options)
      options.tripwire = RepetitionTripwire(limit: 1)
      let caught = try run(options)
      // What was shown was never taken back.
      #expect(caught.text == caught.generation.text)
      guard let kept = caught.generation.trippedAt else {
        #expect(caught.generation.tokenIDs == free.generation.tokenIDs)
        continue
      }
      trips += 1
      #expect(caught.generation.tokenIDs.prefix(kept) == free.generation.tokenIDs.prefix(kept))
      // The rest is the large model's own.
      let rest = try endless.0.plain(
        prompt + caught.generation.tokenIDs.prefix(kept), GenerationOptions(maxTokens: 40 - kept))
      #expect(caught.generation.tokenIDs.dropFirst(kept).elementsEqual(rest.tokenIDs))
      let pieces = try #require(
        try RollbackSweep(strategy, grid: [1000]).run(prompt, options: options, shouldStop: { false }))
      #expect(pieces.last?.generation.tokenIDs == caught.generation.tokenIDs)
    }
    #expect(trips > 5)
  }
}
