import Checkpoints
import EarlyExit
import FileFormats
import Foundation
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct ExitHeadTests {
  private let directory: TemporaryDirectory
  private let modelPath: String
  private let model: LanguageModel

  init() throws {
    var tiny = TinyDecoder()
    tiny.layerCount = 4
    tiny.vocabularySize = 320
    tiny.format = .q8_0
    directory = try TemporaryDirectory()
    modelPath = try directory.write("tiny.gguf", tiny.gguf().build())
    let decoder = try Transformer(checkpoint: Checkpoint.open(modelPath), threads: 1)
    model = LanguageModel(
      name: "tiny", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [])
  }

  private func fitted(
    layers: [Int] = [1, 3], shortlist: Int = 0, loss: ClassifierLoss = .independent, refinement: Int = 0,
    maps: [Int: ExitHeads.LayerMap] = [:]
  ) throws -> (
    heads: ExitHeads, description: ExitHeadsDescription
  ) {
    var fitter = try ExitHeadFitter(
      model: model, layers: layers, shortlistSize: shortlist, loss: loss, refinementSteps: refinement,
      trainedMaps: maps)
    for index in 0..<20 {
      let prompt: [TokenID] = "text \(index) \(index * index)".utf8.map { TokenID($0) }
      let session = try model.makeSession(
        prompt: prompt,
        options: GenerationOptions(
          maxTokens: 40, sampling: .random(RandomSampling(temperature: 2, seed: UInt64(index)))))
      while try session.next() != nil {}
      try fitter.add(session.generation, isHeldOut: index % 5 == 4)
    }
    return try fitter.fit(name: "tiny", digest: FileDigest.sha256(model: modelPath))
  }

  @Test func `a ridge regression recovers a linear map`() throws {
    var random = SplitMix64(seed: 4)
    let coefficients: [Double] = [2, -1, 0.5, 0, 3, 1]
    var regression = RidgeRegression(inputCount: 3, outputCount: 2)
    for _ in 0..<5 {
      let inputs = (0..<30).map { _ in Double.random(in: -1...1, using: &random) }
      let outputs = (0..<10).flatMap { row in
        (0..<2).map { column in
          (0..<3).reduce(0.0) { $0 + inputs[row * 3 + $1] * coefficients[$1 * 2 + column] }
        }
      }
      try regression.add(inputs: inputs, outputs: outputs, count: 10)
    }
    for (found, expected) in zip(try regression.solve(ridge: 1e-12), coefficients) {
      #expect(abs(found - expected) < 1e-8)
    }
    let shrunk = try regression.solve(ridge: 1e6)
    #expect(shrunk.allSatisfy { abs($0) < 1e-3 })
    #expect(throws: DecoderError.self) {
      try RidgeRegression(inputCount: 3, outputCount: 2).solve(ridge: 0)
    }
  }

  @Test(arguments: ClassifierLoss.allCases)
  func `a fitted map agrees with the model more often than the shared head`(loss: ClassifierLoss) throws {
    let (heads, description) = try fitted(loss: loss)
    #expect(heads.layers == [1, 3] && description.heldOutTokens == 160)
    #expect(description.fittedTokens == 16 * 40)
    for row in description.agreement {
      #expect(row.fittedMap > row.sharedHead)
      #expect((0...1).contains(row.classifier))
    }
    #expect(description.agreement[1].fittedMap > description.agreement[0].fittedMap)
  }

  @Test func `gradient steps follow the slope of the divergence`() throws {
    let decoder = try Transformer(checkpoint: Checkpoint.open(modelPath), compute: .float32, threads: 1)
    let size = decoder.configuration.hiddenSize
    var random = SplitMix64(seed: 9)
    func states(_ count: Int) -> [Float] {
      (0..<count * size).map { _ in Float.random(in: -1...1, using: &random) }.rowsDividedByRootMeanSquare(
        size: size)
    }
    let (inputs, finals) = (states(6), states(6))
    let start = (0..<size * size).map { _ in Float.random(in: -0.3...0.3, using: &random) }
    let tokens = Array(stride(from: 3, to: 300, by: 7))
    var refinement = try MapRefinement(start, tokens: tokens, decoder: decoder)
    // The logits are those of the decoder's own head.
    var own: [Float] = []
    var full: [Float] = []
    let unembedding = try decoder.makeUnembedding(of: tokens)
    try decoder.product(decoder.makeMap(transposed(start, size)), of: inputs, into: &own)
    try decoder.product(unembedding, of: Array(own), into: &own)
    try decoder.product(unembedding, of: finals, into: &full)
    let before = refinement.divergence(inputs: inputs, finals: finals)
    #expect(abs(before - divergence(of: own, from: full, count: 6)) < 1e-3 * before)
    // The first step of Adam moves every weight by the rate against the sign of its slope.
    let rate: Float = 1e-3
    refinement.step(inputs: inputs, finals: finals, rate: rate)
    var right = 0
    for index in stride(from: 0, to: size * size, by: 97) {
      func value(_ change: Float) throws -> Double {
        var weights = start
        weights[index] += change
        return try MapRefinement(weights, tokens: tokens, decoder: decoder).divergence(
          inputs: inputs, finals: finals)
      }
      let slope = try (value(0.02) - value(-0.02)) / 0.04
      let moved = refinement.weights[index] - start[index]
      #expect(abs(moved) < 1.01 * rate)
      if abs(slope) > 2e-4 {
        #expect(Double(moved) * slope < 0, "weight \(index)")
        right += 1
      }
    }
    #expect(right > 20)
    for _ in 0..<60 { refinement.step(inputs: inputs, finals: finals, rate: 0.01) }
    #expect(refinement.divergence(inputs: inputs, finals: finals) < 0.5 * before)
    #expect(throws: DecoderError.self) { try MapRefinement([1], tokens: tokens, decoder: decoder) }
    #expect(throws: DecoderError.self) { try MapRefinement(start, tokens: [320], decoder: decoder) }
  }

  private func transposed(_ values: [Float], _ size: Int) -> [Float] {
    (0..<size * size).map { values[$0 % size * size + $0 / size] }
  }

  /// Mean of Σ q (ln q − ln p), of logits (count, …).
  private func divergence(of logits: [Float], from others: [Float], count: Int) -> Double {
    func logs(_ row: ArraySlice<Float>) -> [Double] {
      let total = log(row.reduce(0.0) { $0 + exp(Double($1)) })
      return row.map { Double($0) - total }
    }
    let width = logits.count / count
    return (0..<count).reduce(0.0) { sum, row in
      let range = row * width..<(row + 1) * width
      return sum
        + zip(logs(logits[range]), logs(others[range])).reduce(0.0) { $0 + exp($1.1) * ($1.1 - $1.0) }
    } / Double(count)
  }

  @Test func `refined maps agree at least as often, and say what the regression did`() throws {
    let (heads, description) = try fitted(shortlist: 150, refinement: 40)
    let (plain, before) = try fitted(shortlist: 150)
    #expect(description.refinementSteps == 40 && before.refinementSteps == nil)
    for (row, old) in zip(description.agreement, before.agreement) where row.layer < 4 {
      #expect(row.regression == old.fittedMap && old.regression == nil)
      #expect(row.fittedMap >= old.fittedMap)
      #expect((heads.maps[row.layer] == plain.maps[row.layer]) == (row.fittedMap == old.fittedMap))
    }
    #expect(description.agreement.contains { $0.fittedMap > $0.regression ?? 1 })
    #expect(throws: EarlyExitError.self) {
      try ExitHeadFitter(model: model, layers: [1], refinementSteps: -1)
    }
  }

  @Test func `maps that were trained elsewhere are kept, read from a file, and the others fitted`() throws {
    let (plain, _) = try fitted()
    let size = model.decoder.configuration.hiddenSize
    let weights = (0..<size * size).map { Float($0 % 7) / 8 }
    let path = directory.path + "/maps.safetensors"
    try TensorFile.write([.init(name: "map.3", shape: [size, size], values: weights)], to: path)
    let maps = try ExitHeads.maps(path: path, layers: [1, 3], hiddenSize: size)
    #expect(maps.keys.sorted() == [3] && maps[3]?.weights == weights)
    let (heads, description) = try fitted(refinement: 8, maps: maps)
    #expect(heads.maps[3] == maps[3])
    #expect(heads.classifiers[3] != nil && heads.classifiers[3]?.weights != plain.classifiers[3]?.weights)
    let row = try #require(description.agreement.first { $0.layer == 3 })
    #expect(row.regression == row.fittedMap)
    let (rest, _) = try fitted(maps: maps)
    #expect(rest.maps[1] == plain.maps[1])

    #expect(throws: EarlyExitError.self) { try ExitHeads.maps(path: path, layers: [1], hiddenSize: size) }
    #expect(throws: EarlyExitError.self) { try ExitHeads.maps(path: path, layers: [3], hiddenSize: size / 2) }
    #expect(throws: EarlyExitError.self) { try ExitHeadFitter(model: model, layers: [1], trainedMaps: maps) }
  }

  @Test func `a shortlist holds what was written most, and the last layer's head agrees best`() throws {
    let (heads, description) = try fitted(shortlist: 150)
    #expect(heads.shortlist.count == 150 && heads.shortlist == heads.shortlist.sorted())
    #expect(heads.layers == [1, 3, 4] && description.layers == [1, 3, 4] && heads.maps[4] == nil)
    let shares = description.agreement.map(\.fittedMap)
    // Of 320 tokens, all about as likely, 150 are listed and a few stand in the prompt.
    #expect(shares[2] > shares[1] && shares[2] > 0.4 && shares[2] < 0.9)
    #expect(throws: EarlyExitError.self) {
      try ExitHeadFitter(model: model, layers: [1], shortlistSize: 320)
    }
  }

  @Test(arguments: [0, 40])
  func `heads are read back, and refused for another model or when changed`(shortlist: Int) throws {
    let (heads, description) = try fitted(shortlist: shortlist)
    let path = directory.path + "/exits.safetensors"
    try heads.write(to: path, description: description)
    let again = try ExitHeads(path: path, modelDigest: FileDigest.sha256(model: modelPath))
    #expect(again.layers == heads.layers && again.shortlist == heads.shortlist)
    for layer in heads.maps.keys {
      let (stored, fitted) = (try #require(again.maps[layer]), try #require(heads.maps[layer]))
      #expect(zip(stored.weights, fitted.weights).allSatisfy { abs($0 - $1) <= 1e-3 * max(1, abs($1)) })
    }

    var other = TinyDecoder()
    other.seed = 77
    let otherPath = try directory.write("other.gguf", other.gguf().build())
    #expect(throws: EarlyExitError.self) {
      try ExitHeads(path: path, modelDigest: FileDigest.sha256(model: otherPath))
    }

    var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    bytes[bytes.count - 1] ^= 1
    try directory.write("exits.safetensors", bytes)
    #expect(throws: EarlyExitError.self) {
      try ExitHeads(path: path, modelDigest: FileDigest.sha256(model: modelPath))
    }
    try FileManager.default.removeItem(atPath: directory.path + "/exits.json")
    #expect(throws: EarlyExitError.self) {
      try ExitHeads(path: path, modelDigest: FileDigest.sha256(model: modelPath))
    }
  }

  @Test func `heads of another shape are refused when decoding begins`() throws {
    let map = try ExitHeads.LayerMap(weights: Array(repeating: 0, count: 9), hiddenSize: 3)
    for layer in [2, 9] {
      let strategy = ExitStrategy(
        policy: try ThresholdPolicy(threshold: 0.5), measure: SoftmaxConfidence(),
        heads: ExitHeads(maps: [layer: map]))
      #expect(throws: EarlyExitError.self) {
        try model.makeSession(prompt: [1], options: GenerationOptions(), exits: strategy)
      }
    }
    #expect(throws: EarlyExitError.self) { try ExitHeads.LayerMap(weights: [1, 2], hiddenSize: 3) }
  }
}
