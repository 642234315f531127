import EarlyExit
import Foundation
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

struct RollbackTests {
  private func pair() throws -> (large: LanguageModel, small: LanguageModel) {
    (try tinyModel(seed: 21, layers: 3), try tinyModel(seed: 22, layers: 1))
  }

  /// Decodes with a small model that drafts, always as many tokens as are asked for.
  private func bild(
    _ large: LanguageModel, _ small: LanguageModel, _ prompt: [TokenID], maxTokens: Int, fallback: Double = 0,
    _ rule: AcceptanceRule, _ draftLength: Int
  ) throws -> Run {
    let strategy = try SpeculationStrategy(
      [.model(small)], for: large, rule: rule, fallback: fallback, draftLength: draftLength)
    return try run(
      strategy.makeSession(
        prompt: prompt, options: GenerationOptions(maxTokens: maxTokens), choosesLength: false))
  }

  @Test("A rollback threshold of 0, and exact verification, give the large model's greedy output")
  func zeroIsTheLargeModel() throws {
    let (large, small) = try pair()
    var random = SplitMix64(seed: 3)
    var rollbacks = 0
    for trial in 0..<150 {
      let prompt = randomPrompt(&random, count: 1 + trial % 50)
      let expected = try large.plain(prompt, GenerationOptions(maxTokens: 24))
      for rule in [AcceptanceRule.rollback(threshold: 0), .exact] {
        let found = try bild(large, small, prompt, maxTokens: 24, rule, 1 + trial % 6)
        #expect(found.generation == expected)
        rollbacks += found.statistics.rollbacks
      }
    }
    #expect(rollbacks > 100)
  }

  @Test("An infinite rollback threshold never rolls back")
  func infiniteNeverRollsBack() throws {
    let (large, small) = try pair()
    let found = try bild(large, small, [70, 80, 90], maxTokens: 40, .rollback(threshold: .infinity), 5)
    #expect(found.statistics.rollbacks == 0)
    #expect(found.statistics.accepted == found.statistics.drafted)
    #expect(found.statistics.substituted > 0)
  }

  @Test("A draft of the large model itself is taken whole, and a sure fallback drafts nothing")
  func fallback() throws {
    let (large, _) = try pair()
    let endless = large.ending(with: [])
    let same = try bild(endless, endless, [70, 80, 90], maxTokens: 31, .exact, 9)
    #expect(same.statistics.steps == 3)
    #expect(same.statistics.accepted == 27)
    // Per pass nine drafted tokens, one that catches up but for the first pass, and ten rows verified, of which four
    // share the unembedding.
    let layers = 3 * large.decoder.bytesPerLayer
    let head = large.decoder.bytesOfUnembedding
    #expect(same.statistics.bytesRead == 3 * (9 * (layers + head) + layers + 3 * head) + 2 * layers)
    let unsure = try bild(large, large, [70, 80, 90], maxTokens: 31, fallback: 1, .exact, 10)
    #expect(unsure.statistics.drafted == 0)
  }

