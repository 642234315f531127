import Certification
import Foundation
import Generation
import TensorKernels
import TestSupport
import Testing

/// The snippets of the pages, run with a small random model.
@Suite struct SnippetTests {
  private let folder: TemporaryDirectory
  private let path: String

  init() throws {
    folder = try TemporaryDirectory()
    var tiny = TinyDecoder()
    tiny.contextLength = 4096
    var builder = tiny.gguf()
    builder.set(
      "tokenizer.chat_template",
      .string("{% for message in messages %}{{ message['content'] }}{% endfor %}"))
    path = try folder.write("tiny.gguf", builder.build())
  }

  @Test func `statistics`() throws {
    guard case .certified(let choice) = try certifiedThreshold() else {
      Issue.record("one loss in twenty is within 0.15")
      return
    }
    #expect(choice.threshold == 0.8)
    #expect(try classifierTable().sampleCount == 2)
    #expect(lossOfAnswer() == 0)
  }

  @Test func `from files to a token`() throws {
    #expect(try normWeights(of: path).count == 64)
    #expect((0..<272).contains(try nextToken(after: [5, 17, 3], model: path)))
    #expect(digest(of: path)?.count == 64)
    #expect(digest(of: folder.path + "/missing") == nil)
    #expect(try kernels().isAvailable)
  }

  @Test func `text`() throws {
    let json = Array(try TinyDecoder().tokenizerJSON().utf8)
    #expect(try roundTrip("the mill — 1926", tokenizer: json) == "the mill — 1926")
    let pieces = try prompt().pieces
    #expect(pieces.map(\.text).joined() == "<user>What is a <mill>?<assistant>")
    #expect(pieces.filter(\.isContent).map(\.text) == ["What is a <mill>?"])
  }

  @Test func `decoding`() async throws {
    let model = try LanguageModel(path: path, threads: 1)
    let tokens = try model.prompt(raw: "the mill closed and the mill closed and")
    let full = try model.makeSession(prompt: tokens, options: GenerationOptions(maxTokens: 16))
    while try full.next() != nil {}
    #expect(try draft(for: model, tokens).tokenIDs == full.generation.tokenIDs)
    let early = try leaveEarly(model, tokens)
    #expect(early.layers.count == early.tokenIDs.count)
    let written = try await summary(of: "The mill closed in 1926.", model: path)
    #expect(!written.isEmpty)
  }

  @Test func `a certificate`() throws {
    let lines = (0..<60).map { #"{"id": \#($0), "document": "Text number \#($0)."}"# }
    let documents = try folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
    let subject = DecodingSubject(
      model: .hashing().0, modelDigest: String(repeating: "a", count: 64))
    let certified = try #require(try calibrate(subject, documents: documents, output: folder.path + "/docs"))
    #expect(
      certified.certificate.statement
        == "Calibrated on 60 documents. On average outputs differ from the full model's in ROUGE-L by at most 0.1 "
        + "(90 % confidence). Valid for documents like those.")
  }

  // Long: the server's tasks get no thread for minutes where other tests compute.
  @Test(.timeLimit(.minutes(10))) func `a server`() async throws {
    let subject = try DecodingSubject(path: path, threads: 1)
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let server = Task { try await serve(subject) { continuation.yield($0) } }
    var iterator = ports.makeAsyncIterator()
    #expect(try #require(await iterator.next()) > 0)
    server.cancel()
    _ = await server.result
  }
}
