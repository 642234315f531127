import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

struct ExitVerificationTests {
  private func strategy(
    _ measure: any ConfidenceMeasure, threshold: Double, heads: ExitHeads? = nil, groupLimit: Int = 16
  ) throws -> ExitStrategy {
    ExitStrategy(
      policy: try ThresholdPolicy(threshold: threshold), measure: measure, heads: heads,
      groupLimit: groupLimit)
  }

  private static let measures: [(any ConfidenceMeasure, [Double])] = [
    (SoftmaxConfidence(), [0.01, 0.05, 0.2]), (SaturationConfidence(), [0.8, 0.9, 0.95]),
  ]

  @Test("With exits, exact verification gives the tokens and layers of early exit alone")
  func exactness() throws {
    var random = SplitMix64(seed: 23)
    var accepted = 0
    var depths: Set<Int> = []
    for (measure, thresholds) in Self.measures {
      for seed in 1...3 as ClosedRange<UInt64> {
        let model = try tinyModel(seed: seed, layers: 5) { $0.weightScale = 0.1 }
        for trial in 0..<60 {
          var options = GenerationOptions(maxTokens: 24)
          // A short list makes heads of a few tokens beside the prompt's.
          let heads = trial % 3 == 0 ? ExitHeads(shortlist: Array(60..<100)) : nil
          let exits = try strategy(
            measure, threshold: thresholds[trial % 3], heads: heads, groupLimit: 1 + trial % 7)
          if trial % 5 == 0 {
            options.sampling = .random(RandomSampling(temperature: 0.3, seed: UInt64(trial)))
          }
          let prompt = randomPrompt(&random, count: 1 + trial % 30)
          let expected = try model.plain(prompt, options, exits: exits)
          let drafter = ScriptedDrafter(
            answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: 2 + trial % 6)
          let found = try run(
            SpeculativeSession(
              model: model, prompt: prompt, options: options, exits: exits, drafters: [drafter],
              draftLength: 1 + trial % 8,
              choosesLength: false))
          // Layers are compared too.
          #expect(found.generation == expected)
          accepted += found.statistics.accepted
          depths.formUnion(expected.layers.dropFirst())
        }
      }
    }
    #expect(accepted > 1000)
    #expect(depths.count > 2)
  }

  @Test("After a prompt that stopped, drafts looked up in the text leave exits as they are")
  func stoppedPrompts() throws {
    var random = SplitMix64(seed: 31)
    let model = try tinyModel(seed: 4, layers: 5) { $0.weightScale = 0.1 }.ending(with: [])
    var accepted = 0
    var changed = 0
    for trial in 0..<24 {
      let exits = try strategy(SoftmaxConfidence(), threshold: [0.01, 0.05, 0.2][trial % 3])
      let lookup = try SpeculationStrategy([.promptLookup], for: model, exits: exits, rule: .exact)
      let prompt = randomPrompt(&random, count: 30 + 3 * trial)
      var options = GenerationOptions(maxTokens: 24)
      let full = try model.plain(prompt, options, exits: exits)
      options.promptDepth = 1 + trial % 4
      let expected = try model.plain(prompt, options, exits: exits)
      let found = try run(
        lookup.makeSession(prompt: prompt, options: options, choosesLength: false))
      #expect(found.generation == expected, "\(trial)")
      accepted += found.statistics.accepted
      changed += full.tokenIDs == expected.tokenIDs ? 0 : 1
    }
    #expect(accepted > 20 && changed > 5)
  }

  @Test("A draft model with exits drafts what its early exit writes, whatever was rolled back before")
  func draftWithExits() throws {
    var random = SplitMix64(seed: 29)
    for (measure, thresholds) in Self.measures {
      let model = try tinyModel(seed: 5, layers: 5) { $0.weightScale = 0.1 }.ending(with: [])
      for trial in 0..<40 {
        let prompt = randomPrompt(&random, count: 1 + trial % 30)
        let options = GenerationOptions(maxTokens: 30)
        let exits = try strategy(measure, threshold: thresholds[trial % 3], groupLimit: 1 + trial % 5)
        // The large model is the small one with the same exits: every draft is right.
        func drafting(_ own: ExitStrategy?) throws -> SpeculationStrategy {
          try SpeculationStrategy(
            [.model(model, exits: exits)], for: model, exits: own, rule: .exact, fallback: 0,
            draftLength: 1 + trial % 9)
        }
        let found = try run(
          drafting(exits).makeSession(prompt: prompt, options: options, choosesLength: false))
        #expect(found.statistics.accepted == found.statistics.drafted)
        #expect(found.statistics.drafted > 10)
        #expect(try found.generation == model.plain(prompt, options, exits: exits))
        // At full depth it is not, and drafts are rolled back; the output is the large model's all the same.
        let full = try run(
          drafting(nil).makeSession(prompt: prompt, options: options, choosesLength: false))
        #expect(try full.generation == model.plain(prompt, options))
      }
    }
  }

  @Test("With rollback and exits the distance is that of the exit's own distribution")
  func rollback() throws {
    let model = try tinyModel(seed: 6, layers: 4) { $0.weightScale = 0.1 }
    let small = try tinyModel(seed: 7, layers: 1)
    let options = GenerationOptions(maxTokens: 24)
    let exits = try strategy(SoftmaxConfidence(), threshold: 0.02)
    func found(_ rule: AcceptanceRule) throws -> Run {
      try run(
        SpeculationStrategy(
          [.model(small)], for: model, exits: exits, rule: rule, fallback: 0, draftLength: 4
        )
        .makeSession(prompt: [70, 80, 90], options: options, choosesLength: false))
    }
    #expect(
      try found(.rollback(threshold: 0)).generation == model.plain([70, 80, 90], options, exits: exits))
    let never = try found(.rollback(threshold: .infinity))
    #expect(never.statistics.rollbacks == 0 && never.statistics.substituted > 0)
  }
}
