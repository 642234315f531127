import Generation
import Synchronization
import TestSupport
import Testing
import Transformers

@Suite struct DocumentTests {
  private let paragraphs = (0..<30).map {
    "Paragraph \($0) begins here. It has a second sentence, and a third! Does it end?"
  }
  private var long: String { paragraphs.joined(separator: "\n\n") }

  private func prompts(_ model: LanguageModel, _ task: DocumentTask, _ rule: LongDocumentRule, context: Int)
    throws
    -> (final: String, notes: [LongDocumentNote])
  {
    var notes: [LongDocumentNote] = []
    let session = try #require(
      try model.makeSession(
        for: task, document: long, options: .init(maxTokens: 20, context: context), rule: rule,
        observe: { notes.append($0) }))
    let prompt = session.generation.promptTokenIDs.map { UInt8($0) }
    return (String(decoding: prompt, as: UTF8.self), notes)
  }

  @Test func `a document that fits is left alone`() throws {
    let (model, _) = LanguageModel.hashing()
    let (prompt, notes) = try prompts(model, .summarize, .split, context: 4096)
    #expect(prompt.contains(long) && notes.isEmpty)
  }

  @Test func `a long document is summarised in parts that together are all of it`() throws {
    let seen = Mutex<Set<String>>([])
    let decoder = ScriptedModel { history, _ in
      let text = String(decoding: history.compactMap { UInt8(exactly: $0) }, as: UTF8.self)
      _ = seen.withLock { $0.insert(text) }
      return ScriptedModel.logits(favouring: text.hasSuffix("zzz") ? 258 : 122)
    }
    let (prompt, notes) = try prompts(.scripted(decoder), .summarize, .split, context: 800)
    guard case .split(let tokens, let parts)? = notes.first else {
      Issue.record("no note")
      return
    }
    #expect(tokens == long.utf8.count && parts >= 4 && notes.count == 1)
    // The whole is made of one output a part, each three letters long.
    #expect(prompt.contains(Array(repeating: "zzz", count: parts).joined(separator: "\n")))
    let all = seen.withLock { $0 }
    for paragraph in paragraphs { #expect(all.contains { $0.contains(paragraph) }, "\(paragraph)") }
  }

  @Test func `truncating keeps the beginning and says how much`() throws {
    let (model, _) = LanguageModel.hashing()
    let (prompt, notes) = try prompts(model, .summarize, .truncate, context: 800)
    guard case .truncated(let tokens, let kept)? = notes.first else {
      Issue.record("no note")
      return
    }
    #expect(tokens == long.utf8.count && kept > 500 && kept < 800)
    #expect(prompt.contains(String(long.prefix(kept))) && !prompt.contains(paragraphs[20]))
    #expect(prompt.utf8.count + 20 <= 800)
  }

  @Test func `an answer reads the passages nearest to the question`() throws {
    let (model, _) = LanguageModel.hashing()
    let (prompt, notes) = try prompts(
      model, .answer(question: "Where does paragraph 23 begin?"), .split, context: 800)
    guard case .selected(_, let passages, let count)? = notes.first else {
      Issue.record("no note")
      return
    }
    #expect(passages < count && prompt.contains("Paragraph 23 begins here."))
  }

  @Test func `a text without a space is cut as well`() throws {
    let (model, _) = LanguageModel.hashing()
    let text = String(repeating: "x", count: 3000)
    var notes: [LongDocumentNote] = []
    let session = try model.makeSession(
      for: .summarize, document: text, options: .init(maxTokens: 20, context: 500),
      observe: { notes.append($0) })
    #expect(session != nil && !notes.isEmpty)
  }

  @Test func `empty documents and questions are refused`() throws {
    let (model, _) = LanguageModel.hashing()
    #expect(throws: GenerationError.emptyText(field: "document")) {
      try model.makeSession(for: .summarize, document: " \n", options: .init())
    }
    #expect(throws: GenerationError.emptyText(field: "question")) {
      try model.makeSession(for: .answer(question: " "), document: "text", options: .init())
    }
    #expect(
      throws: GenerationError.option(field: "question", expected: "a text with words", found: "marks alone")
    ) {
      try model.makeSession(for: .answer(question: "?!"), document: "text", options: .init())
    }
  }

  @Test func `a batch of documents gives what each gets alone, in order`() throws {
    let (model, _) = LanguageModel.hashing()
    let options = GenerationOptions(maxTokens: 20, context: 800)
    let documents = [long, "short", paragraphs[3], String(long.dropFirst(100)), "last"]
    let items = documents.map { DocumentBatch.Item(task: .summarize, document: $0) }
    let alone = try documents.map { document in
      let session = try #require(try model.makeSession(for: .summarize, document: document, options: options))
      while try session.next() != nil {}
      return session.generation
    }
    var order: [Int] = []
    let finished = try DocumentBatch(model: model, options: options, width: 4).run(items) { event in
      guard case .finished(let item, let generation) = event else { return }
      order.append(item)
      #expect(generation == alone[item])
    }
    #expect(finished && order == Array(documents.indices))
  }

  @Test func `questions about one document read it once, and get what each gets alone`() throws {
    var tiny = TinyDecoder()
    tiny.contextLength = 1024
    let directory = try TemporaryDirectory()
    let model = try LanguageModel(path: directory.write("tiny.gguf", tiny.gguf().build()), threads: 2)
    let document = (0..<60).map { "\($0 * 7919 % 997)" }.joined(separator: " ")
    let items = (0..<10).map {
      DocumentBatch.Item(task: .answer(question: "What is \($0)?"), document: $0 == 4 ? "another" : document)
    }
    let options = GenerationOptions(maxTokens: 12)
    func run(_ batch: DocumentBatch, _ items: [DocumentBatch.Item]) throws -> [Generation] {
      var found: [Generation] = []
      _ = try batch.run(items) { if case .finished(_, let generation) = $0 { found.append(generation) } }
      return found
    }
    let alone = try items.flatMap { item in
      try run(DocumentBatch(model: model, options: options, raw: true, width: 1), [item])
    }
    let length = alone[0].promptTokenIDs.count
    for width in [1, 3, 16] {
      let batch = DocumentBatch(model: model, options: options, raw: true, width: width)
      #expect(try run(batch, items) == alone)
      // All but the first of the nine begin with most of the prompt of the first: up to the question.
      #expect(batch.sharedTokens > 8 * (length - 70), "\(width): \(batch.sharedTokens) of \(length)")
    }
  }

  @Test func `a batch stops when it is told to`() throws {
    let (model, _) = LanguageModel.hashing()
    let items = Array(repeating: DocumentBatch.Item(task: .summarize, document: "text"), count: 50)
    var asked = 0
    let batch = DocumentBatch(model: model, options: .init(maxTokens: 9), width: 2) {
      asked += 1
      return asked > 60
    }
    var finished = 0
    let isComplete = try batch.run(items) { if case .finished = $0 { finished += 1 } }
    #expect(!isComplete && finished > 0 && finished < 50)
  }
}
