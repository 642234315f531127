import Generation
import TestSupport
import Testing
import Transformers

@Suite struct SentenceTests {
  private func sentences(_ text: String) -> [String] {
    SentenceBoundary.ranges(in: text[...]).map { String(text[$0]) }
  }

  @Test(arguments: [
    ["It rains.", "We stay in!", "Do you?", "Yes."],
    ["Dr. Smith and Mrs. Jones met at St. Mary's on Jan. 5.", "They left."],
    ["He lives in the U.S. Senate district.", "It is large."],
    ["He lives in the U.S.", "They do not."],
    ["J. K. Rowling wrote it.", "It sold 1,500.5 copies."],
    ["They sold ropes, sails, etc. at Harbour St. and left."],
    ["They sold ropes, sails, etc.", "The shop closed at 5 p.m.", "It reopened."],
    ["\"Stop!\" he said.", "(He meant it.)", "“Why?”", "Nobody knew…", "So what?!"],
    ["No. 5 is open.", "She said no.", "Then she left."],
    ["See Fig. 2 and e.g. Smith et al. (2019) for more.", "The rest is clear."],
    ["3. Stones are ground.", "4. Flour is sold."],
    ["これは文です。", "次の文！"],
    ["A title", "A paragraph\nin two lines ends here.", "Another"],
    ["Tom: hello there", "Ann B.: hi", "Tom: bye."],
    ["- one thing", "- another thing"],
  ])
  func `sentences end where sentences end`(_ expected: [String]) {
    let isLines = expected.contains { $0.hasPrefix("Tom:") || $0.hasPrefix("- ") }
    let isTitled = expected.first == "A title"
    let text = expected.joined(separator: isTitled ? "\n\n" : isLines ? "\n" : " ")
    #expect(sentences(text) == expected)
    #expect(sentences("\n " + text + " \n\n") == expected)
  }

  @Test func `a text without a sentence has none`() {
    #expect(sentences("").isEmpty && sentences(" \n\n ").isEmpty)
    #expect(sentences("no end") == ["no end"] && sentences("...") == ["..."])
  }

  /// The pieces are of every size from one letter to the whole.
  private func limited(_ text: String, _ length: SummaryLength, isCut: Bool = false) -> Set<String> {
    var outputs: Set<String> = []
    for size in [1, 2, 3, 5, 8, 13, 1000] {
      var limiter = SentenceLimiter(length)
      var output = ""
      var rest = text[...]
      var isOpen = true
      while isOpen, !rest.isEmpty {
        let (visible, isLongEnough) = limiter.push(String(rest.prefix(size)))
        output += visible
        isOpen = !isLongEnough
        rest = rest.dropFirst(size)
      }
      if isOpen { output += limiter.finish(isCut: isCut) }
      outputs.insert(output)
    }
    return outputs
  }

  private let text = "Dr. Lee came at 5 p.m. to the U.S. embassy. He left. \"Why?\" The door was shut. And"

  @Test func `a number of sentences ends a text before the next one`() {
    #expect(limited(text, .sentences(1)) == ["Dr. Lee came at 5 p.m. to the U.S. embassy."])
    #expect(limited(text, .sentences(2)) == ["Dr. Lee came at 5 p.m. to the U.S. embassy. He left."])
    #expect(limited(text, .sentences(9)) == [text])
    #expect(limited("One. ", .sentences(1)) == ["One. "])
  }

  @Test func `a sentence that says itself again ends a text`() {
    let loop = "He was found guilty of a long and careful fraud (pictured) "
    for size in [1, 4, 7] {
      var limiter = SentenceLimiter(.sentences(3))
      var output = ""
      for start in stride(from: 0, to: 20 * loop.count, by: size) {
        let text = String(repeating: loop, count: 21)
        let from = text.index(text.startIndex, offsetBy: start)
        let (visible, isOver) = limiter.push(String(text[from..<text.index(from, offsetBy: size)]))
        output += visible
        if isOver { break }
      }
      #expect(output.hasPrefix(loop) && output.count < 2 * loop.count)
    }
    // As a later sentence it is not shown at all.
    #expect(limited("He left. " + loop + loop, .sentences(3), isCut: true) == ["He left."])
    #expect(limited("They came, they saw it, and they came again.", .sentences(1)).count == 1)
  }

