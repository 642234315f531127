import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

struct ExactDecodingTests {
  @Test("Prompt look-up gives the tokens of plain decoding, whatever ends the output")
  func promptLookupIsExact() throws {
    var random = SplitMix64(seed: 11)
    var accepted = 0
    for seed in 1...5 as ClosedRange<UInt64> {
      let base = try tinyModel(seed: seed)
      var controller: DraftLengthController?
      for trial in 0..<400 {
        let prompt = randomPrompt(&random, count: Int.random(in: 1...60, using: &random))
        var options = GenerationOptions(maxTokens: Int.random(in: 1...40, using: &random))
        var model = base
        switch trial % 5 {
        case 1: model = base.ending(with: [Int.random(in: 0..<272, using: &random)])
        case 2:
          options.stopStrings = ["a", String(UnicodeScalar(UInt8.random(in: 33...126, using: &random)))]
        case 3: options.context = prompt.count + Int.random(in: 1...20, using: &random)
        case 4:
          options.sampling = .random(
            RandomSampling(temperature: 0.7, topK: trial % 2 == 0 ? 5 : nil, seed: UInt64(trial)))
        default: break
        }
        if let context = options.context { options.context = max(2, context) }
        let expected = try model.plain(prompt, options)
        let session = try SpeculativeSession(
          model: model, prompt: prompt, options: options, draftLength: 1 + trial % 12,
          choosesLength: trial % 2 == 0, controller: controller)
        let found = try run(session)
        controller = session.controller
        #expect(found.generation == expected)
        #expect(found.text == expected.text)
        accepted += found.statistics.accepted
      }
    }
    // The test says nothing unless drafts were taken.
    #expect(accepted > 500)
  }

  @Test(
    "A session begins with what the last one of its strategy has learnt, and another strategy's with nothing")
  func knowledgeIsLeft() throws {
    var random = SplitMix64(seed: 12)
    let model = try tinyModel(seed: 2)
    let strategy = try SpeculationStrategy([.promptLookup], for: model, rule: .exact)
    let prompt = randomPrompt(&random, count: 40)
    let offer = DraftLengthController.Offer(drafter: 0, evidence: 3, available: 4)
    func knowsTime(_ strategy: SpeculationStrategy) throws -> Bool {
      // Without the time of a pass nothing can be compared, and nothing is chosen.
      var controller = try strategy.makeSession(prompt: prompt).controller
      return (0..<40).contains { _ in controller.choose([offer]) != nil }
    }
    #expect(try !knowsTime(strategy))
    let options = GenerationOptions(maxTokens: 20)
    let first = try run(strategy.makeSession(prompt: prompt, options: options))
    #expect(try knowsTime(strategy))
    let second = try run(strategy.makeSession(prompt: prompt, options: options))
    #expect(second.generation == first.generation)
    #expect(try !knowsTime(SpeculationStrategy([.promptLookup], for: model, rule: .exact)))
  }

  @Test(
    "Any mixture of right and wrong drafts gives the tokens of plain decoding", arguments: [1, 2, 3, 7, 50])
  func wrongDraftsAreUndone(wrongEvery: Int) throws {
    var random = SplitMix64(seed: UInt64(wrongEvery))
    let model = try tinyModel(seed: 3)
    for trial in 0..<60 {
      let prompt = randomPrompt(&random, count: 1 + trial % 40)
      let options = GenerationOptions(maxTokens: 30)
      let expected = try model.plain(prompt, options)
      let drafter = ScriptedDrafter(
        answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: wrongEvery)
      let found = try run(
        SpeculativeSession(
          model: model, prompt: prompt, options: options, drafters: [drafter], draftLength: 1 + trial % 9,
          choosesLength: false))
      #expect(found.generation == expected)
      #expect(found.statistics.substituted == 0)
      if wrongEvery == 50, expected.tokenIDs.count == 30, trial % 9 == 8 {
        // Nothing was wrong: 29 tokens after the first in passes of ten.
        #expect(found.statistics.steps == 3)
        #expect(found.statistics.accepted == found.statistics.drafted)
      }
    }
  }

  @Test("A scripted model that repeats its prompt is verified in few passes")
  func scriptedRepetition() throws {
    let tokenizer = try tinyModel(seed: 1) { $0.vocabularySize = 320 }.tokenizer
    let prompt = Array(70..<110) + [70, 71, 72]
    let decoder = ScriptedModel { history, _ in
      let next = 70 + (history.count - 40) % 40
      return ScriptedModel.logits(favouring: history.count < 75 ? next : 2)
    }
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: tokenizer, promptTemplate: nil, endTokens: [2])
    let expected = try model.plain(prompt, GenerationOptions(maxTokens: 60))
    let drafter = ScriptedDrafter(answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: 1000)
    let found = try run(
      SpeculativeSession(
        model: model, prompt: prompt, options: GenerationOptions(maxTokens: 60), drafters: [drafter],
        draftLength: 8, choosesLength: false))
    #expect(found.generation == expected)
    #expect(found.generation.stopReason == .endOfText)
    #expect(found.statistics.steps <= 4)
    #expect(
      PromptLookup().draft(after: prompt, limit: 5) == Draft(tokens: [73, 74, 75, 76, 77], evidence: 2))
  }

  @Test("Nothing is drafted where batches are not invariant")
  func noDraftsWithoutInvariance() throws {
    let decoder = ScriptedModel(invariantBatchLimit: 1) { _, _ in ScriptedModel.logits(favouring: 70) }
    let tokenizer = try tinyModel(seed: 1) { $0.vocabularySize = 320 }.tokenizer
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: tokenizer, promptTemplate: nil, endTokens: [])
    let drafter = ScriptedDrafter(
      answer: Array(repeating: 70, count: 20), promptCount: 3, wrongEvery: 1000)
    let found = try run(
      SpeculativeSession(
        model: model, prompt: [70, 70, 70], options: GenerationOptions(maxTokens: 20), drafters: [drafter],
        choosesLength: false))
    #expect(found.statistics.drafted == 0)
    #expect(found.generation.tokenIDs.count == 20)
  }

  @Test("Cancelling keeps what was verified")
  func cancelling() throws {
    let model = try tinyModel(seed: 2).ending(with: [])
    var asked = 0
    let session = try SpeculativeSession(
      model: model, prompt: [70, 71, 72], options: GenerationOptions(maxTokens: 50),
      shouldStop: {
        asked += 1
        return asked > 6
      })
    var text = ""
    while let step = try session.next() { text += step.text }
    #expect(session.stopReason == .cancelled)
    #expect(session.generation.tokenIDs.count >= 1)
    #expect(text + session.cancelledText == session.generation.text)
  }
}
