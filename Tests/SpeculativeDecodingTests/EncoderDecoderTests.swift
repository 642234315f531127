import Checkpoints
import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// Drafting for an encoder–decoder, whose history is its output alone.
struct EncoderDecoderTests {
  private func tiny(_ seed: UInt64, layers: Int) throws -> LanguageModel {
    let base = try tinyModel(seed: 1)
    var tiny = TinyT5()
    tiny.layerCount = layers
    tiny.seed = seed
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    return LanguageModel(
      name: "tiny \(seed)", decoder: try Transformer(checkpoint: checkpoint, threads: 1),
      tokenizer: base.tokenizer, promptTemplate: nil, endTokens: [2], sourceEnd: 2)
  }

  @Test("Look-up in the source and drafts of a small model give the tokens of plain decoding")
  func draftsAreExact() throws {
    var random = SplitMix64(seed: 7)
    var accepted = 0
    let small = try tiny(9, layers: 1)
    for seed in 1...3 as ClosedRange<UInt64> {
      let model = try tiny(seed, layers: 3)
      for trial in 0..<40 {
        let prompt = randomPrompt(&random, count: Int.random(in: 1...60, using: &random))
        let options = GenerationOptions(maxTokens: Int.random(in: 1...40, using: &random))
        let expected = try model.plain(prompt, options)
        let lookup = try run(
          SpeculationStrategy([.promptLookup], for: model, rule: .exact, draftLength: 1 + trial % 12)
            .makeSession(prompt: prompt, options: options))
        #expect(lookup.generation == expected)
        accepted += lookup.statistics.accepted
        let drafted = try run(
          SpeculationStrategy(
            [trial % 3 == 0 ? .earlyExit(layer: 1) : .model(trial % 3 == 1 ? small : model)], for: model,
            rule: .exact, fallback: 0, draftLength: 4
          ).makeSession(prompt: prompt, options: options, choosesLength: false))
        #expect(drafted.generation == expected)
        accepted += drafted.statistics.accepted
      }
    }
    #expect(accepted > 200)
  }

  @Test("A decoder alone cannot draft for an encoder-decoder")
  func kindsAreToldApart() throws {
    let model = try tiny(1, layers: 3)
    let decoder = try tinyModel(seed: 1).ending(with: [2])
    #expect {
      try model.checkDraft(decoder)
    } throws: {
      "\($0)".contains("an encoder-decoder")
    }
  }
}
