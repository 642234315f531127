import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Drafts and exits under rules of what may come next and of where the output ends.
struct ConstrainedDecodingTests {
  private static let document = "Ab cde, fg. Hij 1,234 k. \"Lm\" nop qrs! Tuv w x. Yz ab ab cde"

  private func options(_ model: LanguageModel, _ trial: Int) throws -> GenerationOptions {
    var options = GenerationOptions(maxTokens: 30)
    options.recordsProbabilities = true
    switch trial % 4 {
    case 0: options.noRepeatNgram = 1 + trial % 3
    case 1: options.length = trial % 8 == 1 ? .sentences(1) : .words(3)
    // Both rules at once may leave no token, which ends the output wherever it is.
    case 2: options.noRepeatNgram = trial % 8 == 2 ? 2 : nil
    default: break
    }
    if trial % 4 >= 2 {
      options.isExtractive = true
      options = try model.options(options, for: .answer(question: "?"), document: Self.document)
    }
    // No shortlist here has these.
    if trial % 4 < 2, trial % 3 == 1 { options.opening = [130 + trial % 5, 65, 140] }
    if trial % 5 == 0 {
      options.topProbabilities = 1 + trial % 4
      options.adjustments = LogitAdjustments(
        repeatPenalty: 1.1, frequencyPenalty: 0.2, presencePenalty: 0.1, bias: [100: 0.5, 101: -.infinity])
    }
    if trial % 7 == 0 {
      options.sampling = .random(RandomSampling(temperature: 0.5, topK: 40, seed: UInt64(trial)))
    }
    return options
  }

