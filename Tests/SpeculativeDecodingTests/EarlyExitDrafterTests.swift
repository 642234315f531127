import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

struct EarlyExitDrafterTests {
  /// A model whose deeper layers change little, so that its first layers are often right.
  private func model(seed: UInt64, layers: Int) throws -> LanguageModel {
    try tinyModel(seed: seed, layers: layers) { $0.weightScale = 0.08 }
  }

  private func strategy(
    _ model: LanguageModel, layer: Int, heads: ExitHeads? = nil, fallback: Double = 0, length: Int
  ) throws -> SpeculationStrategy {
    try SpeculationStrategy(
      [.earlyExit(layer: layer, heads: heads)], for: model, rule: .exact, fallback: fallback,
      draftLength: length)
  }

  @Test("Drafting with the first layers and verifying with the others gives the tokens of plain decoding")
  func exactness() throws {
    var random = SplitMix64(seed: 17)
    var accepted = 0
    var rollbacks = 0
    for seed in 1...4 as ClosedRange<UInt64> {
      let layers = 2 + Int(seed)
      let base = try model(seed: seed, layers: layers)
      let found = try expectExact(base, cases: 300, random: &random) {
        number, model, prompt, options, random in
        try strategy(
          model, layer: Int.random(in: 1..<layers, using: &random), fallback: number % 3 == 0 ? 0.02 : 0,
          length: 1 + number % 8
        ).makeSession(prompt: prompt, options: options, choosesLength: number % 5 == 0)
      }
      accepted += found.accepted
      rollbacks += found.rollbacks
    }
    // The test says nothing unless drafts were taken, and others were not.
    #expect(accepted > 500)
    #expect(rollbacks > 500)
  }

  @Test("No layer is run twice for a token that stays")
  func layersAreRunOnce() throws {
    // Every layer agrees, so every draft is right.
    let decoder = ScriptedModel { history, _ in ScriptedModel.logits(favouring: 70 + history.count % 40) }
    let tokenizer = try tinyModel(seed: 1) { $0.vocabularySize = 320 }.tokenizer
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: tokenizer, promptTemplate: nil, endTokens: [])
    let before = decoder.batches.count
    let found = try run(
      strategy(model, layer: 2, length: 3).makeSession(
        prompt: [70, 71], options: GenerationOptions(maxTokens: 9), choosesLength: false))
    // The prompt; then twice three drafts and the last one's own row by single rows, and four rows together.
    #expect(Array(decoder.batches[before...]) == [2, 1, 1, 1, 1, 4, 1, 1, 1, 1, 4])
    #expect(found.statistics.accepted == 6)
    #expect(found.statistics.tokensBySource == ["draft": 6, "target": 3])
  }

  @Test("An unsure exit head drafts nothing, and the row goes on from where it is")
  func fallback() throws {
    let decoder = ScriptedModel { _, layer in
      layer < 4 ? [Float](repeating: 0, count: 320) : ScriptedModel.logits(favouring: 90)
    }
    let tokenizer = try tinyModel(seed: 1) { $0.vocabularySize = 320 }.tokenizer
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: tokenizer, promptTemplate: nil, endTokens: [])
    let found = try run(
      strategy(model, layer: 1, fallback: 0.5, length: 5).makeSession(
        prompt: [70], options: GenerationOptions(maxTokens: 4), choosesLength: false))
    #expect(found.generation.tokenIDs == [90, 90, 90, 90])
    #expect(found.statistics.drafted == 0)
    // After the prompt, each token passes the first layer and the others once each but the last, which has no room.
    #expect(decoder.batches == [1, 1, 1, 1, 1, 1])
  }

  @Test("A fitted head drafts what its map says")
  func fittedHead() throws {
    let model = try model(seed: 9, layers: 3)
    let size = model.decoder.configuration.hiddenSize
    // A map to the negative state: it prefers other tokens than the model's own head.
    var weights = [Float](repeating: 0, count: size * size)
    for i in 0..<size { weights[i * size + i] = -1 }
    let heads = ExitHeads(maps: [1: try ExitHeads.LayerMap(weights: weights, hiddenSize: size)])
    var counts: [Int] = []
    for heads in [nil, heads] {
      var accepted = 0
      var random = SplitMix64(seed: 2)
      for _ in 0..<30 {
        let prompt = randomPrompt(&random, count: 20)
        let options = GenerationOptions(maxTokens: 20)
        let found = try run(
          strategy(model, layer: 1, heads: heads, length: 3).makeSession(
            prompt: prompt, options: options, choosesLength: false))
        #expect(try found.generation == model.plain(prompt, options))
        accepted += found.statistics.accepted
      }
      counts.append(accepted)
    }
    #expect(counts[1] < counts[0] / 2)
  }

  @Test("Layers that the model lacks, and heads of another model, are refused")
  func refusals() throws {
    let model = try model(seed: 1, layers: 3)
    for layer in [0, 3, -1] {
      #expect(throws: SpeculativeDecodingError.self) { try strategy(model, layer: layer, length: 4) }
    }
    let other = ExitHeads(maps: [1: try ExitHeads.LayerMap(weights: [1], hiddenSize: 1)])
    #expect(throws: EarlyExitError.self) { try strategy(model, layer: 1, heads: other, length: 4) }
  }
}
