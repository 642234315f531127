import Checkpoints
import TestSupport
import Testing
import Transformers

/// Gemma 3: its norms, its windows, its two kinds of rotary angles.
struct Gemma3Tests {
  private struct Expected: Decodable {
    var tokens: [Int]
    var rows: [Int]
    var logits: [[Float]]
  }

  @Test(arguments: [ComputePath.quantized, .sixteenBit, .float32])
  func logitsEqualThoseOfTransformers(_ compute: ComputePath) throws {
    let expected = try FixtureModels.expected(Expected.self, "gemma3")
    let model = try FixtureModels.model("gemma3", compute: compute, threads: 2)
    let logits = try TransformerTests.logits(model, expected.tokens)
    for (row, reference) in zip(expected.rows, expected.logits) {
      FixtureModels.expect(logits[row], equal: reference, compute: compute, "row \(row)")
    }
  }

  @Test func tokenByTokenGivesTheLogitsOfOneBatch() throws {
    let expected = try FixtureModels.expected(Expected.self, "gemma3")
    let model = try FixtureModels.model("gemma3", compute: .quantized, threads: 2)
    let together = try TransformerTests.logits(model, expected.tokens)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: 1)
    let cache = try model.makeCache(capacity: expected.tokens.count)
    var logits: [Float] = []
    for (position, token) in expected.tokens.enumerated() {
      try model.embed([token], into: states)
      try model.advance(
        states, rows: [BatchRow(cache: cache, position: position)],
        layers: 0..<model.configuration.layerCount)
      try model.logits(of: states, rows: 0..<1, into: &logits)
      #expect(logits == together[position])
    }
  }

  @Test func bothFileFormatsGiveTheSameLogits() throws {
    let directory = try TemporaryDirectory()
    var tiny = TinyDecoder()
    tiny.family = .gemma3
    tiny.layerCount = 7
    let gguf = try TransformerTests.open(tiny, in: directory)
    #expect(gguf.configuration.slidingWindow?.layers == [0, 1, 2, 3, 4, 6])
    try tiny.writeHuggingFace(to: directory)
    let folder = try Checkpoint.open(directory.path)
    #expect(folder.configuration.slidingWindow == gguf.configuration.slidingWindow)
    let tokens = TransformerTests.tokens
    let first = try TransformerTests.logits(
      Transformer(checkpoint: gguf, compute: .float32, threads: 1), tokens)
    let second = try TransformerTests.logits(
      Transformer(checkpoint: folder, compute: .float32, threads: 1), tokens)
    for (a, b) in zip(first.joined(), second.joined()) { #expect(abs(a - b) < 1e-3) }
  }
}
