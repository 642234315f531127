import Generation
import TestSupport
import Testing
import Transformers

@Suite struct AdjustmentTests {
  /// Logits that are the same whatever came before: 3 for "a", 2 for "b", -1 for "c", -9 for all others.
  private static let model = LanguageModel.scripted(
    ScriptedModel { _, _ in
      var logits = [Float](repeating: -9, count: 320)
      (logits[97], logits[98], logits[99]) = (3, 2, -1)
      return logits
    })

  private func text(_ adjustments: LogitAdjustments, prompt: String = "x", count: Int = 6) throws -> String {
    var options = GenerationOptions(maxTokens: count)
    options.adjustments = adjustments
    let session = try Self.model.makeSession(prompt: Self.model.prompt(raw: prompt), options: options)
    while try session.next() != nil {}
    return session.generation.text
  }

  @Test func `each penalty does what its formula says`() throws {
    #expect(try text(LogitAdjustments()) == "aaaaaa")
    // 3, then 3/2 against 2, then 3/2 against 2/2: a token that was said is cheaper, but not the more so.
    #expect(try text(LogitAdjustments(repeatPenalty: 2)) == "abaaaa")
    // The prompt counts for it as well.
    #expect(try text(LogitAdjustments(repeatPenalty: 2), prompt: "a") == "baaaaa")
    #expect(try text(LogitAdjustments(repeatPenalty: 2), prompt: "ab") == "aaaaaa")
    // 3, 2.2, 1.4 against 2, 1.2, 0.4.
    #expect(try text(LogitAdjustments(frequencyPenalty: 0.8)) == "aababa")
    #expect(try text(LogitAdjustments(presencePenalty: 1.5)) == "abaaaa")
    #expect(try text(LogitAdjustments(presencePenalty: 1.5), prompt: "a") == "abaaaa")
    #expect(try text(LogitAdjustments(bias: [99: 5])) == "cccccc")
    #expect(try text(LogitAdjustments(bias: [97: -.infinity])) == "bbbbbb")
  }

  @Test func `draws follow them too`() throws {
    var options = GenerationOptions(
      maxTokens: 40, sampling: .random(RandomSampling(temperature: 0.5, topK: 2, seed: 3)))
    options.adjustments = LogitAdjustments(bias: [97: -.infinity, 98: -.infinity, 100: 20])
    let session = try Self.model.makeSession(prompt: [97], options: options)
    while try session.next() != nil {}
    #expect(session.generation.text == String(repeating: "d", count: 40))
  }

  @Test func `the most probable tokens at each place are told, of the model's own probabilities`() throws {
    var options = GenerationOptions(maxTokens: 3)
    options.topProbabilities = 2
    options.adjustments = LogitAdjustments(bias: [98: 5])
    let session = try Self.model.makeSession(prompt: [97], options: options)
    while try session.next() != nil {}
    let generation = session.generation
    #expect(generation.text == "bbb")
    #expect(generation.alternatives.count == 3 && generation.logProbabilities.count == 3)
    for (chosen, others) in zip(generation.logProbabilities, generation.alternatives) {
      #expect(others.map(\.token) == [97, 98])
      #expect(abs(others[0].logProbability - others[1].logProbability - 1) < 1e-6)
      #expect(chosen == others[1].logProbability)
    }
  }

  @Test func `values out of range are refused`() throws {
    for bad in [
      LogitAdjustments(repeatPenalty: 0), LogitAdjustments(frequencyPenalty: .nan),
      LogitAdjustments(presencePenalty: .infinity), LogitAdjustments(bias: [320: 1]),
      LogitAdjustments(bias: [-1: 1]),
      LogitAdjustments(bias: [1: .infinity]),
    ] {
      #expect(throws: GenerationError.self) { try text(bad) }
    }
  }
}
