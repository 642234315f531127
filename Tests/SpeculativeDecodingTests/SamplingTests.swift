import EarlyExit
import Foundation
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

func exponential(_ x: Double) -> Double { exp(x) }
func logarithm(_ x: Double) -> Double { log(x) }

struct SamplingTests {
  @Test("Sampled pairs of tokens follow the large model's distribution, with drafts right and wrong")
  func distribution() throws {
    // Four tokens; the second's distribution depends on the first.
    let weights: [[Double]] = [[4, 3, 2, 1], [1, 1, 1, 1], [7, 1, 1, 1], [2, 5, 2, 1]]
    let decoder = ScriptedModel { history, _ in
      var logits = [Float](repeating: -100, count: 320)
      let row = weights[history.count == 2 ? 0 : (history[history.count - 1] - 70) % 4]
      for (index, weight) in row.enumerated() { logits[70 + index] = Float(log(weight)) }
      return logits
    }
    let tokenizer = try tinyModel(seed: 1) { $0.vocabularySize = 320 }.tokenizer
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: tokenizer, promptTemplate: nil, endTokens: [])
    var counts = [Double](repeating: 0, count: 64)
    let runs = 8000
    var accepted = 0
    for seed in 0..<runs {
      let drafter = ScriptedDrafter(answer: [70, 70, 71, 70], promptCount: 2, wrongEvery: 1000)
      let found = try run(
        SpeculativeSession(
          model: model, prompt: [80, 81],
          options: GenerationOptions(maxTokens: 4, sampling: .random(RandomSampling(seed: UInt64(seed)))),
          drafters: [drafter], draftLength: 3, choosesLength: false))
      accepted += found.statistics.accepted
      let ids = found.generation.tokenIDs
      counts[(ids[0] - 70) * 16 + (ids[1] - 70) * 4 + ids[2] - 70] += 1
    }
    #expect(accepted > runs / 4)
    func probability(_ row: [Double], _ token: Int) -> Double { row[token] / row.reduce(0, +) }
    var statistic = 0.0
    for cell in 0..<64 {
      let (a, b, c) = (cell / 16, cell / 4 % 4, cell % 4)
      let expected =
        Double(runs) * probability(weights[0], a) * probability(weights[a], b) * probability(weights[b], c)
      statistic += (counts[cell] - expected) * (counts[cell] - expected) / expected
    }
    // 63 degrees of freedom: above 103.4 with probability 0.001. The seeds are fixed.
    #expect(statistic < 103.4)
  }
}
