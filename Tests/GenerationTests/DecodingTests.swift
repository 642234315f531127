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

  @Test func `prompts that come and go between passes get what they get alone`() throws {
    let prompts = (0..<30).map { index in (0...(index * 53) % 700).map { ($0 * 31 + index * 7) % 250 } }
    let options = GenerationOptions(maxTokens: 20)
    let (model, decoder) = LanguageModel.hashing()
    let alone = try prompts.map { prompt in
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      return session.generation
    }
    let batch = BatchDecoder(model: model, width: 4, promptParts: 1)
    var next = 0
    var steps: [Int: [TokenID]] = [:]
    var finished: [Int: Generation] = [:]
    var generator = SplitMix64(seed: 5)
    let cancelled: Set<Int> = [3, 11, 20]
    while next < prompts.count || !batch.isIdle {
      while next < prompts.count, generator.next() % 3 == 0 {
        batch.submit(prompt: prompts[next], options: options)
        next += 1
      }
      let before = decoder.batches.count
      try batch.step { ticket, event in
        switch event {
        case .token(let step):
          steps[ticket, default: []].append(step.id)
          if cancelled.contains(ticket) { batch.cancel(ticket) }
        case .finished(let generation): finished[ticket] = generation
        case .failed(let error): throw error
        }
      }
      // One part of a prompt at most, and one pass of those under way.
      #expect(decoder.batches.count - before <= 2)
    }
    for (index, generation) in alone.enumerated() {
      #expect(finished[index] == (cancelled.contains(index) ? nil : generation))
      let expected = cancelled.contains(index) ? Array(generation.tokenIDs.prefix(1)) : generation.tokenIDs
      #expect(steps[index] == expected)
    }
  }

  @Test func `a prompt at fault fails alone`() throws {
    let batch = BatchDecoder(model: .saying("Hello", after: 1))
    let wrong = batch.submit(prompt: [], options: GenerationOptions())
    let right = batch.submit(prompt: [97], options: GenerationOptions())
    var texts: [Int: String] = [:]
    var failures: [Int: String] = [:]
    while !batch.isIdle {
      try batch.step { ticket, event in
        switch event {
        case .token: break
        case .finished(let generation): texts[ticket] = generation.text
        case .failed(let error): failures[ticket] = "\(error)"
        }
      }
    }
    #expect(texts == [right: "Hello"])
    #expect(failures.keys.sorted() == [wrong])
  }

  @Test func `a beginning that was read before gives the same output, and is not read again`() throws {
    var tiny = TinyDecoder()
    tiny.contextLength = 1024
    let directory = try TemporaryDirectory()
    let path = try directory.write("tiny.gguf", tiny.gguf().build())
    let model = try LanguageModel(path: path, threads: 2)
    let document = (0..<400).map { ($0 * 37) % 256 }
    let requests = (0..<6).map { index in document.prefix(350 - index) + [10, index, 20 + index] }
    let options = GenerationOptions(maxTokens: 12)
    let alone = try requests.map { prompt in
      let session = try model.makeSession(prompt: Array(prompt), options: options)
      while try session.next() != nil {}
      return session.generation
    }
    let prefixes = PrefixCache(byteLimit: 1 << 24)
    let batch = BatchDecoder(model: model, prefixes: prefixes)
    for (prompt, expected) in zip(requests, alone) {
      #expect(try batch.run(prompts: [Array(prompt)], options: options) == [expected])
    }
    #expect(prefixes.reusedTokens >= 5 * 340)
    #expect(prefixes.byteCount <= prefixes.byteLimit)
    let small = PrefixCache(byteLimit: 1)
    let without = BatchDecoder(model: model, prefixes: small)
    for _ in 0..<2 {
      #expect(try without.run(prompts: [Array(requests[0])], options: options) == [alone[0]])
    }
    #expect(small.byteCount == 0 && small.reusedTokens == 0)
    // Prompts of one batch share what is being read, though nothing is kept of what is through.
    let together = PrefixCache(byteLimit: 1)
    let all = BatchDecoder(model: model, prefixes: together)
    #expect(try all.run(prompts: requests.map(Array.init), options: options) == alone)
    #expect(together.byteCount == 0 && together.reusedTokens >= 5 * 340)
    // A few tokens are not waited for, and nothing is where prompts are read by turns with passes.
    let turns = BatchDecoder(model: model, promptParts: 1, prefixes: PrefixCache(byteLimit: 1 << 24))
    #expect(try turns.run(prompts: requests.map(Array.init), options: options) == alone)
  }

  @Test func `a batch is as wide as it pays`() throws {
    // Tokens a second: 40, 80, 100, 101; 16 bring as many as 32, nearly.
    #expect(BatchWidth.best(of: [4: 0.1, 8: 0.1, 16: 0.16, 32: 32 / 101]) == 16)
    #expect(BatchWidth.best(of: [4: 0.1, 8: 0.2, 16: 0.41]) == 4)
    #expect(BatchWidth.best(of: [4: 0.1, 8: 0.1, 16: 0.1, 32: 0.1]) == 32)
    #expect(BatchWidth.best(of: [:]) == 1)
    let directory = try TemporaryDirectory()
    let path = try directory.write("tiny.gguf", TinyDecoder().gguf().build())
    let found = try BatchWidth(measuring: LanguageModel(path: path, threads: 1), limit: 8)
    #expect([4, 8].contains(found.width) && found.seconds[4].map { $0 > 0 } == true)
    let stopped = try BatchWidth(measuring: LanguageModel(path: path, threads: 1)) { true }
    #expect(stopped.width == 16 && stopped.seconds.isEmpty)
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
