import Generation
import TestSupport
import Testing
import Transformers

@Suite struct SamplingTests {
  /// Draws the first token many times from fixed logits.
  private func frequencies(_ logits: [Float], _ sampling: (UInt64) -> RandomSampling, draws: Int = 4000)
    throws
    -> [Int: Double]
  {
    let padded = logits + Array(repeating: -Float.infinity, count: 320 - logits.count)
    let model = LanguageModel.scripted(ScriptedModel { _, _ in padded })
    // One long output is as good as many short ones, and faster.
    let options = GenerationOptions(maxTokens: draws, sampling: .random(sampling(7)))
    let session = try model.makeSession(prompt: [1], options: options)
    var counts: [Int: Double] = [:]
    while let step = try session.next() { counts[step.id, default: 0] += 1 / Double(draws) }
    return counts
  }

  private let logits: [Float] = [1, 3, 2, 0]
  private let weights = [2.718281828, 20.08553692, 7.389056099, 1.0]

  private func expect(
    _ found: [Int: Double], _ weights: [Int: Double], sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let sum = weights.values.reduce(0, +)
    #expect(Set(found.keys) == Set(weights.keys), sourceLocation: sourceLocation)
    // Five standard deviations of 4,000 draws are at most 0.04.
    for (token, weight) in weights {
      #expect(abs((found[token] ?? 0) - weight / sum) < 0.04, sourceLocation: sourceLocation)
    }
  }

  @Test func `draws follow the softmax`() throws {
    expect(
      try frequencies(logits) { .init(seed: $0) },
      [0: weights[0], 1: weights[1], 2: weights[2], 3: weights[3]])
  }

  @Test func `the temperature flattens the softmax`() throws {
    expect(
      try frequencies(logits) { .init(temperature: 2, seed: $0) },
      [0: weights[0].squareRoot(), 1: weights[1].squareRoot(), 2: weights[2].squareRoot(), 3: 1])
  }

  @Test func `filters keep the right tokens`() throws {
    expect(try frequencies(logits) { .init(topK: 2, seed: $0) }, [1: weights[1], 2: weights[2]])
    // 0.644 of the mass is token 1's, 0.881 with token 2's.
    expect(try frequencies(logits) { .init(topP: 0.64, seed: $0) }, [1: 1])
    expect(try frequencies(logits) { .init(topP: 0.88, seed: $0) }, [1: weights[1], 2: weights[2]])
    // Token 0 is e^-2 = 0.135 times as probable as token 1, token 3 e^-3 = 0.0498 times.
    expect(
      try frequencies(logits) { .init(minP: 0.1, seed: $0) }, [0: weights[0], 1: weights[1], 2: weights[2]])
    expect(try frequencies(logits) { .init(topK: 3, topP: 0.88, minP: 0.5, seed: $0) }, [1: 1])
  }

  @Test func `equal logits are ranked by number`() throws {
    expect(try frequencies([2, 2, 2, 2]) { .init(topK: 2, seed: $0) }, [0: 1, 1: 1])
  }

  @Test func `the first draws of a seed are the same for ever`() throws {
    let model = LanguageModel.scripted(ScriptedModel { _, _ in Array(repeating: 0, count: 320) })
    let session = try model.makeSession(
      prompt: [1], options: .init(maxTokens: 4, sampling: .random(.init(seed: 1_234_567))))
    var ids: [Int] = []
    while let step = try session.next() { ids.append(step.id) }
    // SplitMix64 from 1234567 gives 6457827717110365317, 3203168211198807973, 9817491932198370423,
    // 4593380528125082431 (the reference values of its authors' code); times 320 / 2^64.
    #expect(ids == [112, 55, 170, 79])
  }
}
