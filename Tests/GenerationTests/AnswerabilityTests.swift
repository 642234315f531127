import Checkpoints
import Foundation
import Generation
import TestSupport
import Testing
import Transformers

/// Whether a document answers a question, told from the prompt's own pass through the model.
@Suite struct AnswerabilityTests {
  private static let layerCount = 6
  private static let refusal = Array(PromptStyle.refusal.utf8).map(Int.init)
  private static let end = 258
  private static let document = String(repeating: "It rained on the mill. ", count: 30)

  /// Any words, so that what the model would rather say is seen.
  private static var free: GenerationOptions {
    var options = GenerationOptions(maxTokens: 30, isExtractive: false)
    options.recordsProbabilities = true
    return options
  }

  /// Of random weights; a short document and question have about 70 tokens, those of ``document`` more than a slice.
  private static func model(_ classifier: AnswerabilityClassifier?, endTokens: Set<TokenID> = [end]) throws
    -> LanguageModel
  {
    var tiny = TinyDecoder()
    (tiny.layerCount, tiny.vocabularySize, tiny.contextLength) = (layerCount, 320, 1200)
    let directory = try TemporaryDirectory()
    let checkpoint = try Checkpoint.open(directory.write("tiny.gguf", tiny.gguf().build()))
    var model = LanguageModel(
      name: "tiny", decoder: try Transformer(checkpoint: checkpoint, threads: 1), tokenizer: ByteTokenizer(),
      promptTemplate: .chatML(system: nil), endTokens: endTokens, promptStyle: .reader)
    model.answerability = classifier
    return model
  }

  /// One that reads a layer, and whose weights are all different.
  private static func classifier(layer: Int, bias: Double = 0, threshold: Double = 0.5)
    -> AnswerabilityClassifier
  {
    let weights = (0..<64).map { Float($0 % 7) / 7 - 0.4 }
    return AnswerabilityClassifier(layer: layer, weights: weights, bias: bias, threshold: threshold)
  }