  @Test("The policy is the one of the definition, run token by token without caches")
  func agreesWithTheDefinition() throws {
    let (large, small) = try pair()
    var random = SplitMix64(seed: 8)
    func logits(_ model: LanguageModel, _ tokens: [TokenID]) throws -> [Double] {
      let states = HiddenStates(hiddenSize: model.decoder.configuration.hiddenSize, capacity: tokens.count)
      let cache = try model.decoder.makeCache(capacity: tokens.count)
      try model.decoder.embed(tokens, into: states)
      try model.decoder.advance(
        states, rows: tokens.indices.map { BatchRow(cache: cache, position: $0) },
        layers: 0..<model.decoder.configuration.layerCount)
      var row: [Float] = []
      try model.decoder.logits(of: states, rows: tokens.count - 1..<tokens.count, into: &row)
      return row.map(Double.init)
    }
    func best(_ values: [Double]) -> Int { values.indices.max { values[$0] < values[$1] } ?? 0 }
    func surprise(_ values: [Double], _ token: Int) -> Double {
      let largest = values[best(values)]
      var sum = 0.0
      for value in values { sum += exponential(value - largest) }
      return largest + logarithm(sum) - values[token]
    }
    for (fallback, threshold) in [(0.05, 2.0), (0.1, 4.0), (0.0, 3.0)] {
      let prompt = randomPrompt(&random, count: 12)
      let end = 25
      var output = [best(try logits(large, prompt))]
      while output.count < end {
        var drafts: [TokenID] = []
        while drafts.count < min(4, end - output.count - 1) {
          let values = try logits(small, prompt + output + drafts)
          let token = best(values)
          if exponential(-surprise(values, token)) < fallback { break }
          drafts.append(token)
        }
        var isCut = false
        for token in drafts where !isCut {
          let values = try logits(large, prompt + output)
          isCut = token != best(values) && surprise(values, token) > threshold
          output.append(isCut ? best(values) : token)
        }
        if !isCut { output.append(best(try logits(large, prompt + output))) }
      }
      let found = try bild(
        large.ending(with: []), small.ending(with: []), prompt, maxTokens: end, fallback: fallback,
        .rollback(threshold: threshold), 4)
      #expect(found.generation.tokenIDs == output)
    }
  }

  @Test("The sweep's outputs are those of single runs at thresholds between its steps")
  func sweep() throws {
    let (large, small) = try pair()
    let options = GenerationOptions(maxTokens: 16)
    let prompt = [70, 71, 72, 90]
    func at(_ threshold: Double) throws -> Run {
      try bild(large, small, prompt, maxTokens: 16, .rollback(threshold: threshold), 4)
    }
    let strategy = try SpeculationStrategy(
      [.model(small)], for: large, rule: .exact, fallback: 0, draftLength: 4)
    let pieces = try #require(try RollbackSweep(strategy).run(prompt, options: options))
    #expect(pieces.count > 2)
    #expect(pieces[0].threshold == 0)
    #expect(try pieces[0].generation == large.plain(prompt, options))
    for (index, piece) in pieces.enumerated() {
      let single = try at(piece.threshold)
      #expect(single.generation == piece.generation)
      // A run of a sweep is a run by itself in everything but the time.
      #expect(single.statistics.tokensBySource == piece.statistics.tokensBySource)
      #expect(single.statistics.acceptedByPosition == piece.statistics.acceptedByPosition)
      let next = index + 1 < pieces.count ? pieces[index + 1].threshold : piece.threshold * 2 + 1
      #expect(try at((piece.threshold + next) / 2).generation == piece.generation)
      #expect(try at(next.nextDown).generation == piece.generation)
    }
    let grid = [4.0, 0.5, 2, 1, 8]
    let coarse = try #require(try RollbackSweep(strategy, grid: grid).run(prompt, options: options))
    for threshold in grid {
      let piece = try #require(coarse.last { $0.threshold <= threshold })
      #expect(try at(threshold).generation == piece.generation)
    }
    #expect(coarse.dropFirst().allSatisfy { grid.contains($0.threshold) })
  }

