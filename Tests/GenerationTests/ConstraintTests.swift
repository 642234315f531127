import Generation
import TestSupport
import Testing
import Transformers

@Suite struct ConstraintTests {
  @Test(arguments: 1...40) func `a suffix automaton reads a text's substrings and nothing else`(
    _ seed: UInt64
  ) {
    var random = SplitMix64(seed: seed)
    let letters = UInt8.random(in: 1...4, using: &random)
    func text(_ length: Int) -> [UInt8] {
      (0..<length).map { _ in UInt8.random(in: 0..<letters, using: &random) }
    }
    let all = text(Int.random(in: 0...60, using: &random))
    let automaton = SuffixAutomaton(all)
    #expect(automaton.stateCount <= max(2 * all.count, 1) + 1)
    func reads(_ part: [UInt8]) -> Bool {
      var state: SuffixAutomaton.State? = SuffixAutomaton.root
      for symbol in part { state = state.flatMap { automaton.step($0, symbol) } }
      return state != nil
    }
    func holds(_ part: [UInt8]) -> Bool {
      part.isEmpty || all.indices.contains { all[$0...].starts(with: part) }
    }
    for _ in 0..<200 {
      let part = text(Int.random(in: 0...8, using: &random))
      #expect(reads(part) == holds(part))
    }
    for start in all.indices { #expect(reads(Array(all[start...].prefix(12)))) }
  }

  private let document = "The mill of 1,926 “old”\n  stones: a—b, c.  Äpfel and the mill!"

  /// Whether an output may be a text, byte by byte, and end there.
  private func allows(_ text: String, _ document: String? = nil) throws -> Bool {
    let (model, _) = LanguageModel.hashing()
    let spans = try model.spans(of: document ?? self.document)
    var position: DocumentSpans.Position? = spans.start
    for byte in text.utf8 { position = position.flatMap { spans.next($0, Int(byte)) } }
    return position.flatMap { spans.next($0, 258) } != nil
  }

  @Test(arguments: [
    "The mill", " mill", "mill", "1,926", "old", "“old”", "“old” stones: a", "a", "b, c", "Äpfel",
    "the mill!",
    "The text does not say.", ".", "old” stones",
  ])
  func `whole words that stand together may be an answer`(_ text: String) throws {
    #expect(try allows(text))
  }

  @Test(arguments: [
    "", "mil", "ill", "1", "926", "1,9", "Äpfe", "pfel", "mill 1,926", "stones:a", "The text does not",
    "The text", "MILL",
    "old”\n  stones", "<|im_end|>", "mill!x", "The text does not say. The",
  ])
  func `nothing else may`(_ text: String) throws {
    #expect(try !allows(text))
  }

  @Test func `at every place of a document some token may follow`() throws {
    let (model, _) = LanguageModel.hashing()
    let spans = try model.spans(of: document)
    var position = spans.start
    var random = SplitMix64(seed: 3)
    for _ in 0..<500 {
      let open = spans.neededTokens.filter { $0 != 258 && spans.next(position, $0) != nil }
      guard let token = open.randomElement(using: &random), let next = spans.next(position, token) else {
        #expect(spans.mayEnd(position))
        position = spans.start
        continue
      }
      position = next
    }
  }

  @Test(arguments: [
    "The mill closed. It was old; the gates rotted, and 1,926 stones fell.", "x", "ab ab ab ab ab",
  ])
  func `decoding keeps to spans, alone, in a batch and sampled`(_ document: String) throws {
    let (model, _) = LanguageModel.hashing()
    var options = GenerationOptions(maxTokens: 200, isExtractive: true)
    options = try model.options(options, for: .answer(question: "?"), document: document)
    let prompts = (0..<12).map { Array("prompt \($0)".utf8).map(Int.init) }
    let batch = try #require(try BatchDecoder(model: model).run(prompts: prompts, options: options))
    for (prompt, output) in zip(prompts, batch) {
      let session = try model.makeSession(prompt: prompt, options: options)
      while try session.next() != nil {}
      #expect(session.generation == output)
      #expect(output.stopReason == .endOfText)
      #expect(try allows(output.text, document), "\(output.text)")
      var drawn = options
      drawn.sampling = .random(RandomSampling(temperature: 3, topK: 50, seed: 9))
      let random = try model.makeSession(prompt: prompt, options: drawn)
      while try random.next() != nil {}
      #expect(try random.stopReason == .maxTokens || allows(random.generation.text, document))
    }
    #expect(throws: GenerationError.self) {
      try model.options(.init(isExtractive: true), for: .summarize, document: document)
    }
  }

