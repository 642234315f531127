import Generation
import TestSupport
import Testing
import Transformers

@Suite struct DecodingTests {
  private func run(_ model: LanguageModel, _ prompt: String = "ab", _ options: GenerationOptions = .init())
    throws
    -> (steps: [TokenStep], generation: Generation)
  {
    let session = try model.makeSession(prompt: prompt.utf8.map(Int.init), options: options)
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    return (steps, session.generation)
  }

  @Test func `greedy decoding says what the decoder thinks, up to the end token`() throws {
    let (steps, generation) = try run(.saying("Hello", after: 2))
    #expect(generation.text == "Hello" && generation.stopReason == .endOfText)
    #expect(generation.tokenIDs == "Hello".utf8.map(Int.init) + [258])
    #expect(steps.map(\.text).joined() == "Hello")
    #expect(steps.allSatisfy { $0.layer == 4 } && steps.last?.stopReason == .endOfText)
  }

  @Test func `the token limit and the context end the output`() throws {
    let limited = try run(.saying("Hello", after: 2), "ab", .init(maxTokens: 3))
    #expect(limited.generation.text == "Hel" && limited.generation.stopReason == .maxTokens)
    let full = try run(.saying("Hello", after: 2), "ab", .init(context: 6))
    #expect(full.generation.text == "Hell" && full.generation.stopReason == .contextFull)
  }

  @Test func `a character in several tokens is shown once it is whole`() throws {
    let (steps, generation) = try run(.saying("é€😀", after: 2))
    #expect(steps.map(\.text) == ["", "é", "", "", "€", "", "", "", "😀", ""])
    #expect(generation.text == "é€😀")
    let cut = try run(.saying("a😀", after: 2), "ab", .init(maxTokens: 3))
    #expect(cut.generation.text == "a\u{FFFD}" && cut.steps.map(\.text).joined() == cut.generation.text)
  }

  @Test(arguments: [
    ("one two END three", ["END"], "one two "),
    ("aaab", ["aab"], "a"),
    ("xyz", ["yz", "xyzw"], "x"),
    ("abcabd", ["abd", "bc"], "a"),
    ("ENEND", ["END"], "EN"),
    ("no stop EN", ["END"], "no stop EN"),
    ("é stop", ["stop"], "é "),
  ])
  func `a stop string ends the output before it`(text: String, stops: [String], expected: String) throws {
    let (steps, generation) = try run(.saying(text, after: 2), "ab", .init(stopStrings: stops))
    #expect(generation.text == expected)
    #expect(steps.map(\.text).joined() == expected)
    #expect(generation.stopReason == (expected == text ? .endOfText : .stopString))
    // Nothing is ever shown that would have to be taken back.
    var shown = ""
    for step in steps {
      shown += step.text
      #expect(expected.hasPrefix(shown))
    }
  }

  @Test func `cancelling keeps the text so far and looks before each token`() throws {
    let model = LanguageModel.saying("Hello EN world", after: 2)
    var asked = 0
    let session = try model.makeSession(prompt: [97, 98], options: .init(stopStrings: ["END"])) {
      asked += 1
      return asked > 10
    }
    var shown = ""
    while let step = try session.next() { shown += step.text }
    #expect(session.stopReason == .cancelled)
    #expect(shown + session.cancelledText == session.generation.text)
    #expect(session.generation.text == "Hello EN " || session.generation.text == "Hello EN")
    #expect(!session.cancelledText.isEmpty || session.generation.text.hasSuffix(" "))
    #expect(try session.next() == nil)
  }

  @Test func `a long prompt goes through in chunks and is seen whole`() throws {
    let (model, decoder) = LanguageModel.hashing()
    let prompt = (0..<700).map { $0 % 200 }
    let session = try model.makeSession(prompt: prompt, options: .init(maxTokens: 2))
    let first = try #require(try session.next())
    #expect(decoder.batches == [256, 256, 188])
    // The same prompt with another first token must give another path, or the chunks do not see each other.
    let other = try model.makeSession(prompt: [1] + prompt.dropFirst(), options: .init(maxTokens: 2))
    let second = try #require(try other.next())
    #expect(first.id != second.id)
  }

  @Test func `a batch gives each prompt what it gets alone`() throws {
    let prompts = (0..<40).map { index in (0...index % 9).map { ($0 * 31 + index * 7) % 250 } }
    let options = GenerationOptions(
      maxTokens: 30, sampling: .random(.init(temperature: 3, topP: 0.9, seed: 11)), stopStrings: ["q"])
    let (model, decoder) = LanguageModel.hashing()
    let alone = try prompts.map { prompt in
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      return session.generation
    }
    for width in [1, 3, 16, 100] {
      let batch = BatchDecoder(model: model, width: width)
      #expect(try batch.run(prompts: prompts, options: options) == alone)
      #expect(batch.width == min(width, 32))
    }
    #expect(decoder.batches.contains(32))
    #expect(Set(alone.map(\.stopReason)).count > 1)
  }

  @Test func `options out of range and prompts that do not fit are refused`() throws {
    let model = LanguageModel.saying("x", after: 2)
    func refuses(_ options: GenerationOptions, prompt: [TokenID] = [97]) {
      #expect(throws: GenerationError.self) { try model.makeSession(prompt: prompt, options: options) }
    }
    refuses(.init(maxTokens: 0))
    refuses(.init(context: 1))
    refuses(.init(context: 4097))
    refuses(.init(stopStrings: [""]))
    refuses(.init(), prompt: [])
    refuses(.init(context: 4), prompt: [1, 2, 3, 4])
    for random in [
      RandomSampling(temperature: 0, seed: 1), .init(temperature: .infinity, seed: 1),
      .init(topK: 0, seed: 1),
      .init(topP: 0, seed: 1), .init(topP: 1.1, seed: 1), .init(minP: -0.1, seed: 1),
    ] {
      refuses(.init(sampling: .random(random)))
    }
  }

  @Test func `the stream gives the same steps and stops when it is left`() async throws {
    let model = LanguageModel.saying("Hello", after: 2)
    var text = ""
    for try await step in model.generate("ab") { text += step.text }
    #expect(text == "Hello")
    for try await step in model.generate("ab") {
      #expect(step.text == "H")
      break
    }
  }

  @Test func `scores are the logarithms of the probabilities`() throws {
    // Token t is followed by t + 1 with odds e^10 : 1 against each of the 319 others.
    let model = LanguageModel.scripted(
      ScriptedModel { history, _ in ScriptedModel.logits(favouring: (history[history.count - 1] + 1) % 320) })
    let tokens = Array(0..<70) + [5]
    let score = try #require(try model.score(tokens: tokens))
    let likely = 10 - 10.01437870674468
    #expect(score.logprobs.count == 70)
    #expect(score.logprobs.dropLast().allSatisfy { abs($0 - likely) < 1e-5 })
    #expect(abs(score.logprobs[69] - (likely - 10)) < 1e-5)
    #expect(throws: GenerationError.tooFewTokens(found: 1)) { try model.score(tokens: [1]) }
  }
}
