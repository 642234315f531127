import Checkpoints
import Testing
import Transformers

/// Families and rotary scalings against what Hugging Face transformers computes for tiny random models.
@Suite struct FamilyTests {
  static let names = [
    "llama_bias", "llama_yarn", "llama_dynamic", "mistral", "qwen2_window", "qwen3", "smollm3", "phi3",
    "gemma2", "olmo2", "granite",
  ]
  /// Those that GGUF files can say; Tests/Scripts/make_gguf_fixtures.py.
  static let ggufNames = [
    "llama_bias", "llama_yarn", "qwen3", "smollm3", "phi3", "gemma2", "olmo2", "granite",
  ]

  private struct Expected: Decodable {
    struct Case: Decodable {
      var tokens: [Int]
      var rows: [Int]
      var logits: [[Float]]
    }
    var cases: [Case]
    var greedy: [Int]
  }

  @Test(arguments: names, [ComputePath.float32, .sixteenBit, .quantized])
  func logitsEqualThoseOfTransformers(_ name: String, _ compute: ComputePath) throws {
    let expected = try FixtureModels.expected(Expected.self, name)
    let model = try FixtureModels.model(name, compute: compute, threads: 2)
    for example in expected.cases {
      let logits = try TransformerTests.logits(model, example.tokens)
      for (row, reference) in zip(example.rows, example.logits) {
        // Rows of 32 are one block of 8 bits, so that more is rounded than in models of true size.
        FixtureModels.expect(
          logits[row], equal: reference, compute: compute, "\(name), row \(row)", rounding: 0.12)
      }
    }
  }

  @Test(arguments: ggufNames)
  func logitsOfAGGUFFileAreThoseOfTheDirectory(_ name: String) throws {
    let expected = try FixtureModels.expected(Expected.self, name)
    let checkpoint = try Checkpoint.open(FixtureModels.path(name) + "/model.gguf")
    let directory = try Checkpoint.open(FixtureModels.path(name))
    #expect(checkpoint.configuration.family == directory.configuration.family)
    let model = try Transformer(checkpoint: checkpoint, compute: .float32, threads: 1)
    for example in expected.cases {
      let logits = try TransformerTests.logits(model, example.tokens)
      for (row, reference) in zip(example.rows, example.logits) {
        FixtureModels.expect(logits[row], equal: reference, compute: .float32, "\(name), row \(row)")
      }
    }
  }

  @Test(arguments: names)
  func greedyTokensAreThoseOfTransformers(_ name: String) throws {
    let expected = try FixtureModels.expected(Expected.self, name).greedy
    let model = try FixtureModels.model(name)
    for end in 6..<expected.count {
      let logits = try TransformerTests.logits(model, Array(expected[..<end]))
      let best = try #require(logits.last).enumerated().max {
        ($0.element, -$0.offset) < ($1.element, -$1.offset)
      }
      #expect(best?.offset == expected[end])
    }
  }

  @Test(arguments: names)
  func tokenByTokenGivesTheLogitsOfOneBatch(_ name: String) throws {
    let tokens = try FixtureModels.expected(Expected.self, name).cases[1].tokens
    let model = try FixtureModels.model(name, compute: .quantized, threads: 2)
    let together = try TransformerTests.logits(model, tokens)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: 1)
    let cache = try model.makeCache(capacity: tokens.count)
    var logits: [Float] = []
    for (position, token) in tokens.enumerated() {
      try model.embed([token], into: states)
      try model.advance(
        states, rows: [BatchRow(cache: cache, position: position)],
        layers: 0..<model.configuration.layerCount)
      try model.logits(of: states, rows: 0..<1, into: &logits)
      #expect(logits == together[position])
    }
  }
}