  @Test func `a budget of words ends a text at a sentence`() {
    // 10, 2, 1, 4 and 1 words.
    let all = [
      "Dr. Lee came at 5 p.m. to the U.S. embassy.", " He left.", " \"Why?\"", " The door was shut.",
    ]
    func first(_ count: Int) -> Set<String> { [all.prefix(count).joined()] }
    #expect(limited(text, .words(3)) == first(1))
    #expect(limited(text, .words(10)) == first(1))
    // The second one goes past 11 by a word, which is within a fifth.
    #expect(limited(text, .words(11)) == first(2))
    // The third goes up to 13, the fourth would be 17.
    #expect(limited(text, .words(13)) == first(3))
    #expect(limited(text, .words(14)) == first(3))
    #expect(limited(text, .words(15)) == first(4))
  }

  @Test func `what was cut from outside ends at a sentence where it has one`() {
    #expect(limited("One is. Two is. Thr", .sentences(5), isCut: true) == ["One is. Two is."])
    #expect(limited("One is. Two is.", .sentences(5), isCut: true) == ["One is. Two is."])
    #expect(limited("One is not", .sentences(5), isCut: true) == ["One is not"])
    #expect(limited("One is. Two", .words(5)) == ["One is. Two"])
  }

  @Test func `a text ends before a sentence that says again what was said`() {
    let chair = "He sat on the red chair."
    #expect(limited("\(chair) He left. \(chair) The end.", .sentences(9)) == ["\(chair) He left."])
    #expect(limited("\(chair) He left. \(chair)", .sentences(9)) == ["\(chair) He left."])
    #expect(limited("It is. It is! Or not.", .words(50)) == ["It is."])
    // Four of its six runs of three words stand in the first sentence; of the other's five one does.
    let cat = "The cat sat on the mat today."
    #expect(limited("\(cat) So the cat sat on the mat again.", .sentences(3)) == [cat])
    let two = "\(cat) Then the cat sat elsewhere for once."
    #expect(limited(two, .sentences(3)) == [two])
  }

  @Test func `decoding keeps the length, whatever is decoded with it`() throws {
    let said = "It is. They are, e.g. now. We go"
    let prompt = Array("p".utf8).map(Int.init)
    for (length, expected, reason) in [
      (SummaryLength.sentences(1), "It is.", StopReason.length),
      (.sentences(2), "It is. They are, e.g. now.", .length),
      (.words(2), "It is.", .length), (.sentences(3), said, .endOfText),
    ] {
      let model = LanguageModel.saying(said, after: 1)
      let options = GenerationOptions(length: length)
      let session = try model.makeSession(prompt: prompt, options: options)
      var shown = ""
      while let step = try session.next() { shown += step.text }
      #expect(session.generation.text == expected && session.generation.stopReason == reason)
      #expect(shown == expected)
      let batch = try #require(
        try BatchDecoder(model: model).run(prompts: [prompt, prompt], options: options))
      #expect(batch == [session.generation, session.generation])
    }
  }

  @Test func `tokens that run out leave no half sentence`() throws {
    let model = LanguageModel.saying("It is. They are.", after: 1)
    var options = GenerationOptions(maxTokens: 12, length: .sentences(3))
    #expect(try generation(model, options).text == "It is.")
    #expect(try generation(model, options).stopReason == .maxTokens)
    options.length = nil
    #expect(try generation(model, options).text == "It is. They ")
    options.length = .sentences(0)
    #expect(throws: GenerationError.option(field: "sentences", expected: "in 1...100", found: "0")) {
      try generation(model, options)
    }
  }

  private func generation(_ model: LanguageModel, _ options: GenerationOptions) throws -> Generation {
    let session = try model.makeSession(prompt: [112], options: options)
    while try session.next() != nil {}
    return session.generation
  }
}
