import Checkpoints
import EarlyExit
import Generation
import TestSupport
import Testing
import Transformers

/// Leaves at one layer always, or never.
private struct FixedPolicy: ExitPolicy {
  var layer: Int
  var leaves = true
  func exitLayers(layerCount: Int) -> [Int] { [layer] }
  func decide(_ observation: ExitObservation) -> ExitDecision {
    leaves ? .exit(layer: observation.layer, reason: .confident) : .continue
  }
}

@Suite struct ReducedHeadTests {
  private let model: LanguageModel
  private let size = 64
  private let prompt: [TokenID] = [300, 7, 301, 9]
  private let shortlist = Array(stride(from: 3, to: 250, by: 5))

  init() throws {
    var tiny = TinyDecoder()
    tiny.layerCount = 4
    tiny.vocabularySize = 320
    tiny.format = .q8_0
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    model = LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 2), tokenizer: ByteTokenizer(),
      promptTemplate: .plain, endTokens: [])
  }

  private func randomMap(_ seed: UInt64) throws -> ExitHeads.LayerMap {
    var random = SplitMix64(seed: seed)
    return try ExitHeads.LayerMap(
      weights: (0..<size * size).map { _ in Float.random(in: -0.3...0.3, using: &random) }, hiddenSize: size)
  }

  private func steps(_ strategy: ExitStrategy?, sampling: Sampling = .greedy) throws -> [TokenStep] {
    let session = try model.makeSession(
      prompt: prompt, options: GenerationOptions(maxTokens: 16, sampling: sampling), exits: strategy)
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    return steps
  }

  /// The hidden state of the last of `tokens` after `layer` layers.
  private func state(_ tokens: [TokenID], layer: Int) throws -> [Float] {
    let states = HiddenStates(hiddenSize: size, capacity: tokens.count)
    let cache = try model.decoder.makeCache(capacity: tokens.count)
    try model.decoder.embed(tokens, into: states)
    try model.decoder.advance(
      states, rows: tokens.indices.map { BatchRow(cache: cache, position: $0) }, layers: 0..<layer)
    return states[tokens.count - 1]
  }

  @Test(arguments: [1, 3, 70], [1, 37, 320])
  func `rows of the unembedding give the very logits of the whole`(count: Int, rows: Int) throws {
    var random = SplitMix64(seed: 8)
    let values = (0..<count * size).map { _ in Float.random(in: -2...2, using: &random) }
    let tokens = Array((0..<320).shuffled(using: &random).prefix(rows))
    let matrix = try model.decoder.makeUnembedding(of: tokens)
    var found: [Float] = []
    try model.decoder.product(matrix, of: values, into: &found)
    let states = HiddenStates(hiddenSize: size, capacity: count)
    states.count = count
    for row in 0..<count { states[row] = Array(values[row * size..<(row + 1) * size]) }
    var all: [Float] = []
    try model.decoder.logits(of: states, rows: 0..<count, into: &all)
    #expect(found == (0..<count).flatMap { row in tokens.map { all[row * 320 + $0] } })
    #expect(rows > 37 || matrix.byteCount < model.decoder.bytesOfUnembedding / 2)
    #expect(throws: DecoderError.self) { try model.decoder.makeUnembedding(of: [320]) }
    #expect(throws: DecoderError.self) { try model.decoder.product(matrix, of: [1, 2], into: &found) }
  }

  @Test func `a map is the product with the normalised state`() throws {
    let map = try randomMap(3)
    let input = try state(prompt, layer: 2)
    // (out, in)
    let matrix = try model.decoder.makeMap(
      (0..<size * size).map { map.weights[$0 % size * size + $0 / size] })
    var found: [Float] = []
    try model.decoder.product(matrix, of: input, into: &found)
    let scale = 1 / (input.reduce(0) { $0 + Double($1) * Double($1) } / Double(size)).squareRoot()
    let expected = (0..<size).map { output in
      (0..<size).reduce(0.0) { $0 + Double(map.weights[$1 * size + output]) * Double(input[$1]) * scale }
    }
    // Weights and activations are rounded to 8 bits: about one part in 250 of the largest, 64 times over.
    for (a, b) in zip(found, expected) { #expect(abs(Double(a) - b) < 0.05) }
    #expect(throws: DecoderError.self) { try model.decoder.makeMap([1, 2, 3]) }
  }

  @Test(arguments: [1, 3, 70])
  func `a map of several states is the sum of their maps`(count: Int) throws {
    let maps = try [3, 4, 8].map { try randomMap($0).weights }
    // Of very different sizes: each state is normalised by itself.
    let states = try [(1, Float(1)), (2, 100), (3, 0.01)].map { layer, scale in
      let one = try state(prompt, layer: layer)
      return (0..<count).flatMap { row in one.map { scale * $0 * Float(1 + row % 5) + scale * Float(row % 7) }
      }
    }
    let joined = try model.decoder.makeMap(
      (0..<size).flatMap { row in maps.flatMap { $0[row * size..<(row + 1) * size] } })
    let inputs = (0..<count).flatMap { row in states.flatMap { $0[row * size..<(row + 1) * size] } }
    var found: [Float] = []
    try model.decoder.product(joined, of: inputs, into: &found)
    var expected = [Float](repeating: 0, count: count * size)
    for (map, states) in zip(maps, states) {
      var part: [Float] = []
      try model.decoder.product(model.decoder.makeMap(map), of: states, into: &part)
      for index in expected.indices { expected[index] += part[index] }
    }
    // The same rounded weights and inputs, added in another order.
    #expect(found.count == expected.count)
    for (a, b) in zip(found, expected) { #expect(abs(a - b) < 1e-4 * max(1, abs(b))) }
    #expect(expected.contains { abs($0) > 0.1 })
    #expect(throws: DecoderError.self) {
      try model.decoder.product(joined, of: Array(states[0].dropLast()), into: &found)
    }
    #expect(throws: DecoderError.self) { try model.decoder.makeMap([]) }
  }

  @Test(arguments: [1, 3, 4], [true, false])
  func `a token that leaves is the best of shortlist and prompt`(layer: Int, hasMap: Bool) throws {
    let map = hasMap && layer < 4 ? try randomMap(5) : nil
    let heads = ExitHeads(maps: map.map { [layer: $0] } ?? [:], shortlist: shortlist)
    let found = try steps(
      ExitStrategy(policy: FixedPolicy(layer: layer), measure: SaturationConfidence(), heads: heads))
    #expect(found.dropFirst().allSatisfy { $0.layer == layer && $0.depth?.reason == .confident })

    var tokens = prompt
    let candidates = shortlist + [7, 9, 300, 301]
    let rows = try model.decoder.makeUnembedding(of: candidates)
    for step in found {
      if tokens.count > prompt.count {
        var state = try state(tokens, layer: layer)
        if let map {
          let matrix = try model.decoder.makeMap(
            (0..<size * size).map { map.weights[$0 % size * size + $0 / size] })
          try model.decoder.product(matrix, of: Array(state), into: &state)
        }
        var logits: [Float] = []
        try model.decoder.product(rows, of: state, into: &logits)
        let best = logits.withUnsafeBufferPointer { candidates[Logits.argmax($0)] }
        #expect(step.id == best)
      }
      tokens.append(step.id)
    }
  }

  @Test func `bytes are those of the reduced head`() throws {
    func bytes(_ shortlist: [TokenID], leaves: Bool) throws -> Int {
      let found = try steps(
        ExitStrategy(
          policy: FixedPolicy(layer: 4, leaves: leaves), measure: SoftmaxConfidence(),
          heads: ExitHeads(shortlist: shortlist)))
      return try #require(found[1].depth).bytesRead
    }
    let decoder = model.decoder
    let rows = try decoder.makeUnembedding(of: shortlist).byteCount
    let additions = try decoder.makeUnembedding(of: [7, 9, 300, 301]).byteCount
    #expect(try bytes(shortlist, leaves: true) == 4 * decoder.bytesPerLayer + rows + additions)
    // Refused: the whole vocabulary after it.
    #expect(
      try bytes(shortlist, leaves: false)
        == 4 * decoder.bytesPerLayer + rows + additions + decoder.bytesOfUnembedding)
  }

  @Test(arguments: ExitCachePolicy.allCases)
  func `the threshold 1 is full depth with reduced heads too`(cache: ExitCachePolicy) throws {
    let sampling = Sampling.random(RandomSampling(temperature: 1.5, seed: 5))
    let classifiers = Dictionary(
      uniqueKeysWithValues: [1, 3, 4].map {
        ($0, ClassifierConfidence.Weights(weights: Array(repeating: 0, count: size), bias: 100))
      })
    let heads = ExitHeads(
      maps: [1: try randomMap(1), 3: try randomMap(2)], classifiers: classifiers, shortlist: shortlist)
    let plain = try steps(nil, sampling: sampling)
    let measures: [any ConfidenceMeasure] = [
      SoftmaxConfidence(), SaturationConfidence(), ClassifierConfidence(classifiers),
    ]
    for measure in measures {
      func run(_ threshold: Double) throws -> [TokenStep] {
        try steps(
          ExitStrategy(
            policy: try ThresholdPolicy(threshold: threshold, layers: heads.layers), measure: measure,
            heads: heads, cachePolicy: cache), sampling: sampling)
      }
      #expect(try run(1).map(\.id) == plain.map(\.id))
      let early = try run(0)
      #expect(early.dropFirst().allSatisfy { $0.layer == 1 })
      // What is drawn after an exit comes from the shortlist and the prompt.
      #expect(Set(early.dropFirst().map(\.id)).isSubset(of: shortlist + prompt))
      #expect(try run(1.nextDown).map(\.id) == plain.map(\.id) || measure is ClassifierConfidence)
    }
  }

  @Test func `a decoder without packed rows gives the same choice`() throws {
    let scripted = LanguageModel.scripted(
      ScriptedModel(layerCount: 3) { _, layer in
        var logits = [Float](repeating: 0, count: 320)
        logits[200] = 9
        logits[100] = Float(layer)
        return logits
      })
    let session = try scripted.makeSession(
      prompt: [1, 2],
      options: GenerationOptions(
        maxTokens: 3),
      exits: ExitStrategy(
        policy: FixedPolicy(layer: 3), measure: SoftmaxConfidence(), heads: ExitHeads(shortlist: [99, 100])
      ))
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == [200, 100, 100])
  }

  @Test func `shortlists that cannot be are refused`() throws {
    for shortlist in [[1, 320], [-1], [4, 5, 4]] {
      #expect(throws: EarlyExitError.self) {
        try steps(
          ExitStrategy(
            policy: FixedPolicy(layer: 4), measure: SoftmaxConfidence(),
            heads: ExitHeads(shortlist: shortlist)
          ))
      }
    }
    #expect(throws: EarlyExitError.self) {
      try steps(ExitStrategy(policy: FixedPolicy(layer: 4), measure: SoftmaxConfidence()))
    }
  }
}
