import Checkpoints
import Foundation
import TensorKernels
import TestSupport
import Testing
import Transformers

/// Tiny random models against a plain double-precision forward pass, and what every caller relies on.
struct TransformerTests {
  static let tokens = [5, 17, 3, 200, 264, 8, 8, 91, 130, 2, 55, 71, 13, 40, 99, 180, 31, 7, 250, 66]

  /// One decoder of each kind: families, ties, grouping, formats, head sizes.
  static let decoders: [TinyDecoder] = {
    var result: [TinyDecoder] = []
    var plain = TinyDecoder()
    plain.weightScale = 0.3
    result.append(plain)
    var qwen = plain
    qwen.family = .qwen2
    qwen.hasTiedEmbedding = false
    result.append(qwen)
    var grouped = plain
    grouped.headCount = 6
    grouped.keyValueHeadCount = 2
    grouped.hiddenSize = 96
    grouped.vocabularySize = 300
    result.append(grouped)
    var alone = plain
    alone.headCount = 5
    alone.keyValueHeadCount = 5
    alone.headSize = 12
    alone.hiddenSize = 64
    result.append(alone)
    for format in [BlockFormat.q4_0, .q4_1, .q5_0, .q5_1, .q8_0, .bf16, .f16] {
      var quantized = plain
      quantized.format = format
      quantized.seed = 7
      result.append(quantized)
    }
    for format in [BlockFormat.q4_K, .q5_K, .q6_K] {
      var quantized = plain
      quantized.format = format
      quantized.hiddenSize = 256
      quantized.headCount = 8
      quantized.headSize = 32
      quantized.keyValueHeadCount = 4
      quantized.feedForwardSize = 256
      quantized.layerCount = 1
      quantized.weightScale = 0.1
      result.append(quantized)
    }
    return result
  }()

  static func open(_ decoder: TinyDecoder, in directory: TemporaryDirectory) throws -> Checkpoint {
    let path = directory.path + "/tiny.gguf"
    try Data(decoder.gguf().build()).write(to: URL(fileURLWithPath: path))
    return try Checkpoint.open(path)
  }

