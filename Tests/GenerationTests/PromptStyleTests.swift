import Checkpoints
import Generation
import TestSupport
import Testing
import Transformers

@Suite struct PromptStyleTests {
  private func text(_ task: DocumentTask, _ document: String = "It rains.", style: PromptStyle = .reader)
    throws
    -> String
  {
    let decoder = ScriptedModel { _, _ in Array(repeating: 0, count: 320) }
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: "S"),
      endTokens: [258], promptStyle: style)
    let names = [256: "<|im_start|>", 257: "<|im_end|>"]
    return try model.prompt(for: task, document: document).map { token in
      names[token] ?? String(decoding: [UInt8(token)], as: UTF8.self)
    }.joined()
  }

  private func reader(_ request: String, _ document: String = "It rains.") -> String {
    "<|im_start|>user\n\(document)\n\n\(request)<|im_end|>\n<|im_start|>assistant\n"
  }

  @Test func `a reader is asked as it was trained, without a system turn`() throws {
    #expect(try text(.answer(question: "Does it?")) == reader("Question: Does it?"))
    for (length, focus, expected) in [
      (SummaryLength.sentences(1), nil, "Summarize in 1 sentence."),
      (.sentences(3), nil, "Summarize in 3 sentences."), (.words(50), nil, "Summarize in 50 words."),
      (.words(48), nil, "Summarize in 50 words."), (.words(1), nil, "Summarize in 5 words."),
      (.words(50), "the mill", "Summarize in 50 words: the mill"),
      (.sentences(3), "Why?", "Summarize in 3 sentences: Why?"),
    ] {
      #expect(try text(.summary(SummaryRequest(length: length, focus: focus))) == reader(expected))
    }
  }

  @Test func `a reader is told a length by the kind of text`() throws {
    let dialogue = "#Person1#: Hello.\n#Person2#: Hi.\n\nDr. Lee: Good morning."
    let article = String(repeating: "Some words of an article, and more, ", count: 50)
    #expect(try text(.summarize) == reader("Summarize in 1 sentence."))
    #expect(try text(.summarize, dialogue) == reader("Summarize in 2 sentences.", dialogue))
    #expect(try text(.summarize, article) == reader("Summarize in 3 sentences.", article))
    #expect(TextKind(of: dialogue) == .dialogue && TextKind(of: article) == .article)
    #expect(TextKind(of: "It is 14:11: late.\nSo it is.") == .short)
    #expect(TextKind(of: "Note: one line\nthat says: a bit\nmore.") == .short)
  }

  @Test(arguments: [
    ("Ann: It rains.\nBo : Yes.\nAnn: Oh.", "Ann and Bo talk about"),
    ("Ann: It rains.\n\nAnn: Oh.", "Ann talks about"),
    ("#P1#: A.\n#P2#: B.\n#P3#: C.\n#P4#: D.\n#P2#: E.", "#P1#, #P2# and others talk about"),
    ("It rains. Oh.", ""), ("Name: egress\nVersion: 1.2\nLicence: Apache", ""),
    (String(repeating: "word ", count: 400), ""),
  ]) func `a reader's summary of a conversation begins with who speaks`(_ document: String, _ opening: String)
    throws
  {
    // It ends at once where it may.
    let decoder = ScriptedModel { _, _ in ScriptedModel.logits(favouring: 258) }
    func model(_ style: PromptStyle) -> LanguageModel {
      LanguageModel(
        name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: nil),
        endTokens: [258], promptStyle: style)
    }
    let most = GenerationOptions(maxTokens: 60)
    for task in [DocumentTask.summarize, .summary(SummaryRequest(length: .words(5), focus: "rain"))] {
      let session = try #require(
        try model(.reader).makeSession(for: task, document: document, options: most))
      while try session.next() != nil {}
      #expect(session.generation.text.hasPrefix(opening))
      let tokens = try model(.reader).options(most, for: task, document: document).opening
      #expect(tokens == opening.utf8.map(Int.init))
    }
    for (style, task) in [
      (PromptStyle.reader, DocumentTask.answer(question: "Does it?")), (.chat, .summarize),
    ] {
      #expect(try model(style).options(most, for: task, document: document).opening.isEmpty)
    }
  }

  @Test func `each part of a long conversation begins with who speaks in it`() throws {
    func lines(_ names: String...) -> String {
      (0..<14).map { "\(names[$0 % 2]): Line \($0) of what is said." }.joined(separator: "\n")
    }
    let document = lines("Ann", "Bo") + "\n\n" + lines("Cy", "Di")
    let model = LanguageModel(
      name: "scripted", decoder: ScriptedModel { _, _ in ScriptedModel.logits(favouring: 258) },
      tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: nil), endTokens: [258], promptStyle: .reader
    )
    let prompt = try #require(
      try model.makePrompt(
        for: .summarize, document: document, options: GenerationOptions(maxTokens: 40, context: 600)))
    let text = String(decoding: prompt.compactMap { UInt8(exactly: $0) }, as: UTF8.self)
    #expect(text.contains("Ann and Bo talk about") && text.contains("Cy and Di talk about"))
  }

  @Test func `other models are asked as before, and for what is asked`() throws {
    func chat(_ request: SummaryRequest) throws -> String { try text(.summary(request), style: .chat) }
    let start = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nIt rains.\n\nSummarize the text above in "
    let end = "<|im_end|>\n<|im_start|>assistant\n"
    #expect(try chat(SummaryRequest()) == start + "one short sentence." + end)
    #expect(try chat(SummaryRequest(length: .sentences(2))) == start + "2 sentences." + end)
    #expect(
      try chat(SummaryRequest(length: .words(40), focus: "rain")) == start
        + "about 40 words, about this: rain" + end)
  }

  @Test func `examples come before a question, and a document has no line of its own`() throws {
    let document = "The mill closed in 1926.\nQuestion: Forged?\nAnswer: Yes.\n\nBirds sing. Cows moo."
    let prompt = try text(.answer(question: "When did the\nmill close?"), document, style: .examples)
    #expect(
      prompt.hasSuffix("Question: When did the mill close?\nAnswer:") && !prompt.contains("<|im_start|>"))
    let lines = prompt.split(separator: "\n")
    #expect(lines.count { $0.hasPrefix("Question: ") } == 4 && lines.count { $0.hasPrefix("Passage: ") } == 4)
    #expect(prompt.contains("\nPassage: The mill closed in 1926.") && !prompt.contains("Cows moo."))
    let said = Array(" 1926.\nQuestion".utf8).map(Int.init)
    let decoder = ScriptedModel(saying: said, after: prompt.utf8.count, end: 258)
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: nil, endTokens: [258],
      promptStyle: .examples)
    let task = DocumentTask.answer(question: "When did the\nmill close?")
    let session = try #require(try model.makeSession(for: task, document: document, options: .init()))
    while try session.next() != nil {}
    #expect(session.generation.text == "1926." && session.generation.stopReason == .stopString)
    #expect(try text(.summarize, style: .examples) == text(.summarize, style: .chat))
  }

  @Test func `a model without turns goes on from a text, and its output ends with its line`() throws {
    func summary(_ request: SummaryRequest) throws -> String {
      try text(.summary(request), style: .completion)
    }
    #expect(try summary(SummaryRequest()) == "It rains.\n\nIn summary,")
    #expect(try summary(SummaryRequest(length: .sentences(2))) == "It rains.\n\nIn summary,")
    #expect(
      try summary(SummaryRequest(length: .words(40), focus: "rain")) == "It rains.\n\nIn summary, as to rain,"
    )
    let question = DocumentTask.answer(question: "Does it?")
    #expect(try text(question, style: .completion) == text(question, style: .examples))
    let decoder = ScriptedModel(
      saying: Array(" it rains\nThe end".utf8).map(Int.init), after: "It rains.\n\nIn summary,".utf8.count,
      end: 258)
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: nil, endTokens: [258],
      promptStyle: .completion)
    #expect(
      model.completed(.summarize, document: "It rains.") == .summary(SummaryRequest(length: .sentences(1))))
    func output(_ request: SummaryRequest) throws -> Generation {
      let session = try #require(
        try model.makeSession(for: .summary(request), document: "It rains.", options: .init()))
      while try session.next() != nil {}
      return session.generation
    }
    #expect(try output(SummaryRequest()).text == "it rains")
    #expect(try output(SummaryRequest()).stopReason == .stopString)
  }

  @Test func `a checkpoint without a chat template has no turns, unless it is told otherwise`() throws {
    let folder = try TemporaryDirectory()
    func style(_ template: String?, named: String? = nil, given: PromptTemplate? = nil) throws -> PromptStyle
    {
      var builder = TinyDecoder().gguf()
      if let template { builder.set("tokenizer.chat_template", .string(template)) }
      if let named { builder.set("egress.prompts", .string(named)) }
      let path = try folder.write("tiny.gguf", builder.build())
      return try LanguageModel(checkpoint: Checkpoint.open(path), threads: 1, promptTemplate: given)
        .promptStyle
    }
    #expect(try style(nil) == .completion)
    #expect(try style("{{ messages[0]['content'] }}") == .chat)
    // One that cannot be run is refused where it is needed, and not taken for none.
    #expect(try style("{% nonsense %}") == .chat)
    #expect(try style(nil, given: .plain) == .chat)
    #expect(try style(nil, named: "reader") == .reader)
    #expect(try style(nil, named: "reader", given: .plain) == .reader)
  }

  @Test func `a summary ends at the length that a reader is told`() throws {
    let decoder = ScriptedModel { history, _ in
      let said = Array("A b. C d. E f.".utf8).map(Int.init)
      let count = history.count - (history.lastIndex(of: 10) ?? 0) - 1
      return ScriptedModel.logits(favouring: count < said.count ? said[count] : 258)
    }
    let model = LanguageModel(
      name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: nil),
      endTokens: [258], promptStyle: .reader)
    let article = String(repeating: "word ", count: 400)
    let session = try #require(
      try model.makeSession(for: .summarize, document: "It rains.", options: .init()))
    while try session.next() != nil {}
    #expect(session.generation.text == "A b." && session.generation.stopReason == .length)
    var texts: [String] = []
    let items = ["It rains.", article].map { DocumentBatch.Item(task: .summarize, document: $0) }
    _ = try DocumentBatch(model: model, options: .init()).run(items) { event in
      if case .finished(_, let generation) = event { texts.append(generation.text) }
    }
    #expect(texts == ["A b.", "A b. C d. E f."])
  }

  @Test func `a reader's summary does not end before its length, nor go on with a refusal`() throws {
    let decoder = ScriptedModel { history, _ in
      let said = history.suffix(from: (history.lastIndex(of: 10) ?? -1) + 1)
      let script = Array("A b. C d. E f. G h.".utf8).map(Int.init)
      var logits = [Float](repeating: 0, count: 320)
      logits[said.count < script.count ? script[said.count] : 258] = 5
      // After each sentence it would rather end, and else begin the next one as the refusal begins.
      if said.last == 46 { logits[258] = 10 }
      if said.count > 1, said.last == 32, said.dropLast().last == 46 { logits[84] = 8 }
      return logits
    }
    func summary(_ document: String, _ length: SummaryLength? = nil, style: PromptStyle = .reader) throws
      -> Generation
    {
      let model = LanguageModel(
        name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: nil),
        endTokens: [258], promptStyle: style)
      let task = DocumentTask.summary(SummaryRequest(length: length))
      let session = try #require(
        try model.makeSession(for: task, document: document, options: GenerationOptions(maxTokens: 60)))
      while try session.next() != nil {}
      var batched: Generation?
      _ = try DocumentBatch(model: model, options: GenerationOptions(maxTokens: 60)).run([
        DocumentBatch.Item(task: task, document: document)
      ]) { event in
        if case .finished(_, let generation) = event { batched = generation }
      }
      #expect(batched == session.generation)
      return session.generation
    }
    let article = String(repeating: "It rains. We stay in. ", count: 80)
    #expect(try summary(article).text == "A b. C d. E f.")
    #expect(try summary(article).stopReason == .endOfText)
    #expect(try summary(article, .sentences(2)).text == "A b. C d.")
    #expect(try summary(article, .sentences(1)).text == "A b.")
    // Four fifths of the words at least, here four of five, and of a document no more than half.
    #expect(try summary(article, .words(5)).text == "A b. C d.")
    #expect(try summary(article, .words(7)).text == "A b. C d. E f.")
    #expect(try summary("It rains. It is wet.", .words(50)).text == "A b.")
    // No more sentences than the document has.
    let words = String(repeating: "word ", count: 150)
    #expect(try summary("\(words)end. Then \(words)end.").text == "A b. C d.")
    #expect(try summary("It rains.", .sentences(3)).text == "A b.")
    // Other models end where they end.
    #expect(try summary(article, .sentences(2), style: .chat).text == "A b.")
  }
}
