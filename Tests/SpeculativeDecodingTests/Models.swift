import EarlyExit
import Generation
import SpeculativeDecoding
import TestSupport
import Testing
import Transformers

/// A tiny random model that is decoded for real.
func tinyModel(seed: UInt64, layers: Int = 2, _ change: (inout TinyDecoder) -> Void = { _ in }) throws
  -> LanguageModel
{
  var tiny = TinyDecoder()
  tiny.seed = seed
  tiny.layerCount = layers
  change(&tiny)
  let directory = try TemporaryDirectory()
  let path = try directory.write("tiny-\(seed).gguf", tiny.gguf().build())
  return try LanguageModel(path: path, threads: 1)
}

extension LanguageModel {
  /// The same model with other end tokens.
  func ending(with tokens: Set<TokenID>) -> LanguageModel {
    LanguageModel(
      name: name, decoder: decoder, tokenizer: tokenizer, promptTemplate: promptTemplate, endTokens: tokens)
  }

  /// The same model as a reader that refuses about half of random questions.
  func refusing(layer: Int) -> LanguageModel {
    var reader = LanguageModel(
      name: name, decoder: decoder, tokenizer: tokenizer, promptTemplate: promptTemplate,
      endTokens: endTokens, promptStyle: .reader)
    let weights = (0..<decoder.configuration.hiddenSize).map { Float($0 % 5) / 5 - 0.4 }
    reader.answerability = AnswerabilityClassifier(layer: layer, weights: weights, bias: 0, threshold: 0.5)
    return reader
  }

  func plain(
    _ prompt: [TokenID], _ options: GenerationOptions, exits: ExitStrategy? = nil
  ) throws -> Generation {
    let session = try makeSession(prompt: prompt, options: options, exits: exits)
    while try session.next() != nil {}
    return session.generation
  }
}

/// Drafts the first tokens of an answer that is known, the first of them wrong from time to time.
final class ScriptedDrafter: Drafter {
  let profile = DrafterProfile(writer: .draft)
  private let answer: [TokenID]
  private let promptCount: Int
  private let wrongEvery: Int

  init(answer: [TokenID], promptCount: Int, wrongEvery: Int) {
    self.answer = answer
    self.promptCount = promptCount
    self.wrongEvery = wrongEvery
  }

  func draft(after history: [TokenID], limit: Int, target: DraftTarget) -> Draft {
    let place = history.count - promptCount
    guard place < answer.count else { return Draft() }
    var tokens = Array(answer[place..<min(place + limit, answer.count)])
    for index in tokens.indices where (place + index) % wrongEvery == wrongEvery - 1 {
      tokens[index] = (tokens[index] + 1) % 256
    }
    return Draft(tokens: tokens)
  }

  func crop(to count: Int) {}
}

struct Run {
  var generation: Generation
  var statistics: SpeculationStatistics
  var text: String
}

func run(_ session: SpeculativeSession) throws -> Run {
  var text = ""
  while let step = try session.next() { text += step.text }
  return Run(generation: session.generation, statistics: session.statistics, text: text)
}

func randomPrompt(_ random: inout SplitMix64, count: Int) -> [TokenID] {
  // A small alphabet, so that n-grams come again.
  (0..<count).map { _ in Int.random(in: 60..<72, using: &random) }
}

/// Decodes random prompts with drafts and without, and expects the same of both: greedily and at a temperature, with
/// any end token, and at the end of a context.
///
/// - Parameter makeSession: A session for the case of that number.
/// - Returns: Drafted tokens that were accepted, and drafts that were cut.
func expectExact(
  _ base: LanguageModel, cases: Int, random: inout SplitMix64,
  makeSession: (
    _ number: Int, _ model: LanguageModel, _ prompt: [TokenID], _ options: GenerationOptions,
    _ random: inout SplitMix64
  ) throws -> SpeculativeSession
) throws -> (accepted: Int, rollbacks: Int) {
  var (accepted, rollbacks) = (0, 0)
  for number in 0..<cases {
    let model = number % 4 == 1 ? base.ending(with: [Int.random(in: 0..<272, using: &random)]) : base
    let prompt = randomPrompt(&random, count: Int.random(in: 1...40, using: &random))
    var options = GenerationOptions(maxTokens: Int.random(in: 1...24, using: &random))
    if number % 4 == 2 {
      options.sampling = .random(RandomSampling(temperature: 0.5, seed: UInt64(number)))
    }
    if number % 4 == 3 { options.context = prompt.count + Int.random(in: 1...12, using: &random) }
    let expected = try model.plain(prompt, options)
    let found = try run(makeSession(number, model, prompt, options, &random))
    #expect(found.generation == expected)
    #expect(found.text == expected.text)
    accepted += found.statistics.accepted
    rollbacks += found.statistics.rollbacks
  }
  return (accepted, rollbacks)
}