  /// Logits of every position, computed as one batch.
  static func logits(_ model: Transformer, _ tokens: [Int]) throws -> [[Float]] {
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: tokens.count)
    let cache = try model.makeCache(capacity: tokens.count)
    try model.embed(tokens, into: states)
    try model.advance(
      states, rows: tokens.indices.map { BatchRow(cache: cache, position: $0) },
      layers: 0..<model.configuration.layerCount)
    var logits: [Float] = []
    try model.logits(of: states, rows: 0..<tokens.count, into: &logits)
    let size = model.configuration.vocabularySize
    return tokens.indices.map { Array(logits[$0 * size..<($0 + 1) * size]) }
  }

  @Test(arguments: decoders.indices)
  func float32PathAgreesWithAPlainForwardPass(_ index: Int) throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(Self.decoders[index], in: directory)
    let expected = try PlainDecoder(checkpoint).run(Self.tokens)
    let model = try Transformer(checkpoint: checkpoint, compute: .float32, threads: 2)
    let found = try Self.logits(model, Self.tokens)
    let scale = expected.logits.joined().map(abs).max() ?? 1
    for (row, expectedRow) in expected.logits.enumerated() {
      for (token, value) in expectedRow.enumerated() {
        #expect(abs(Double(found[row][token]) - value) < 1e-4 * max(scale, 1))
      }
    }
  }

  @Test(arguments: decoders.indices)
  func quantizedPathIsCloseToAPlainForwardPass(_ index: Int) throws {
    // Eight-bit activations: the error of the logits is a small part of their spread.
    try Self.expectCloseness(Self.decoders[index], compute: .quantized, part: 0.05)
  }

  @Test(arguments: decoders.filter(\.format.isUnquantized).indices)
  func sixteenBitPathIsCloserToAPlainForwardPass(_ index: Int) throws {
    let decoder = Self.decoders.filter(\.format.isUnquantized)[index]
    // Nothing is rounded but keys and values, to half precision, and weights of 32 bits, to eight significant ones.
    try Self.expectCloseness(decoder, compute: .sixteenBit, part: decoder.format == .f32 ? 0.01 : 0.001)
  }

  private static func expectCloseness(_ decoder: TinyDecoder, compute: ComputePath, part: Double) throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(decoder, in: directory)
    let expected = try PlainDecoder(checkpoint).run(Self.tokens)
    let model = try Transformer(checkpoint: checkpoint, compute: compute, threads: 2)
    let found = try Self.logits(model, Self.tokens)
    var error = 0.0
    var spread = 0.0
    for (row, expectedRow) in expected.logits.enumerated() {
      for (token, value) in expectedRow.enumerated() {
        error += pow(Double(found[row][token]) - value, 2)
        spread += value * value
      }
    }
    #expect((error / spread).squareRoot() < part)
  }

  @Test func sixteenBitPathReadsTwiceTheBytesOfUnquantisedLayersAndRefusesOthers() throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(TinyDecoder(), in: directory)
    let model = try Transformer(checkpoint: checkpoint, compute: .sixteenBit, threads: 1)
    let eight = try Transformer(checkpoint: checkpoint, threads: 1)
    // 16 bits against 8 and a scale of 16 for 32 weights, each row block of these filled up to 64 bytes.
    #expect(abs(Double(model.bytesPerLayer) / Double(eight.bytesPerLayer) - 64 / 34.0) < 0.02)
    #expect(model.cacheBits == 16 && model.invariantBatchLimit == eight.invariantBatchLimit)
    var quantized = TinyDecoder()
    quantized.format = .q8_0
    let other = try TemporaryDirectory()
    let refused = try Self.open(quantized, in: other)
    #expect(
      throws: DecoderError.resources(
        "\(refused.path): its layers have no weights of 16 or 32 bits that 16-bit could keep")
    ) { try Transformer(checkpoint: refused, compute: .sixteenBit, threads: 1) }
  }

  @Test func `a timeline has every part of the passes, and changes nothing`() throws {
    let directory = try TemporaryDirectory()
    let model = try Transformer(checkpoint: try Self.open(Self.decoders[0], in: directory), threads: 2)
    let expected = try Self.logits(model, Self.tokens)
    var found: [[Float]] = []
    let start = ContinuousClock.now
    let timeline = try model.timeline { found = try Self.logits(model, Self.tokens) }
    let elapsed = ContinuousClock.now - start
    #expect(found == expected)
    #expect(PassTimeline.Part.allCases.allSatisfy { timeline.seconds[$0] ?? 0 > 0 })
    // Parts do not overlap, and waiting is in them.
    let sum = timeline.seconds.values.reduce(0, +)
    #expect(.seconds(sum) <= elapsed)
    #expect(timeline.waitingSeconds <= sum)
    // Four products, attention and three times rows of each layer at least are shared out, and the unembedding.
    let layers = model.configuration.layerCount
    #expect(timeline.forkCount >= 5 * layers && timeline.forkCount <= 16 * layers + 2)
    // Nobody is on the clock afterwards, nor where the work fails.
    struct Failure: Error {}
    #expect(throws: Failure.self) { try model.timeline { throw Failure() } }
    #expect(model.timeline {} == PassTimeline())
    let alone = try Transformer(checkpoint: try Self.open(Self.decoders[0], in: directory), threads: 1)
    #expect(try alone.timeline { _ = try Self.logits(alone, Self.tokens) }.forkCount == 0)
  }

  @Test func rotaryScalingsAgreeWithAPlainForwardPass() throws {
    let directory = try TemporaryDirectory()
    try TinyDecoder().writeHuggingFace(to: directory)
    let path = directory.path + "/config.json"
    let original = try String(contentsOfFile: path, encoding: .utf8)
    var seen: [[Float]] = []
    for scaling in [
      #""rope_scaling": null"#,
      #""rope_scaling": {"rope_type": "linear", "factor": 4.0}"#,
      #""rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}"#,
    ] {
      guard let object = try JSONSerialization.jsonObject(with: Data(original.utf8)) as? [String: Any],
        let extra = try JSONSerialization.jsonObject(with: Data("{\(scaling)}".utf8)) as? [String: Any]
      else {
        Issue.record("config.json is no object")
        return
      }
      let merged = object.merging(extra) { $1 }
      try JSONSerialization.data(withJSONObject: merged).write(to: URL(fileURLWithPath: path))
      let checkpoint = try Checkpoint.open(directory.path)
      let expected = try PlainDecoder(checkpoint).run(Self.tokens)
      let found = try Self.logits(
        Transformer(checkpoint: checkpoint, compute: .float32, threads: 1), Self.tokens)
      for (value, logit) in zip(expected.logits[19], found[19]) { #expect(abs(Double(logit) - value) < 1e-3) }
      seen.append(found[19])
    }
    #expect(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2])
  }

  @Test func bothFileFormatsGiveTheSameLogits() throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(TinyDecoder(), in: directory)
    let other = try TemporaryDirectory()
    try TinyDecoder().writeHuggingFace(to: other)
    let first = try Self.logits(
      Transformer(checkpoint: checkpoint, compute: .float32, threads: 1), Self.tokens)
    let second = try Self.logits(
      Transformer(checkpoint: Checkpoint.open(other.path), compute: .float32, threads: 1), Self.tokens)
    for (a, b) in zip(first.joined(), second.joined()) { #expect(abs(a - b) < 1e-4) }
  }

  @Test(
    arguments: decoders.indices,
    [
      (1, 16, ComputePath.quantized), (2, 16, .quantized), (3, 16, .quantized), (1, 8, .quantized),
      (2, 8, .quantized), (3, 8, .quantized), (2, 16, .sixteenBit), (3, 8, .sixteenBit),
    ])
  func aTokensLogitsDoNotDependOnItsBatchOrTheThreads(
    _ index: Int, _ setting: (threads: Int, bits: Int, compute: ComputePath)
  ) throws {
    guard setting.compute == .quantized || Self.decoders[index].format.isUnquantized else { return }
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(Self.decoders[index], in: directory)
    func open(threads: Int) throws -> Transformer {
      try Transformer(
        checkpoint: checkpoint, compute: setting.compute, cacheBits: setting.bits, threads: threads)
    }
    let (model, single) = try (open(threads: setting.threads), open(threads: 1))
    let layers = 0..<model.configuration.layerCount
    let size = model.configuration.vocabularySize
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: 64)

    // One sequence, a token at a time, on one thread.
    var expected: [[Float]] = []
    let cache = try single.makeCache(capacity: 32)
    for (position, token) in Self.tokens.enumerated() {
      try single.embed([token], into: states)
      try single.advance(states, rows: [BatchRow(cache: cache, position: position)], layers: layers)
      var logits: [Float] = []
      try single.logits(of: states, rows: 0..<1, into: &logits)
      expected.append(logits)
    }
    // The same in every batch size.
    for batch in 1...Self.tokens.count {
      let cache = try model.makeCache(capacity: 32)
      for start in stride(from: 0, to: Self.tokens.count, by: batch) {
        let range = start..<min(start + batch, Self.tokens.count)
        try model.embed(Array(Self.tokens[range]), into: states)
        try model.advance(states, rows: range.map { BatchRow(cache: cache, position: $0) }, layers: layers)
        var logits: [Float] = []
        try model.logits(of: states, rows: 0..<range.count, into: &logits)
        for (row, position) in range.enumerated() {
          #expect(
            Array(logits[row * size..<(row + 1) * size]) == expected[position],
            "batch of \(batch), position \(position)")
        }
      }
    }
    // The same beside other sequences, each at a position of its own, layer by layer.
    let caches = try (0..<4).map { _ in try model.makeCache(capacity: 32) }
    for (index, cache) in caches.enumerated() where index > 0 {
      try model.embed(Array(Self.tokens[0..<index * 3]), into: states)
      try model.advance(
        states, rows: (0..<index * 3).map { BatchRow(cache: cache, position: $0) }, layers: layers)
    }
    let mixed = caches.enumerated().map { ($0.element, $0.offset * 3) }
    try model.embed(mixed.map { Self.tokens[$0.1] }, into: states)
    for layer in layers {
      try model.advance(
        states, rows: mixed.map { BatchRow(cache: $0.0, position: $0.1) }, layers: layer..<layer + 1)
    }
    var logits: [Float] = []
    try model.logits(of: states, rows: 0..<4, into: &logits)
    for (row, pair) in mixed.enumerated() {
      #expect(Array(logits[row * size..<(row + 1) * size]) == expected[pair.1])
    }
  }

  @Test(arguments: decoders.indices)
  func eightBitKeysAndValuesAreCloseAndTakeHalf(_ index: Int) throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(Self.decoders[index], in: directory)
    let usual = try Transformer(checkpoint: checkpoint, threads: 2)
    let small = try Transformer(checkpoint: checkpoint, cacheBits: 8, threads: 2)
    #expect((usual.cacheBits, small.cacheBits) == (16, 8))
    let (expected, found) = try (Self.logits(usual, Self.tokens), Self.logits(small, Self.tokens))
    #expect(found != expected)
    let (error, spread) = zip(found.joined(), expected.joined()).reduce((0.0, 0.0)) {
      ($0.0 + pow(Double($1.0 - $1.1), 2), $0.1 + pow(Double($1.1), 2))
    }
    // As close as 8-bit activations are to plain ones.
    #expect((error / spread).squareRoot() < 0.05)
    // A scale of 4 bytes for the numbers of a head.
    let (whole, half) = try (usual.makeCache(capacity: 32).byteCount, small.makeCache(capacity: 32).byteCount)
    let size = usual.configuration.headSize
    #expect(half == whole * (size + 4) / (2 * size))
  }

  @Test func theBitsOfACacheAreSixteenOrEightOfQuantisedDecoders() throws {
    let directory = try TemporaryDirectory()
    let checkpoint = try Self.open(TinyDecoder(), in: directory)
    for (compute, bits, words) in [
      (ComputePath.quantized, 4, "16 or 8 bits, not 4"), (.float32, 8, "leave out cache-bits"),
      (.float32, 16, "leave out cache-bits"),
    ] {
      #expect {
        try Transformer(checkpoint: checkpoint, compute: compute, cacheBits: bits, threads: 1)
      } throws: {
        "\($0)".contains(words)
      }
    }
    #expect(try Transformer(checkpoint: checkpoint, compute: .float32, threads: 1).cacheBits == 32)
    let source = try TemporaryDirectory()
    let encoder = try Checkpoint.open(source.write("t5.gguf", TinyT5().gguf().build()))
    #expect {
      try Transformer(checkpoint: encoder, cacheBits: 8, threads: 1)
    } throws: {
      "\($0)".contains("decoders that stand alone")
    }
  }

  /// Bits of a cache, positions that are written, and those that are taken over.
  @Test(arguments: [16, 8], [(20, 20), (20, 16), (20, 7), (17, 1)])
  func aBeginningComesBackFromBytes(_ bits: Int, _ counts: (all: Int, kept: Int)) throws {
    let directory = try TemporaryDirectory()
    let model = try Transformer(
      checkpoint: Self.open(TinyDecoder(), in: directory), cacheBits: bits, threads: 1)
    let layers = 0..<model.configuration.layerCount
    let cache = try model.makeCache(capacity: counts.all)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: counts.all)
    try model.embed(Array(Self.tokens[..<counts.all]), into: states)
    try model.advance(
      states, rows: (0..<counts.all).map { BatchRow(cache: cache, position: $0) }, layers: layers)
    var bytes: [UInt8] = []
    cache.withBeginning(counts.kept) { bytes += $0 }
    let shape = try #require(cache.shape)
    #expect(bytes.count == shape.byteCount(positions: counts.kept))
    let other = try model.makeCache(capacity: counts.kept)
    func fill(_ cache: KeyValueCache, _ bytes: [UInt8]) -> Bool {
      var rest = bytes[...]
      return cache.fillBeginning(counts.kept) { part in
        part.copyBytes(from: rest.prefix(part.count))
        rest = rest.dropFirst(part.count)
      }
    }
    #expect(fill(other, bytes) && other.filled == layers.map { _ in counts.kept })
    for layer in layers {
      for position in 0..<counts.kept {
        #expect(
          other.storedBytes(layer: layer, position: position)
            == cache.storedBytes(layer: layer, position: position))
      }
    }
    var again: [UInt8] = []
    other.withBeginning(counts.kept) { again += $0 }
    #expect(again == bytes)
    // What later positions hold of a block is not told.
    let single = try model.makeCache(capacity: 32)
    try model.embed(Array(Self.tokens[..<counts.kept]), into: states)
    try model.advance(
      states, rows: (0..<counts.kept).map { BatchRow(cache: single, position: $0) }, layers: layers)
    var alone: [UInt8] = []
    single.withBeginning(counts.kept) { alone += $0 }
    #expect(alone == bytes)
    // A number that is not finite, at the end: of halves the last value, of bytes its scale.
    bytes[bytes.count - 1] = 0x7F
    bytes[bytes.count - 2] = 0xFC
    #expect(!fill(try model.makeCache(capacity: counts.kept), bytes))
  }

  @Test func aCroppedCacheGoesOnAsIfTheTokensHadNotBeen() throws {
    let directory = try TemporaryDirectory()
    let model = try Transformer(checkpoint: Self.open(TinyDecoder(), in: directory), threads: 1)
    let layers = 0..<model.configuration.layerCount
    let expected = try Self.logits(model, Self.tokens)
    let cache = try model.makeCache(capacity: 40)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: 40)
    let wrong = Array(Self.tokens[0..<10]) + [1, 1, 1, 1]
    try model.embed(wrong, into: states)
    try model.advance(
      states, rows: wrong.indices.map { BatchRow(cache: cache, position: $0) }, layers: layers)
    cache.crop(to: 10)
    #expect(cache.filled == [10, 10])
    try model.embed(Array(Self.tokens[10...]), into: states)
    try model.advance(
      states, rows: (10..<Self.tokens.count).map { BatchRow(cache: cache, position: $0) }, layers: layers)
    var logits: [Float] = []
    try model.logits(of: states, rows: 9..<10, into: &logits)
    #expect(logits == expected[19])
  }

  @Test func propagatedKeysAndValuesAreThoseOfTheUnchangedState() throws {
    let directory = try TemporaryDirectory()
    var decoder = TinyDecoder()
    decoder.layerCount = 3
    let model = try Transformer(checkpoint: Self.open(decoder, in: directory), threads: 1)
    let size = model.configuration.hiddenSize
    let states = HiddenStates(hiddenSize: size, capacity: 4)
    let cache = try model.makeCache(capacity: 8)
    let rows = [BatchRow(cache: cache, position: 0)]
    try model.embed([9], into: states)
    try model.advance(states, rows: rows, layers: 0..<1)
    let left = states[0]
    try model.propagate(states, rows: rows, layers: 1..<3)
    #expect(states[0] == left)
    #expect(cache.filled == [1, 1, 1])
    // Layer 1 would have seen the same state in a full run, so there the propagated entries are exact: the next
    // token comes out of layers 0…1 as it does in a full run, but not out of layer 2.
    let full = try model.makeCache(capacity: 8)
    let other = HiddenStates(hiddenSize: size, capacity: 4)
    try model.embed([9], into: other)
    try model.advance(other, rows: [BatchRow(cache: full, position: 0)], layers: 0..<3)
    for cache in [cache, full] {
      let states = HiddenStates(hiddenSize: size, capacity: 4)
      try model.embed([33], into: states)
      try model.advance(states, rows: [BatchRow(cache: cache, position: 1)], layers: 0..<2)
      other[cache === full ? 1 : 0] = states[0]
    }
    #expect(other[0] == other[1])
  }

  @Test func requestsThatCannotBeCarriedOutAreRefused() throws {
    let directory = try TemporaryDirectory()
    let model = try Transformer(checkpoint: Self.open(TinyDecoder(), in: directory), threads: 1)
    let states = HiddenStates(hiddenSize: model.configuration.hiddenSize, capacity: 4)
    let cache = try model.makeCache(capacity: 2)
    #expect(throws: DecoderError.contextExceeded(needed: 129, capacity: 128)) {
      try model.makeCache(capacity: 129)
    }
    #expect(throws: DecoderError.contextExceeded(needed: 0, capacity: 128)) {
      try model.makeCache(capacity: 0)
    }
    for token in [-1, 272, Int.max] {
      #expect(throws: DecoderError.tokenOutOfRange(token: token, vocabularySize: 272)) {
        try model.embed([token], into: states)
      }
    }
    #expect(throws: DecoderError.rowCount(expected: 5, found: 4)) {
      try model.embed([1, 1, 1, 1, 1], into: states)
    }
    try model.embed([1], into: states)
    let row = BatchRow(cache: cache, position: 0)
    #expect(throws: DecoderError.layersOutOfRange(0..<3, layerCount: 2)) {
      try model.advance(states, rows: [row], layers: 0..<3)
    }
    #expect(throws: DecoderError.rowCount(expected: 2, found: 1)) {
      try model.advance(states, rows: [row, row], layers: 0..<1)
    }
    #expect(throws: DecoderError.gapInCache(layer: 0, position: 1, filled: 0)) {
      try model.advance(states, rows: [BatchRow(cache: cache, position: 1)], layers: 0..<1)
    }
    try model.advance(states, rows: [row], layers: 0..<1)
    #expect(throws: DecoderError.gapInCache(layer: 1, position: 1, filled: 0)) {
      try model.advance(states, rows: [BatchRow(cache: cache, position: 1)], layers: 0..<2)
    }
    for position in [2, -1] {
      #expect(throws: DecoderError.contextExceeded(needed: position + 1, capacity: 2)) {
        try model.advance(states, rows: [BatchRow(cache: cache, position: position)], layers: 0..<1)
      }
    }
    var logits: [Float] = []
    #expect(throws: DecoderError.rowCount(expected: 2, found: 1)) {
      try model.logits(of: states, rows: 0..<2, into: &logits)
    }
  }
}
