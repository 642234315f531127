import Checkpoints
import EarlyExit
import Generation
import TestSupport
import Testing
import Tokenization
import Transformers

/// A measure that says what the test wants, whatever it is shown.
private struct ConstantConfidence: ConfidenceMeasure {
  var value: Double
  var name: String { "constant" }
  var reads: ConfidenceInput { .hiddenState }
  func confidence(_ reading: ConfidenceReading) -> Double { value }
}

/// Leaves at a layer that jumps about with the token.
private struct WanderingPolicy: ExitPolicy {
  var depths: [Int]
  func exitLayers(layerCount: Int) -> [Int] { Array(1..<layerCount) }
  func decide(_ observation: ExitObservation) -> ExitDecision {
    observation.layer == depths[observation.tokenIndex % depths.count]
      ? .exit(layer: observation.layer, reason: .other("due")) : .continue
  }
}

@Suite struct ExitTests {
  private static let measures: [any ConfidenceMeasure] = [
    SoftmaxConfidence(), SaturationConfidence(),
    ClassifierConfidence(
      Dictionary(
        uniqueKeysWithValues: (1..<6).map {
          ($0, ClassifierConfidence.Weights(weights: Array(repeating: 0, count: 64), bias: 100))
        })),
    ConstantConfidence(value: 1), ConstantConfidence(value: 7),
  ]