  @Test("Prompts that are swept together get what each gets alone")
  func sweepOfMany() throws {
    let (large, small) = try pair()
    let strategy = try SpeculationStrategy(
      [.model(small)], for: large, rule: .exact, fallback: 0, draftLength: 4)
    let sweep = try RollbackSweep(strategy, grid: [0.5, 1, 2, 4, 8])
    // Of different lengths, so that they end at different times; the first has nothing to draft.
    let requests = [1, 16, 5, 24, 2, 9, 12].enumerated().map { index, length in
      RollbackSweep.Request(
        prompt: [70, 71 + index, 72, 90], options: GenerationOptions(maxTokens: length))
    }
    let alone = try requests.map {
      try #require(try sweep.run($0.prompt, options: $0.options, shouldStop: { false }))
    }
    #expect(alone.contains { $0.count > 2 })
    for width in [1, 2, 3, 8] {
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
        #expect(one.map(\.statistics.acceptedByPosition) == other.map(\.statistics.acceptedByPosition))
        #expect(one.map(\.statistics.nearestRefusal) == other.map(\.statistics.nearestRefusal))
      }
    }
    var asked = 0
    let stopped = try sweep.run(
      requests,
      shouldStop: {
        asked += 1
        return asked > 20
      }, finished: { _, _ in })
    #expect(!stopped)
  }

  @Test("Pairs and settings that do not fit are refused")
  func refusals() throws {
    let (large, small) = try pair()
    func refusal(_ body: () throws -> Void) -> String {
      do {
        try body()
        return ""
      } catch { return "\(error)" }
    }
    let other = try tinyModel(seed: 4, layers: 1) { $0.vocabularySize = 280 }
    #expect(
      refusal { try large.checkDraft(other) }.contains("number of tokens is 280 in the draft and 272"))
    #expect(refusal { try small.checkDraft(large) }.contains("more than"))
    #expect(refusal { try large.checkDraft(small.ending(with: [5])) }.contains("end tokens is [5]"))
    let short = try tinyModel(seed: 4, layers: 1) { $0.contextLength = 16 }
    let prompt = Array(repeating: 70, count: 20)
    #expect(
      refusal {
        _ = try SpeculationStrategy([.model(short)], for: large, rule: .exact).makeSession(prompt: prompt)
      }.contains("holds 16"))
    for threshold in [-1, Double.nan] {
      #expect(
        refusal {
          _ = try SpeculativeSession(model: large, prompt: [70], rule: .rollback(threshold: threshold))
        }.contains("rollback must be"))
    }
    #expect(
      refusal { _ = try SpeculationStrategy([.model(small)], for: large, rule: .exact, fallback: 1.5) }
        .contains(
          "fallback must"))
    #expect(refusal { _ = try SpeculativeSession(model: large, prompt: [70], draftLength: 0) } != "")
    let exits = ExitStrategy(
      policy: FullDepthPolicy(), measure: SoftmaxConfidence(), cachePolicy: .propagate)
    #expect(
      refusal { _ = try SpeculativeSession(model: large, prompt: [70], exits: exits) }.contains(
        "exit-cache must be defer"))
    let sampling = GenerationOptions(sampling: .random(RandomSampling(seed: 1)))
    #expect(
      refusal {
        _ = try SpeculativeSession(
          model: large, prompt: [70], options: sampling, rule: .rollback(threshold: 1))
      } != "")
  }

  @Test func `a token is priced by passes, their rows and the drafts`() throws {
    let costs = DraftCosts(pass: [4, 5, 7, 10], draft: 0.5)
    var statistics = SpeculationStatistics()
    #expect(costs.milliseconds(of: DraftWork(statistics, tokens: 9)) == 4)
    (statistics.steps, statistics.drafted) = (4, 6)
    // Passes of 2.5 rows, six each; the small model reads ten tokens.
    #expect(costs.milliseconds(of: DraftWork(statistics, tokens: 11)) == 2.9)
    // Of eight rows, as many a row as of four.
    statistics.drafted = 28
    #expect(costs.milliseconds(of: DraftWork(statistics, tokens: 33)) == 3)

    // Half of the passes with the head of a shortlist.
    statistics.drafted = 6
    statistics.shortlistSteps = 2
    #expect(
      DraftCosts(pass: [4, 5, 7, 10], shortlistPass: [3, 4, 6, 9], draft: 0.5)
        .milliseconds(of: DraftWork(statistics, tokens: 11)) == 2.7)

    let (large, small) = try pair()
    let measured = try DraftCosts.measured(large, source: .model(small))
    #expect(measured.pass.count == 16 && measured.pass.allSatisfy { $0 > 0 } && measured.draft > 0)
  }
}
