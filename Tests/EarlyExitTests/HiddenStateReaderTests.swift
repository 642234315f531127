import Checkpoints
import EarlyExit
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct HiddenStateReaderTests {
  private static func model(_ directory: TemporaryDirectory) throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.layerCount = 3
    tiny.vocabularySize = 320
    tiny.contextLength = 400
    let decoder = try Transformer(
      checkpoint: Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build())), threads: 1)
    return LanguageModel(
      name: "tiny", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [])
  }

  @Test func `states of a long text are those of its tokens one by one`() throws {
    let directory = try TemporaryDirectory()
    let model = try Self.model(directory)
    // More tokens than pass the layers together.
    let text = (0..<300).map { ($0 * 31 + 7) % 256 }
    let reader = try HiddenStateReader(model, layers: [2, 1, 2])
    #expect(reader.layers == [1, 2])
    var found: [Int: [Float]] = [:]
    try reader.read(text) { found[$0, default: []] += $1 }

    let decoder = model.decoder
    let size = decoder.configuration.hiddenSize
    let states = HiddenStates(hiddenSize: size, capacity: 1)
    let cache = try decoder.makeCache(capacity: text.count)
    var expected: [Int: [Float]] = [:]
    for (position, token) in text.enumerated() {
      try decoder.embed([token], into: states)
      for layer in [1, 2] {
        try decoder.advance(
          states, rows: [BatchRow(cache: cache, position: position)], layers: layer - 1..<layer)
        expected[layer, default: []] += states[0]
      }
    }
    #expect(reader.hiddenSize == size && found.keys.sorted() == [1, 2])
    for layer in [1, 2] {
      let (mine, theirs) = (found[layer] ?? [], expected[layer] ?? [])
      #expect(mine.count == text.count * size && mine.count == theirs.count)
      let largest = zip(mine, theirs).map { abs($0 - $1) }.max() ?? .infinity
      #expect(largest < 1e-3, "layer \(layer) differs by \(largest)")
    }
  }

  @Test func `the last layer is the usual one, and others are refused`() throws {
    let directory = try TemporaryDirectory()
    let model = try Self.model(directory)
    #expect(try HiddenStateReader(model).layers == [3])
    for layer in [0, 4] {
      let error = #expect(throws: EarlyExitError.self) { try HiddenStateReader(model, layers: [1, layer]) }
      #expect("\(error, default: "")" == "layers must be in 1...3, but is \(layer)")
    }
    let checkpoint = try Checkpoint.open(directory.write("t5.gguf", TinyT5().gguf().build()))
    let pair = LanguageModel(
      name: "t5", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: nil, endTokens: [2], sourceEnd: 2)
    let error = #expect(throws: EarlyExitError.self) { try HiddenStateReader(pair) }
    #expect("\(error, default: "")".contains("a decoder alone"))
  }
}