  @Test(arguments: 1...5) func `no run of tokens comes twice`(_ length: Int) throws {
    // It says "ab" for ever, with "c", "d" and so on next best.
    let decoder = ScriptedModel { history, _ in
      var logits = [Float](repeating: 0, count: 320)
      for (rank, token) in (97..<123).enumerated() { logits[token] = 5 - Float(rank) * 0.1 }
      logits[history.last == 97 ? 98 : 97] = 10
      return logits
    }
    let model = LanguageModel.scripted(decoder)
    func output(_ length: Int?) throws -> [Int] {
      let session = try model.makeSession(
        prompt: [112], options: GenerationOptions(maxTokens: 20, noRepeatNgram: length))
      while try session.next() != nil {}
      return session.generation.tokenIDs
    }
    let tokens = try output(length)
    let runs = (0...tokens.count - length).map { Array(tokens[$0..<$0 + length]) }
    #expect(Set(runs).count == runs.count)
    #expect(tokens.prefix(length).elementsEqual([97, 98, 97, 98, 97].prefix(length)))
    #expect(try output(nil) == (0..<20).map { 97 + $0 % 2 })
  }

  @Test(arguments: [
    ([], [97, 98, 97, 98]), ([97], [99, 97, 98, 97]), ([97, 98], [97, 99, 97, 98]), ([98], [97, 98, 97, 98]),
    ([97, 98, 97], [97, 98, 99, 97]), ([97, 99], [97, 98, 97, 98]),
  ]) func `an output does not begin with what it may not`(_ opening: [Int], _ expected: [Int]) throws {
    // It says "ab" for ever, with "c" next best.
    let decoder = ScriptedModel { history, _ in
      var logits = [Float](repeating: 0, count: 320)
      logits[99] = 5
      logits[history.last == 97 ? 98 : 97] = 10
      return logits
    }
    var options = GenerationOptions(maxTokens: 4)
    options.forbiddenOpening = opening
    let session = try LanguageModel.scripted(decoder).makeSession(prompt: [112], options: options)
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == expected)
  }

  @Test(arguments: [
    ([], [97, 98, 97, 98]), ([99], [99, 97, 98, 97]), ([101, 101, 102], [101, 101, 102, 97]),
    ([101, 100], [97, 98, 97, 98]),
  ]) func `an output begins with what it has to`(_ opening: [Int], _ expected: [Int]) throws {
    // It says "ab" for ever.
    let decoder = ScriptedModel { history, _ in
      var logits = [Float](repeating: 0, count: 320)
      logits[history.last == 97 ? 98 : 97] = 10
      return logits
    }
    var options = GenerationOptions(maxTokens: 4, noRepeatNgram: 3)
    options.opening = opening
    options.forbiddenOpening = [99]
    options.adjustments.bias = [100: -.infinity]
    let session = try LanguageModel.scripted(decoder).makeSession(prompt: [112], options: options)
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == expected)
    for token in [-1, 320] {
      options.opening = [97, token]
      #expect(
        throws: GenerationError.option(field: "opening", expected: "tokens in 0..<320", found: "\(token)")
      ) { try LanguageModel.scripted(decoder).makeSession(prompt: [112], options: options) }
    }
  }
}
