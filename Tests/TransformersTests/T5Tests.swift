import Checkpoints
import Foundation
import TestSupport
import Testing
import Transformers

/// T5: its relative positions, its encoder, and what it refuses.
struct T5Tests {
  struct Expected: Decodable {
    struct Case: Decodable {
      struct Beams: Decodable {
        var beams: Int
        var ids: [Int]
      }
      var source: [Int]
      var target: [Int]
      var rows: [Int]
      var logits: [[Float]]
      var beams: [Beams]
    }
    var cases: [Case]
  }

  /// Logits of every position of `target` after `source`.
  static func logits(_ model: Transformer, source: [Int], target: [Int]) throws -> [[Float]] {
    let cache = try model.makeCache(capacity: target.count)
    try model.encode(source, into: cache)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: target.count)
    try model.embed(target, into: states)
    try model.advance(
      states, rows: target.indices.map { BatchRow(cache: cache, position: $0) },
      layers: 0..<model.configuration.layerCount)
    var logits: [Float] = []
    try model.logits(of: states, rows: 0..<target.count, into: &logits)
    let size = model.configuration.vocabularySize
    return target.indices.map { Array(logits[$0 * size..<($0 + 1) * size]) }
  }

  @Test(arguments: ["t5", "t5_base", "t5_1_1"])
  func logitsEqualThoseOfTransformers(_ name: String) throws {
    let model = try FixtureModels.model(name, threads: 2)
    for item in try FixtureModels.expected(Expected.self, name).cases {
      let found = try Self.logits(model, source: item.source, target: item.target)
      for (row, reference) in zip(item.rows, item.logits) {
        FixtureModels.expect(
          found[row], equal: reference, compute: .float32, "\(item.source.count) tokens, row \(row)")
      }
    }
  }

  /// With small weights: where scores are large, and T5 does not scale them, rounding decides between two keys.
  @Test(arguments: [false, true])
  func theQuantizedPathIsCloseToTheReferencePath(isGated: Bool) throws {
    var tiny = TinyT5()
    tiny.isGated = isGated
    tiny.weightScale = 0.1
    let directory = try TemporaryDirectory()
    try tiny.write(to: directory)
    let checkpoint = try Checkpoint.open(directory.path)
    let source = (0..<70).map { ($0 * 37 + 5) % 272 }
    let target = [0] + (0..<20).map { ($0 * 53 + 7) % 272 }
    func logits(_ compute: ComputePath) throws -> [[Float]] {
      try Self.logits(
        Transformer(checkpoint: checkpoint, compute: compute, threads: 2), source: source, target: target)
    }
    let (exact, rounded, coarse) = try (logits(.float32), logits(.quantized), logits(.fourBit))
    var errors = (rounded: Float(0), coarse: Float(0))
    for ((found, reference), four) in zip(zip(rounded, exact), coarse) {
      FixtureModels.expect(found, equal: reference, compute: .quantized, "one of \(target.count) tokens")
      FixtureModels.expect(four, equal: reference, compute: .fourBit, "one of \(target.count) tokens")
      errors.rounded += zip(found, reference).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
      errors.coarse += zip(four, reference).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
    #expect(errors.coarse > 4 * errors.rounded)
  }

  @Test func fourBitsReadHalfTheBytesOfTheLayers() throws {
    let rounded = try FixtureModels.model("t5_base", compute: .quantized)
    let coarse = try FixtureModels.model("t5_base", compute: .fourBit)
    // 4 bits, scale and minimum against 8 bits and scale: 20 bytes for 34.
    #expect(abs(Double(coarse.bytesPerLayer) / Double(rounded.bytesPerLayer) - 20 / 34.0) < 0.005)
    #expect(coarse.bytesOfUnembedding == rounded.bytesOfUnembedding)
  }

  @Test func fourBitsAreRefusedWhereNothingIsToBeRounded() throws {
    let directory = try TemporaryDirectory()
    var tiny = TinyDecoder()
    tiny.format = .q4_1
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    #expect(
      throws: DecoderError.resources(
        "\(checkpoint.path): its layers have no weights of 16 or 32 bits that 4-bit could round")
    ) { try Transformer(checkpoint: checkpoint, compute: .fourBit, threads: 1) }
  }

  @Test(arguments: ["t5", "t5_base", "t5_1_1"])
  func tokenByTokenGivesTheLogitsOfOneBatch(_ name: String) throws {
    let model = try FixtureModels.model(name, compute: .quantized, threads: 2)
    let cases = try FixtureModels.expected(Expected.self, name).cases
    let caches = try cases.map { item in
      let cache = try model.makeCache(capacity: item.target.count)
      try model.encode(item.source, into: cache)
      return cache
    }
    let together = try cases.map { try Self.logits(model, source: $0.source, target: $0.target) }
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: cases.count)
    var logits: [Float] = []
    for position in cases[0].target.indices {
      // Sequences of different sources in one batch.
      try model.embed(cases.map { $0.target[position] }, into: states)
      try model.advance(
        states, rows: caches.map { BatchRow(cache: $0, position: position) },
        layers: 0..<model.configuration.layerCount)
      try model.logits(of: states, rows: 0..<cases.count, into: &logits)
      #expect(logits == together.flatMap { $0[position] })
    }
  }

  @Test(arguments: ["t5", "t5_base", "t5_1_1"])
  func greedyOutputsEqualThoseOfTransformers(_ name: String) throws {
    let model = try FixtureModels.model(name)
    for item in try FixtureModels.expected(Expected.self, name).cases {
      var output: [Int] = []
      while output.count < 20, output.last != 1 {
        let row = try Self.logits(model, source: item.source, target: [0] + output)[output.count]
        output.append(row.withUnsafeBufferPointer { Logits.argmax($0) })
      }
      #expect(output == item.beams[0].ids)
    }
  }

  @Test(arguments: [false, true])
  func bothFileFormatsGiveTheSameLogits(isGated: Bool) throws {
    let directory = try TemporaryDirectory()
    var tiny = TinyT5()
    tiny.isGated = isGated
    let gguf = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    try tiny.write(to: directory)
    let folder = try Checkpoint.open(directory.path)
    var renamed = folder.configuration
    renamed.name = gguf.configuration.name
    #expect(renamed == gguf.configuration)
    let source = [5, 17, 3, 200, 264, 8, 8, 91, 1]
    let target = [0, 4, 9, 130]
    for compute in [ComputePath.quantized, .sixteenBit, .float32] {
      let logits = try [gguf, folder].map {
        try Self.logits(
          Transformer(checkpoint: $0, compute: compute, threads: 1), source: source, target: target)
      }
      #expect(logits[0] == logits[1])
    }
  }

  @Test func theOutputFollowsTheSource() throws {
    let model = try FixtureModels.model("t5_1_1")
    let target = [0, 5, 9]
    let one = try Self.logits(model, source: [5, 6, 7, 1], target: target)
    #expect(try Self.logits(model, source: [5, 6, 7, 1], target: target) == one)
    #expect(try Self.logits(model, source: [5, 7, 6, 1], target: target) != one)
  }

  @Test func sourcesThatCannotBeReadAreRefused() throws {
    let model = try FixtureModels.model("t5")
    let cache = try model.makeCache(capacity: 8)
    #expect(throws: DecoderError.unusableSource("the text for the encoder is empty")) {
      try model.encode([], into: cache)
    }
    #expect(throws: DecoderError.contextExceeded(needed: 65, capacity: 64)) {
      try model.encode(Array(repeating: 5, count: 65), into: cache)
    }
    #expect(throws: DecoderError.tokenOutOfRange(token: 72, vocabularySize: 72)) {
      try model.encode([5, 72], into: cache)
    }
    let states = HiddenStates(hiddenSize: 32, capacity: 1)
    try model.embed([0], into: states)
    #expect(throws: DecoderError.noSource) {
      try model.advance(states, rows: [BatchRow(cache: cache, position: 0)], layers: 0..<3)
    }
    let alone = try TransformerTests.open(TinyDecoder(), in: TemporaryDirectory())
    let decoder = try Transformer(checkpoint: alone, threads: 1)
    #expect(throws: DecoderError.self) { try decoder.encode([5], into: decoder.makeCache(capacity: 8)) }
    #expect(decoder.sourceEncoder == nil)
    #expect(model.sourceEncoder === model)
  }

  @Test(arguments: [
    (#""d_kv": 16"#, #""d_kv": 17"#, "attn_q"), (#""num_layers": 2"#, #""num_layers": 3"#, "block.2"),
    (#""num_layers": 2"#, #""num_layers": 1"#, "one of another kind"),
    (#""num_layers": 2"#, #""num_layers": -1"#, "1 to 1024"),
    (#""decoder_start_token_id": 0"#, #""decoder_start_token_id": 272"#, "decoder start token"),
    (#""relative_attention_num_buckets": 32"#, #""relative_attention_num_buckets": 33"#, "buckets"),
    (#""relative_attention_num_buckets": 32"#, #""relative_attention_num_buckets": 16"#, "32 × 4"),
    (#""n_positions": 96"#, #""n_positions": 1e9"#, "n_positions"),
    (#""gated-gelu""#, #""gated-swoosh""#, "gated-swoosh"),
    (#""gated-gelu""#, #""relu""#, "wi_0"), (#""d_ff": 96"#, #""d_ff": 9.5"#, "an integer"),
  ])
  func configurationsThatDoNotFitAreRefused(_ original: String, _ edited: String, _ text: String) throws {
    let directory = try TemporaryDirectory()
    let tiny = TinyT5()
    try tiny.write(to: directory)
    _ = try Checkpoint.open(directory.path)
    let config = tiny.configJSON().replacingOccurrences(of: original, with: edited)
    #expect(config != tiny.configJSON())
    try directory.write("config.json", config)
    #expect {
      try Checkpoint.open(directory.path)
    } throws: {
      "\($0)".contains(text)
        || "\($0)".contains(text.replacingOccurrences(of: "attn_", with: "SelfAttention."))
    }
  }
}