  private static func output(
    _ model: LanguageModel, _ question: String, _ document: String = document, depth: Int? = nil,
    raw: Bool = false
  ) throws -> Generation {
    var options = free
    options.promptDepth = depth
    let session = try #require(
      try model.makeSession(
        for: .answer(question: question), document: document, options: options, raw: raw,
        shouldStop: { false }))
    while try session.next() != nil {}
    return session.generation
  }

  /// The probability by its definition, in double precision: a token and a layer at a time.
  private static func probability(_ model: LanguageModel, _ prompt: [TokenID], layer: Int, bias: Double)
    throws -> Double
  {
    let cache = try model.decoder.makeCache(capacity: prompt.count)
    let state = HiddenStates(hiddenSize: 64, capacity: 1)
    for (position, token) in prompt.enumerated() {
      try model.decoder.embed([token], into: state)
      for index in 0..<layerCount {
        try model.decoder.advance(
          state, rows: [BatchRow(cache: cache, position: position)], layers: index..<index + 1)
        if index + 1 == layer, position == prompt.count - 1 {
          let values = state[0].map(Double.init)
          let size = (values.reduce(0) { $0 + $1 * $1 } / 64).squareRoot()
          let score = values.indices.reduce(bias) {
            $0 + Double(Float($1 % 7) / 7 - 0.4) * values[$1] / size
          }
          return 1 / (1 + exp(-score))
        }
      }
    }
    return .nan
  }

  @Test(arguments: [1, 3, 6])
  func `the last token of the prompt is looked at after a layer, as by the definition`(layer: Int) throws {
    let model = try Self.model(Self.classifier(layer: layer, bias: 0.3))
    for question in ["When did it rain?", "Who owns the mill, and why?"] {
      for document in ["It rains.", Self.document] {
        let found = try Self.output(model, question, document)
        let expected = try Self.probability(model, found.promptTokenIDs, layer: layer, bias: 0.3)
        #expect(abs(try #require(found.answerability) - expected) < 1e-5)
        #expect((found.text == PromptStyle.refusal) == (expected < 0.5))
      }
    }
  }

  @Test func `a question that is not answered is refused, and any other is not`() throws {
    // It says what it is asked for: "The text does not say." where the question has an n, else "The sun".
    let decoder = ScriptedModel { history, _ in
      let asked = String(decoding: history.filter { $0 < 256 }.map(UInt8.init), as: UTF8.self)
      let refuses = asked.contains("Question: n")
      let said = Array((refuses ? PromptStyle.refusal : "The sun").utf8).map(Int.init)
      let count = history.count - (history.lastIndex(of: 10) ?? 0) - 1
      var logits = ScriptedModel.logits(favouring: count < said.count ? said[count] : Self.end)
      logits[33] = 5
      return logits
    }
    func output(_ question: String, bias: Double?) throws -> Generation {
      var model = LanguageModel(
        name: "scripted", decoder: decoder, tokenizer: ByteTokenizer(), promptTemplate: .chatML(system: nil),
        endTokens: [Self.end], promptStyle: .reader)
      model.answerability = bias.map {
        AnswerabilityClassifier(layer: 2, weights: [0, 0, 0], bias: $0, threshold: 0.5)
      }
      return try Self.output(model, question, "It rains.")
    }
    #expect(try output("n", bias: nil).text == PromptStyle.refusal)
    #expect(try output("y", bias: nil).text == "The sun")
    #expect(try output("y", bias: nil).answerability == nil)
    let refused = try output("y", bias: -2)
    #expect(refused.tokenIDs == Self.refusal + [Self.end] && refused.stopReason == .endOfText)
    #expect(try output("n", bias: -2).text == PromptStyle.refusal)
    // The first token of a refusal is not allowed: the next best is taken, and it goes on from there.
    #expect(try output("n", bias: 2).text == "!" + PromptStyle.refusal.dropFirst())
    #expect(try output("y", bias: 2).text == "!he sun")
  }

  @Test func `an answer's confidence is the model's, and a refusal's the classifier's`() throws {
    let no = try Self.output(Self.model(Self.classifier(layer: 3, threshold: 1)), "Why?")
    let yes = try Self.output(Self.model(Self.classifier(layer: 3, threshold: 0)), "Why?")
    let probability = try #require(no.answerability)
    #expect(probability == yes.answerability)
    let refused = DocumentAnswer(no, document: Self.document, question: "Why?")
    let answer = DocumentAnswer(yes, document: Self.document, question: "Why?")
    #expect(!refused.answered && refused.confidence == 1 - probability)
    #expect(answer.answered && answer.confidence == yes.confidence)
  }

  @Test(arguments: 1...22) func `a refusal that is cut is no answer`(maxTokens: Int) throws {
    let model = try Self.model(Self.classifier(layer: 3, threshold: 1))
    var options = Self.free
    options.maxTokens = maxTokens
    let session = try #require(
      try model.makeSession(for: .answer(question: "Why?"), document: Self.document, options: options))
    while try session.next() != nil {}
    #expect(session.generation.tokenIDs == Array(Self.refusal.prefix(maxTokens)))
    let answer = DocumentAnswer(session.generation, document: Self.document, question: "Why?")
    #expect(!answer.answered && answer.source == nil)
  }

  @Test func `batches, beams and a prompt read before decide alike`() throws {
    let threshold = try #require(try Self.output(Self.model(Self.classifier(layer: 4)), "a?").answerability)
    // About the middle of what there is, so that some are refused.
    let model = try Self.model(Self.classifier(layer: 4, threshold: threshold))
    let questions = (0..<8).map { "question \($0 * $0)?" }
    let alone = try questions.map { try Self.output(model, $0) }
    var together: [Generation] = []
    _ = try DocumentBatch(model: model, options: Self.free, width: 3).run(
      questions.map { DocumentBatch.Item(task: .answer(question: $0), document: Self.document) }
    ) { event in
      if case .finished(_, let generation) = event { together.append(generation) }
    }
    #expect(together == alone)
    #expect(Set(alone.map { $0.text == PromptStyle.refusal }) == [true, false])
    for (question, expected) in zip(questions, alone) {
      let task = DocumentTask.answer(question: question)
      let own = try model.options(Self.free, for: task, document: Self.document)
      let beams = try model.generate(
        prompt: model.prompt(for: task, document: Self.document), search: BeamSearch(beams: 1), options: own,
        shouldStop: { false })
      #expect(beams?.tokenIDs == expected.tokenIDs)
    }
  }

  @Test(arguments: [2, 5]) func `a prompt that stops below or above the layer is decided on`(depth: Int)
    throws
  {
    let model = try Self.model(Self.classifier(layer: 4))
    for question in ["a?", "And where was that?"] {
      let full = try #require(try Self.output(model, question).answerability)
      let stopped = try #require(try Self.output(model, question, depth: depth).answerability)
      // The states below the depth are the same; above it the document's keys and values are others.
      #expect((stopped == full) == (depth == 5) && abs(stopped - full) < 0.3)
    }
  }

  @Test func `nobody asks of summaries, of requests that stand alone, or of a model that is no reader`()
    throws
  {
    let model = try Self.model(Self.classifier(layer: 3, threshold: 1))
    #expect(try Self.output(model, "Why?").text == PromptStyle.refusal)
    #expect(try Self.output(model, "Why?", raw: true).answerability == nil)
    let session = try #require(
      try model.makeSession(for: .summarize, document: "It rains.", options: .init(maxTokens: 9)))
    while try session.next() != nil {}
    #expect(session.generation.answerability == nil)
    var other = LanguageModel(
      name: "tiny", decoder: model.decoder, tokenizer: model.tokenizer, promptTemplate: .chatML(system: nil),
      endTokens: [Self.end], promptStyle: .chat)
    other.answerability = model.answerability
    #expect(try Self.output(other, "Why?").answerability == nil)
    // A bias that rules out a token of the refusal rules out the refusal.
    var options = GenerationOptions(maxTokens: 9)
    options.adjustments.bias = [Self.refusal[3]: -.infinity]
    let biased = try #require(
      try model.makeSession(for: .answer(question: "Why?"), document: "It rains.", options: options))
    while try biased.next() != nil {}
    #expect(biased.generation.text != PromptStyle.refusal && biased.generation.answerability != nil)
  }

  @Test(arguments: [(0, 64), (7, 64), (3, 63)]) func `a classifier of another model is refused`(
    layer: Int, size: Int
  ) throws {
    let other = AnswerabilityClassifier(
      layer: layer, weights: Array(repeating: 0, count: size), bias: 0, threshold: 0.5)
    let model = try Self.model(other)
    #expect(
      throws: GenerationError.option(
        field: "answerability", expected: "a classifier of 64 weights that reads a layer in 1...6",
        found: "one of \(size) that reads layer \(layer)")
    ) { _ = try Self.output(model, "Why?") }
  }

  @Test func `a reader's answers are spans, refused or not, unless it is told otherwise`() throws {
    for threshold in [0.0, 1] {
      let model = try Self.model(Self.classifier(layer: 3, threshold: threshold))
      func text(_ isExtractive: Bool?, style: PromptStyle = .reader) throws -> String {
        var own = LanguageModel(
          name: "tiny", decoder: model.decoder, tokenizer: model.tokenizer,
          promptTemplate: .chatML(system: nil), endTokens: [Self.end], promptStyle: style)
        own.answerability = model.answerability
        let session = try #require(
          try own.makeSession(
            for: .answer(question: "Why?"), document: Self.document,
            options: GenerationOptions(maxTokens: 30, isExtractive: isExtractive), shouldStop: { false }))
        while try session.next() != nil {}
        return session.generation.text
      }
      let usual = try text(nil)
      let (spans, free) = (try text(true), try text(false))
      #expect(usual == spans && (usual == PromptStyle.refusal) == (threshold == 1))
      if threshold == 0 {
        #expect(Self.document.contains(usual.trimmingWhitespace()))
        #expect(!Self.document.contains(free.trimmingWhitespace()))
      }
      // A chat model says what it likes.
      #expect(try text(nil, style: .chat) == text(false, style: .chat))
    }
  }

  @Test func `a file brings the classifier along, and what is wrong with it is said`() throws {
    let folder = try TemporaryDirectory()
    func found(_ change: (inout GGUFBuilder) -> Void) throws -> AnswerabilityClassifier? {
      var builder = TinyDecoder().gguf()
      builder.set("egress.answerability.layer", .uint32(2))
      builder.set("egress.answerability.weights", .float32s(Array(repeating: 0.5, count: 64)))
      builder.set("egress.answerability.bias", .float32(0.25))
      builder.set("egress.answerability.threshold", .float32(0.5))
      change(&builder)
      return try LanguageModel(
        checkpoint: Checkpoint.open(folder.write("tiny.gguf", builder.build())), threads: 1
      ).answerability
    }
    let classifier = try found { _ in }
    #expect(
      classifier
        == AnswerabilityClassifier(
          layer: 2, weights: Array(repeating: 0.5, count: 64), bias: 0.25, threshold: 0.5))
    #expect(
      try found { builder in
        for part in ["layer", "weights", "bias", "threshold"] {
          builder.remove("egress.answerability.\(part)")
        }
      } == nil)
    let wrong: [(String, GGUFBuilder.Value?, String)] = [
      ("layer", nil, "an integer in 1...2, found nothing"), ("layer", .uint32(0), "found 0"),
      ("layer", .uint32(3), "found 3"), ("layer", .string("2"), "found a value of another kind"),
      ("weights", nil, "64 numbers, as states have, found nothing"), ("weights", .float32s([1]), "found 1"),
      ("weights", .float32s(Array(repeating: .nan, count: 64)), "finite numbers, found nan at 0"),
      ("weights", .string("w"), "of another kind"), ("bias", nil, "a number, found nothing"),
      ("bias", .float32(.infinity), "found inf"), ("threshold", .float32(1.5), "in 0...1, found 1.5"),
      ("threshold", .float64(.nan), "found nan"), ("threshold", nil, "found nothing"),
    ]
    for (part, value, words) in wrong {
      do {
        _ = try found { builder in
          let key = "egress.answerability.\(part)"
          if let value { builder.set(key, value) } else { builder.remove(key) }
        }
        Issue.record("\(part) was taken")
      } catch {
        #expect("\(error)".contains("egress.answerability.\(part)") && "\(error)".contains(words), "\(error)")
      }
    }
  }
}