  @Test(
    "Drafts of every kind give the tokens, texts and probabilities of decoding alone", arguments: [1, 2, 3])
  func drafts(seed: Int) throws {
    var random = SplitMix64(seed: UInt64(seed))
    let model = try tinyModel(seed: UInt64(seed), layers: 3).ending(with: [2, 271])
    var accepted = 0
    var extracted: Set<String> = []
    for trial in 0..<80 {
      let prompt = randomPrompt(&random, count: 1 + trial % 30)
      let options = try options(model, trial)
      let expected = try model.plain(prompt, options)
      let drafter = ScriptedDrafter(
        answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: 2 + trial % 5)
      let drafters: [any Drafter] = trial % 3 == 0 ? [PromptLookup()] : [drafter]
      // A threshold of 0 lets nothing pass that is not the model's own choice.
      let rule =
        trial % 2 == 0 && options.sampling == .greedy ? AcceptanceRule.rollback(threshold: 0) : .exact
      let found = try run(
        SpeculativeSession(
          model: model, prompt: prompt, options: options, drafters: drafters, rule: rule,
          draftLength: 1 + trial % 9, choosesLength: false))
      #expect(found.generation == expected && found.text == expected.text)
      let batch = try BatchDecoder(model: model).run(prompts: [prompt, [65], prompt], options: options)
      #expect(batch?.first == expected && batch?.last == expected)
      #expect(expected.tokenIDs.starts(with: options.opening))
      accepted += found.statistics.accepted
      if trial % 4 >= 2, options.noRepeatNgram == nil, expected.stopReason == .endOfText {
        extracted.insert(expected.text)
        #expect(
          Self.document.contains(expected.text.trimmingWhitespace()) || expected.text == PromptStyle.refusal)
      }
    }
    #expect(accepted > 100 && extracted.count > 3)
  }

  @Test("Exits with a shortlist that lacks the document's tokens keep to its spans, with drafts and without")
  func exits() throws {
    var random = SplitMix64(seed: 5)
    let model = try tinyModel(seed: 4, layers: 4) { $0.weightScale = 0.1 }.ending(with: [2, 271])
    var early = 0
    for trial in 0..<60 {
      let options = try options(model, trial)
      let exits = ExitStrategy(
        policy: try ThresholdPolicy(threshold: 0.05), measure: SoftmaxConfidence(),
        heads: ExitHeads(shortlist: [2] + Array(80..<120)), groupLimit: 1 + trial % 5)
      let prompt = randomPrompt(&random, count: 1 + trial % 20)
      let expected = try model.plain(prompt, options, exits: exits)
      let drafter = ScriptedDrafter(answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: 3)
      let found = try run(
        SpeculativeSession(
          model: model, prompt: prompt, options: options, exits: exits, drafters: [drafter],
          draftLength: 1 + trial % 6, choosesLength: false))
      #expect(found.generation == expected)
      let batch = try BatchDecoder(model: model).run(
        prompts: [[65], prompt], options: options, strategy: exits)
      #expect(batch?.last == expected)
      #expect(expected.tokenIDs.starts(with: options.opening))
      early += expected.layers.count { $0 < 4 }
      if trial % 4 >= 2, options.noRepeatNgram == nil, expected.stopReason == .endOfText {
        #expect(
          Self.document.contains(expected.text.trimmingWhitespace()) || expected.text == PromptStyle.refusal)
      }
    }
    #expect(early > 50)
  }

  @Test("Whether a document answers decides alike with drafts, exits, both and prompts that stop")
  func answerability() throws {
    var random = SplitMix64(seed: 9)
    let model = try tinyModel(seed: 6, layers: 4) { $0.weightScale = 0.1 }.ending(with: [2, 271])
    let reader = model.refusing(layer: 2)
    let refusal = try model.tokenizer.encode(PromptStyle.refusal, special: .asText) + [2]
    var refused = 0
    for trial in 0..<40 {
      var options = GenerationOptions(maxTokens: 30)
      options.recordsProbabilities = true
      options.isExtractive = trial % 2 == 0
      options = try reader.options(options, for: .answer(question: "?"), document: Self.document)
      if trial % 3 == 0 { options.promptDepth = 1 + trial % 4 }
      let prompt = randomPrompt(&random, count: 1 + trial)
      let exits: ExitStrategy? =
        trial % 4 < 2
        ? nil
        : ExitStrategy(
          policy: try ThresholdPolicy(threshold: 0.05), measure: SoftmaxConfidence(),
          heads: ExitHeads(shortlist: [2] + Array(80..<120)))
      let expected = try reader.plain(prompt, options, exits: exits)
      let drafter = ScriptedDrafter(answer: expected.tokenIDs, promptCount: prompt.count, wrongEvery: 3)
      let found = try run(
        SpeculativeSession(
          model: reader, prompt: prompt, options: options, exits: exits, drafters: [drafter],
          draftLength: 1 + trial % 6, choosesLength: false))
      #expect(found.generation == expected)
      let batch = try BatchDecoder(model: reader).run(
        prompts: [[65], prompt], options: options, strategy: exits ?? FullDepth())
      #expect(batch?.last == expected)
      let isRefused = try #require(expected.answerability) < 0.5
      #expect((expected.tokenIDs == refusal) == isRefused)
      refused += isRefused ? 1 : 0
    }
    #expect((5...35).contains(refused))
  }

  @Test("What an output has to begin with is one pass, and no drafter's")
  func opening() throws {
    let model = try tinyModel(seed: 3, layers: 2)
    var options = GenerationOptions(maxTokens: 20)
    options.opening = [130, 65, 140, 77]
    for rule in [AcceptanceRule.exact, .rollback(threshold: 2)] {
      let found = try run(
        SpeculativeSession(
          model: model, prompt: [70, 71], options: options,
          drafters: [ScriptedDrafter(answer: [], promptCount: 2, wrongEvery: 2)], rule: rule,
          draftLength: 3, choosesLength: false))
      #expect(try found.generation == model.plain([70, 71], options))
      // The prompt gives the first token, and a pass the other three with one of the model's own.
      #expect(found.statistics.steps == found.generation.tokenIDs.count - 4)
      #expect(found.statistics.drafted == 0)
      #expect(found.statistics.tokensBySource == ["target": found.generation.tokenIDs.count])
    }
  }

  @Test("A rollback threshold lets no token pass that may not come next")
  func rollback() throws {
    var random = SplitMix64(seed: 6)
    let model = try tinyModel(seed: 6, layers: 2).ending(with: [2, 271])
    for trial in 0..<40 {
      var options = GenerationOptions(
        maxTokens: 30, noRepeatNgram: trial % 2 == 0 ? nil : 2, isExtractive: trial % 2 == 0)
      options = try model.options(options, for: .answer(question: "?"), document: Self.document)
      let answer = (0..<40).map { _ in Int.random(in: 60..<72, using: &random) }
      let prompt = randomPrompt(&random, count: 5)
      let drafter = ScriptedDrafter(answer: answer, promptCount: prompt.count, wrongEvery: 100)
      let found = try run(
        SpeculativeSession(
          model: model, prompt: prompt, options: options, drafters: [drafter],
          rule: .rollback(threshold: 50), draftLength: 6, choosesLength: false))
      let tokens = found.generation.tokenIDs
      let pairs = zip(tokens, tokens.dropFirst()).map { "\($0) \($1)" }
      if trial % 2 == 1 { #expect(Set(pairs).count == pairs.count) }
      if trial % 2 == 0, found.generation.stopReason == .endOfText {
        let text = found.text.trimmingWhitespace()
        #expect(Self.document.contains(text) || text == PromptStyle.refusal)
      }
    }
  }

  @Test("Beams keep to the same rules", arguments: [1, 3])
  func beams(count: Int) throws {
    var random = SplitMix64(seed: 8)
    let model = try tinyModel(seed: 8, layers: 2).ending(with: [2, 271])
    for trial in 0..<24 {
      var options = try options(model, trial)
      guard options.sampling == .greedy else { continue }
      if !options.adjustments.isEmpty {
        #expect(throws: GenerationError.self) {
          try model.generate(prompt: [65], search: BeamSearch(beams: count), options: options)
        }
        (options.adjustments, options.topProbabilities) = (LogitAdjustments(), nil)
      }
      let prompt = randomPrompt(&random, count: 6)
      let found = try #require(
        try model.generate(prompt: prompt, search: BeamSearch(beams: count), options: options))
      let isFree = options.spans == nil || options.noRepeatNgram == nil
      if count == 1, isFree { #expect(try found.tokenIDs == model.plain(prompt, options).tokenIDs) }
      #expect(found.logProbabilities.count == found.tokenIDs.count)
      #expect(found.tokenIDs.starts(with: options.opening))
      if let length = options.noRepeatNgram {
        let runs = (0...max(0, found.tokenIDs.count - length)).map { found.tokenIDs[$0...].prefix(length) }
        #expect(Set(runs).count == runs.count)
      }
      if trial % 4 >= 2, options.noRepeatNgram == nil, found.stopReason == .endOfText {
        let text = found.text.trimmingWhitespace()
        #expect(Self.document.contains(text) || text == PromptStyle.refusal)
      }
    }
  }
}
