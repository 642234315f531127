import EarlyExit
import FileFormats
import Generation
import TestSupport
import Testing
import Transformers

/// Outputs that begin to repeat themselves, and go back to full depth.
@Suite struct TripwireTests {
  /// At full depth it counts up from the last token; after one layer it says the same three tokens again and again from
  /// the fourth on.
  private static func makeModel(loopsAtFullDepth: Bool = false) -> LanguageModel {
    let decoder = ScriptedModel { history, layer in
      let next = history.count - 2
      let isLoop = (layer < 4 || loopsAtFullDepth) && next >= 4
      return ScriptedModel.logits(favouring: isLoop ? 200 + next % 3 : 100 + next)
    }
    return LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [5])
  }

  private struct Sure: ConfidenceMeasure {
    let name = "sure"
    let reads: ConfidenceInput = []
    func confidence(_ reading: ConfidenceReading) -> Double { 0.5 }
  }

  private static func exits() throws -> ExitStrategy {
    ExitStrategy(policy: try ThresholdPolicy(threshold: 0.3, layers: [1]), measure: Sure())
  }

  private static func options(limit: Int?) -> GenerationOptions {
    var options = GenerationOptions(maxTokens: 24)
    options.tripwire = limit.map(RepetitionTripwire.init(limit:))
    return options
  }

  private static func run(
    _ model: LanguageModel, _ options: GenerationOptions, exits: ExitStrategy?
  ) throws -> (steps: [TokenStep], generation: Generation) {
    let session = try model.makeSession(
      prompt: [10, 20], options: options, exits: exits, shouldStop: { false })
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    #expect(session.stopReason == .maxTokens)
    return (steps, session.generation)
  }

  @Test func `a loop is cut where its first repeated tokens began, and goes on at full depth`() throws {
    let model = Self.makeModel()
    let free = try Self.run(model, Self.options(limit: nil), exits: Self.exits())
    #expect(Array(free.generation.tokenIDs[3...8]) == [103, 201, 202, 200, 201, 202])
    #expect(free.generation.trippedAt == nil)
    let caught = try Self.run(model, Self.options(limit: 4), exits: Self.exits())
    // The tokens 201, 202, 200 come again from the place 7 on; 201, 202 stay safe until then.
    #expect(caught.generation.trippedAt == 7)
    #expect(caught.generation.tokenIDs == [100, 101, 102, 103, 201, 202, 200] + (107..<124).map { $0 })
    #expect(Array(caught.generation.layers[1..<7]) == Array(repeating: 1, count: 6))
    #expect(caught.generation.layers[7...].allSatisfy { $0 == 4 })
    // What was shown was never taken back.
    #expect(caught.steps.map(\.id) == caught.generation.tokenIDs)
    #expect(caught.steps.map(\.text).joined() == caught.generation.text)
    // A longer limit takes longer to see it, and cuts at the same place.
    #expect(try Self.run(model, Self.options(limit: 9), exits: Self.exits()).generation == caught.generation)
    #expect(try Self.run(model, Self.options(limit: 100), exits: Self.exits()).generation == free.generation)
  }

  @Test func `a batch cuts where each document by itself does`() throws {
    let model = Self.makeModel()
    let options = Self.options(limit: 4)
    let alone = try Self.run(model, options, exits: Self.exits()).generation
    let together = try #require(
      try BatchDecoder(model: model, shouldStop: { false }).run(
        prompts: [[10, 20], [10, 20]], options: options, strategy: Self.exits()))
    #expect(together == [alone, alone])
  }

  @Test func `full depth that repeats itself is left as it is`() throws {
    let model = Self.makeModel(loopsAtFullDepth: true)
    let plain = try Self.run(model, GenerationOptions(maxTokens: 24), exits: nil).generation
    let caught = try Self.run(model, Self.options(limit: 4), exits: Self.exits()).generation
    #expect(caught.tokenIDs == plain.tokenIDs && caught.trippedAt == 7)
  }

  @Test func `the limit is what full-depth outputs say, and no less than names need`() {
    let calm = Array(0..<60)
    let loop = Array(0..<10) + Array(repeating: 7, count: 40)
    #expect(RepetitionTripwire(outputs: [calm, calm]).limit == RepetitionTripwire.leastLimit)
    // One in twenty may loop: 40 sevens, of which the first three are new.
    #expect(
      RepetitionTripwire(outputs: Array(repeating: calm, count: 19) + [loop]).limit
        == RepetitionTripwire.leastLimit)
    #expect(RepetitionTripwire(outputs: [loop, loop]).limit == 37)
    #expect(RepetitionTripwire(outputs: []).limit == RepetitionTripwire.leastLimit)
  }

  /// A random model that loops early and often.
  private static func makeTiny() throws -> LanguageModel {
    var tiny = TinyDecoder()
    tiny.layerCount = 6
    tiny.vocabularySize = 320
    tiny.weightScale = 0.15
    let directory = try TemporaryDirectory()
    return LanguageModel(
      name: "tiny",
      decoder: try Transformer(
        checkpoint: .open(directory.write("tiny.gguf", tiny.gguf().build())), threads: 1),
      tokenizer: ByteTokenizer(), promptTemplate: .plain, endTokens: [5])
  }

  @Test(arguments: [ExitCachePolicy.defer, .propagate])
  func `a sweep gives the output of every threshold with a tripwire too`(cache: ExitCachePolicy) throws {
    let model = try Self.makeTiny()
    let policy = try ThresholdPolicy(threshold: 0, layers: [2, 4])
    let strategy = ExitStrategy(policy: policy, measure: SoftmaxConfidence(), cachePolicy: cache)
    let sweep = try ExitSweep(model: model, strategy: strategy, policy: policy)
    var options = GenerationOptions(maxTokens: 24)
    options.tripwire = RepetitionTripwire(limit: 1)
    var trips = 0
    for prompt in [[10, 20, 30], [7], [40, 41, 42, 43], [99, 3], [61, 62, 63, 64, 65]] {
      let pieces = try #require(try sweep.run(prompt, options: options, shouldStop: { false }))
      for threshold in stride(from: 1, through: 0, by: -0.004) {
        let live = ExitStrategy(
          policy: policy.with(threshold: threshold), measure: SoftmaxConfidence(), cachePolicy: cache)
        let session = try model.makeSession(
          prompt: prompt, options: options, exits: live, shouldStop: { false })
        while try session.next() != nil {}
        let piece = try #require(pieces.last { $0.threshold >= threshold })
        #expect(session.generation.tokenIDs == piece.generation.tokenIDs, "\(prompt) \(threshold)")
        if session.generation.trippedAt != nil, threshold < 1 { trips += 1 }
      }
    }
    #expect(trips > 20)
  }
}