  private func tiny(_ seed: UInt64 = 1) throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.layerCount = 6
    tiny.vocabularySize = 320
    tiny.format = .q8_0
    tiny.seed = seed
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    let decoder = try Transformer(checkpoint: checkpoint, threads: 1)
    return LanguageModel(
      name: "tiny", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [])
  }

  private let prompt = Array("What is near?".utf8).map(Int.init)

  private func run(
    _ model: LanguageModel, _ exits: ExitStrategy?, sampling: Sampling = .greedy, tokens: Int = 24
  )
    throws -> (session: DecodingSession, steps: [TokenStep])
  {
    let session = try model.makeSession(
      prompt: prompt, options: GenerationOptions(maxTokens: tokens, sampling: sampling), exits: exits)
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    return (session, steps)
  }

  /// The bytes of every key and value but those of positions from `count` on.
  private func contents(_ cache: KeyValueCache, count: Int) -> [[UInt8]] {
    cache.filled.indices.flatMap { layer in
      (0..<count).map { cache.storedBytes(layer: layer, position: $0) }
    }
  }

  /// Confident after 2, then 6, then 1 of 8 layers.
  private static let depths = [8, 2, 6, 1]
  private func scripted() -> LanguageModel {
    LanguageModel.scripted(
      ScriptedModel(layerCount: 8) { history, layer in
        let index = history.count - 2
        guard index < Self.depths.count else { return ScriptedModel.logits(favouring: 258) }
        var logits = [Float](repeating: 0, count: 320)
        logits[97 + index] = layer >= Self.depths[index] ? 12 : 0.1
        return logits
      })
  }

  @Test(arguments: ExitCachePolicy.allCases)
  func `tokens leave where the model is first confident`(cache: ExitCachePolicy) throws {
    let session = try scripted().makeSession(
      prompt: [1, 2],
      options: GenerationOptions(
        maxTokens: 4),
      exits: ExitStrategy(
        policy: ThresholdPolicy(threshold: 0.9), measure: SoftmaxConfidence(), cachePolicy: cache))
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    #expect(session.generation.text == "abcd")
    #expect(session.generation.layers == Self.depths && session.generation.averageLayer == 4.25)
    #expect(steps.dropFirst().map { $0.depth?.reason } == [.confident, .confident, .confident])
    #expect(steps[2].depth?.checks.map(\.layer) == [1, 2, 3, 4, 5, 6])
    #expect(steps[0].depth == nil)
  }

  @Test func `exit layers and the minimum layer are kept to`() throws {
    func layers(_ policy: ThresholdPolicy) throws -> [Int] {
      let session = try scripted().makeSession(
        prompt: [1, 2],
        options: GenerationOptions(
          maxTokens: 4), exits: ExitStrategy(policy: policy, measure: SoftmaxConfidence()))
      while try session.next() != nil {}
      return session.generation.layers
    }
    #expect(try layers(ThresholdPolicy(threshold: 0.9, layers: [3, 5, 7])) == [8, 3, 7, 3])
    #expect(try layers(ThresholdPolicy(threshold: 0.9, minimumLayer: 4)) == [8, 4, 6, 4])
    #expect(try layers(ThresholdPolicy(threshold: 0.9, layers: [3, 5], minimumLayer: 4)) == [8, 5, 8, 5])
    #expect(try layers(ThresholdPolicy(threshold: 0)) == [8, 1, 1, 1])
  }

  @Test(arguments: [0, 1, 2, 3, 4], ExitCachePolicy.allCases)
  func `the threshold 1 is full depth`(measure: Int, cache: ExitCachePolicy) throws {
    let model = try tiny()
    // Draws at random show a difference in any logit, where greedy decoding shows it in the largest only.
    let sampling = Sampling.random(RandomSampling(temperature: 1.5, seed: 5))
    let plain = try run(model, nil, sampling: sampling)
    let policies = [try ThresholdPolicy(threshold: 1), try ThresholdPolicy(threshold: 1, decay: 4)]
    for policy in policies {
      let strategy = ExitStrategy(policy: policy, measure: Self.measures[measure], cachePolicy: cache)
      let early = try run(model, strategy, sampling: sampling)
      #expect(early.session.generation == plain.session.generation)
      let count = prompt.count + 23
      #expect(contents(early.session.cache, count: count) == contents(plain.session.cache, count: count))
    }
    // The measures do let tokens leave at 0, so that the test above can fail.
    let strategy = ExitStrategy(
      policy: try ThresholdPolicy(threshold: 0), measure: Self.measures[measure], cachePolicy: cache)
    #expect(try run(model, strategy).session.generation.layers == [6] + Array(repeating: 1, count: 23))
  }

  @Test func `looking at every exit without leaving changes nothing`() throws {
    let model = try tiny()
    let plain = try run(model, nil)
    for measure in [SoftmaxConfidence(), SaturationConfidence(), ConstantConfidence(value: .nan)]
      as [any ConfidenceMeasure]
    {
      let strategy = ExitStrategy(policy: try ThresholdPolicy(threshold: 1.nextDown), measure: measure)
      let early = try run(model, strategy)
      #expect(early.session.generation == plain.session.generation)
      #expect(early.steps[1].depth?.checks.count == 5)
      #expect(contents(early.session.cache, count: 36) == contents(plain.session.cache, count: 36))
    }
  }

  @Test(arguments: [[2, 6, 1], [1, 1, 1, 5], [5, 4, 3, 2, 1], [3], [1, 6]], [1, 2, 16])
  func `deferred completion leaves the cache of a full-depth run`(depths: [Int], group: Int) throws {
    let model = try tiny(3)
    let strategy = ExitStrategy(
      policy: WanderingPolicy(depths: depths), measure: ConstantConfidence(value: 0.5), groupLimit: group)
    let early = try run(model, strategy)
    try early.session.completeCache()
    let generation = early.session.generation
    #expect(Set(generation.layers.dropFirst()) == Set(depths))

    // The same tokens, all layers at once.
    let tokens = Array((prompt + generation.tokenIDs).dropLast())
    let cache = try model.decoder.makeCache(capacity: tokens.count)
    let states = HiddenStates(hiddenSize: 64, capacity: tokens.count)
    try model.decoder.embed(tokens, into: states)
    try model.decoder.advance(
      states, rows: tokens.indices.map { BatchRow(cache: cache, position: $0) }, layers: 0..<6)
    #expect(early.session.cache.filled == cache.filled)
    #expect(contents(early.session.cache, count: tokens.count) == contents(cache, count: tokens.count))

    let propagating = ExitStrategy(
      policy: WanderingPolicy(depths: depths), measure: ConstantConfidence(value: 0.5),
      cachePolicy: .propagate)
    let approximate = try run(model, propagating).session.cache
    #expect(approximate.filled == cache.filled)
    #expect(contents(approximate, count: tokens.count) != contents(cache, count: tokens.count))
  }

  @Test func `a tie leaves, a hair less does not`() throws {
    let policy = try ThresholdPolicy(threshold: 0.75)
    func decide(_ confidence: Double) -> ExitDecision {
      policy.decide(
        ExitObservation(layer: 3, layerCount: 8, confidence: confidence, tokenIndex: 1, maxTokens: 9))
    }
    #expect(decide(0.75) == .exit(layer: 3, reason: .confident))
    #expect(decide(0.75.nextDown) == .continue)
  }

  @Test func `the decaying threshold is the paper's, and its inverse is exact`() throws {
    let policy = try ThresholdPolicy(threshold: 0.8, decay: 4)
    #expect(abs(policy.threshold(at: 0, of: 100) - 0.82) < 1e-12)
    #expect(abs(policy.threshold(at: 50, of: 100) - (0.72 + 0.1 * 0.1353352832366127)) < 1e-12)
    for step in 0..<200 {
      let confidence = Double(step) / 200
      for index in [0, 3, 77] {
        guard let critical = policy.criticalThreshold(confidence: confidence, at: index, of: 100) else {
          #expect(policy.with(threshold: 0).threshold(at: index, of: 100) > confidence)
          continue
        }
        #expect(policy.with(threshold: critical).threshold(at: index, of: 100) <= confidence)
      }
    }
  }

  @Test func `measures give what their formulas say`() {
    var reading = ConfidenceReading(layer: 2)
    reading.logits = [1, 3, 2, -4]
    let total = [1.0, 3, 2, -4].map { power($0) }.reduce(0, +)
    let expected = (power(3) - power(2)) / total
    #expect(abs(SoftmaxConfidence().confidence(reading) - expected) < 1e-6)
    reading.hiddenState = [3, 4, 0]
    reading.previousHiddenState = [3, 0, 0]
    #expect(abs(SaturationConfidence().confidence(reading) - 0.6) < 1e-12)
    reading.layer = 1
    #expect(SaturationConfidence().confidence(reading) == 0)
    let classifier = ClassifierConfidence([1: .init(weights: [1, 0, 0], bias: -0.5)])
    // 3 / sqrt(25/3) - 0.5
    #expect(abs(classifier.confidence(reading) - 1 / (1 + power(-0.5392304845413264))) < 1e-6)
  }

  @Test func `a batch leaves where single sequences do`() throws {
    let model = try tiny(9)
    let options = GenerationOptions(maxTokens: 12)
    let exits = ExitStrategy(policy: WanderingPolicy(depths: [2, 6, 1]), measure: SaturationConfidence())
    let prompts = ["one", "another", "a third one"].map { $0.utf8.map(Int.init) }
    let batch = try #require(
      try BatchDecoder(model: model).run(prompts: prompts, options: options, strategy: exits))
    for (prompt, generation) in zip(prompts, batch) {
      let session = try model.makeSession(prompt: prompt, options: options, exits: exits)
      while try session.next() != nil {}
      #expect(session.generation == generation)
    }
  }

  @Test func `bad settings are refused`() throws {
    #expect(throws: EarlyExitError.self) { try ThresholdPolicy(threshold: 1.01) }
    #expect(throws: EarlyExitError.self) { try ThresholdPolicy(threshold: .nan) }
    #expect(throws: EarlyExitError.self) { try ThresholdPolicy(threshold: 0.5, layers: [4, 4]) }
    #expect(throws: EarlyExitError.self) { try ThresholdPolicy(threshold: 0.5, layers: []) }
    #expect(throws: EarlyExitError.self) { try ThresholdPolicy(threshold: 0.5, decay: 0) }
    let model = scripted()
    for layers in [[8], [3, 9]] {
      let exits = ExitStrategy(
        policy: try ThresholdPolicy(threshold: 0.5, layers: layers), measure: SoftmaxConfidence())
      #expect(throws: EarlyExitError.self) {
        try model.makeSession(prompt: [1], options: GenerationOptions(), exits: exits)
      }
    }
  }
}

/// A power of e by its series, independent of the library under test.
private func power(_ exponent: Double) -> Double {
  var (term, sum) = (1.0, 1.0)
  for k in 1..<60 {
    term *= exponent / Double(k)
    sum += term
  }
  return sum
}
