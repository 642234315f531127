import Certification
import EarlyExit
import Foundation
import Generation
import RiskControl
import Serving
import SpeculativeDecoding
import TestSupport
import Testing
import TextLosses

@Suite struct DocumentTests {
  private static let document =
    "The mill at Carrow Creek was built in 1798. It closed in 1926, when a roller mill opened. Herons live there now."

  private static func json(_ fields: [String: Any]) throws -> String {
    String(decoding: try JSONSerialization.data(withJSONObject: fields), as: UTF8.self)
  }

  /// What the library gives by itself, as the command line does.
  private func alone(
    _ model: LanguageModel, _ task: DocumentTask, _ document: String, _ options: GenerationOptions,
    strategy: any DecodingStrategy = FullDepth()
  ) throws -> Generation {
    let session = try #require(
      try model.makeSession(
        for: task, document: document, options: options, strategy: strategy, shouldStop: { false }))
    while try session.next() != nil {}
    return session.generation
  }

  @Test func `answers are those of the command line, with what they rest on`() async throws {
    try await withServer { server in
      let task = DocumentTask.answer(question: "When was it built?")
      let body = try Self.json(["document": Self.document, "question": " When was it built? "])
      var options = GenerationOptions(maxTokens: 48)
      options.recordsProbabilities = true
      let expected = try alone(server.model, task, Self.document, options)
      let json = try await server.post("/v1/egress/answer", body).json()
      #expect(text(json["text"]) == expected.text)
      #expect(json["confidence"] as? Double == expected.confidence)
      #expect(text(json["stop_reason"]) == expected.stopReason.rawValue)
      #expect(
        json["answered"] as? Bool == DocumentAnswer(expected, document: Self.document, question: "").answered)
      #expect(try json.object("egress")["certificate"] is NSNull)
      // An answer that has to be the document's words stands in it.
      options.isExtractive = true
      let span = try alone(server.model, task, Self.document, options)
      let extractive = try await server.post(
        "/v1/egress/answer",
        Self.json(["document": Self.document, "question": "When was it built?", "extractive": true])
      ).json()
      #expect(text(extractive["text"]) == span.text)
      let found = DocumentAnswer(span, document: Self.document, question: "When was it built?")
      if let source = found.source {
        let told = try extractive.object("source")
        #expect(
          told["start"] as? Int == source.start && told["sentence_start"] as? Int == source.sentenceStart)
        #expect(text(told["sentence"]) == source.sentence)
      } else {
        #expect(extractive["source"] is NSNull)
      }
    }
  }

  @Test func `summaries are those of the command line, of long documents too, and stream`() async throws {
    try await withServer {
      $0.context = 400
    } _: { server in
      let long = (0..<12).map { Self.document.replacing("1926", with: "19\(10 + $0)") }.joined(separator: " ")
      for (document, length) in [
        (Self.document, SummaryLength?.none), (Self.document, .words(5)), (long, .sentences(2)),
      ] {
        let request = SummaryRequest(length: length, focus: length == nil ? nil : "herons")
        let task = DocumentTask.summary(request)
        var fields: [String: Any] = ["document": document, "max_tokens": 40]
        switch length {
        case .words(let count)?: fields["words"] = count
        case .sentences(let count)?: fields["sentences"] = count
        case nil: break
        }
        if let focus = request.focus { fields["focus"] = focus }
        let expected = try alone(server.model, task, document, .init(maxTokens: 40, context: 400))
        let json = try await server.post("/v1/egress/summarize", Self.json(fields)).json()
        #expect(text(json["text"]) == expected.text)
        #expect((json["notes"] as? [String])?.isEmpty == (document != long))
        let checked = SummarySupport(document: document).check(expected.text)
        #expect(try json.list("sentences").map { text($0["text"]) } == checked.map(\.text))
        fields["stream"] = true
        var events = try await server.post("/v1/egress/summarize", Self.json(fields)).events
        #expect(events.popLast() == "[DONE]")
        let pieces = try events.map {
          try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
        }
        #expect(pieces.dropLast().compactMap { text($0["text"]) }.joined() == expected.text)
        #expect(pieces.last?["done"] as? Bool == true && text(pieces.last?["text"]) == expected.text)
      }
    }
  }

  @Test func `what is asked wrongly is refused by name`() async throws {
    let cases: [(String, [String: Any], String)] = [
      ("summarize", [:], "document"), ("summarize", ["document": " \n"], "document"),
      ("summarize", ["document": "a\u{0}b"], "document"), ("summarize", ["document": 5], "document"),
      ("summarize", ["document": "a", "words": 0], "words"),
      ("summarize", ["document": "a", "words": 5, "sentences": 1], "words"),
      ("summarize", ["document": "a", "focus": " "], "focus"),
      ("summarize", ["document": "a", "long": "cut"], "long"),
      ("summarize", ["document": "a", "question": "b"], "question"),
      ("summarize", ["document": "a", "n": 2], "n"),
      ("answer", ["document": "a"], "question"), ("answer", ["document": "a", "question": "?!"], "question"),
      ("answer", ["document": "a", "question": "b", "words": 5], "words"),
      ("answer", ["document": "a", "question": "b", "no_repeat_ngram": 0], "no_repeat_ngram"),
    ]
    try await withServer { server in
      for (route, fields, param) in cases {
        let response = try await server.post("/v1/egress/\(route)", Self.json(fields))
        #expect(response.status == 400, "\(fields)")
        #expect(try text(response.json().object("error")["param"]) == param, "\(fields)")
      }
    }
  }

  @Test func `a certificate is applied to what it holds for, and the rest is told why not`() async throws {
    let made = try MadeCertificate()
    #expect(try !ServedCertificate.needsDraft(made.path))
    let served = try made.served(for: made.subject)
    #expect(served.statement.contains("Calibrated on 60 documents") && !served.isAudited)
    let certified = try made.policy()

    try await withServer(certificates: { [try made.served(for: $0)] }) { server in
      let options = GenerationOptions(maxTokens: 8)
      let body = try Self.json(["document": Self.document, "max_tokens": 8])
      let json = try await server.post("/v1/egress/summarize", body).json()
      let expected = try alone(server.model, .summarize, Self.document, options, strategy: certified)
      #expect(text(json["text"]) == expected.text)
      let told = try json.object("egress").object("certificate")
      #expect(told["applied"] as? Bool == true && told["epsilon"] as? Double == 0.9)
      #expect(text(told["statement"]) == served.statement)
      #expect(try text(told["sha256"]) == made.certificate.digest())
      #expect(try json.object("egress")["average_layer"] as? Double == expected.averageLayer)

      let longer = try await server.post(
        "/v1/egress/summarize", Self.json(["document": Self.document, "max_tokens": 9])
      ).json()
      let plain = try alone(server.model, .summarize, Self.document, .init(maxTokens: 9))
      #expect(text(longer["text"]) == plain.text)
      let reason = try longer.object("egress").object("certificate")
      #expect(reason["applied"] as? Bool == false && text(reason["reason"])?.contains("max-tokens") == true)
      // It says nothing of answers.
      let answer = try await server.post(
        "/v1/egress/answer", Self.json(["document": Self.document, "question": "When?"])
      ).json()
      #expect(try answer.object("egress")["certificate"] is NSNull)
    }
  }

  @Test func `a certificate of exits and of the prompt's depth is applied as it says`() async throws {
    let made = try MadeCertificate(epsilon: 0.99, promptDepth: 1)
    let certified = try made.policy()
    #expect(certified.pays && certified.promptDepth == 1)
    guard case .exits(let exits) = certified.decoding else { throw CancellationError() }
    var options = GenerationOptions(maxTokens: 8)
    options.promptDepth = 1
    func text(_ document: String, _ options: GenerationOptions) throws -> String {
      try alone(made.subject.model, .summarize, document, options, strategy: exits).text
    }
    // One whose summary the depth changes.
    let document = try #require(
      try (0..<20).map { "\(Self.document) \($0) herons." }.first {
        try text($0, options) != text($0, .init(maxTokens: 8))
      })
    let expected = try text(document, options)
    // The server drafts, which changes nothing of it.
    let session = try #require(
      try made.subject.model.makeSession(
        for: .summarize, document: document, options: MadeCertificate.options,
        strategy: certified.lookingUp(for: made.subject.model), shouldStop: { false }))
    var steps: [TokenStep] = []
    while let step = try session.next() { steps.append(step) }
    #expect(session.generation.text == expected && steps.contains { $0.source != nil })
    try await withServer(layers: MadeCertificate.layers, certificates: { [try made.served(for: $0)] }) {
      server in
      let body = try Self.json(["document": document, "max_tokens": 8])
      for _ in 0..<2 {
        let json = try await server.post("/v1/egress/summarize", body).json()
        #expect(json["text"] as? String == expected)
        let told = try json.object("egress").object("certificate")
        #expect(told["applied"] as? Bool == true && told["kind"] as? String == "early exits and prompt depth")
      }
    }
    // Where full depth costs no more, the prompt passes all layers too.
    let full = try MadeCertificate(epsilon: 0.99, promptDepth: 1, pays: false).policy()
    #expect(!full.pays && full.promptDepth == nil)
    guard case .fullDepth = full.decoding else { throw CancellationError() }
  }

  @Test func `a certificate of drafts and of the prompt's depth is applied as it says`() async throws {
    let folder = try TemporaryDirectory()
    var subject = try RunningServer.subject(in: folder, layers: MadeCertificate.layers)
    var tiny = TinyDecoder()
    tiny.layerCount = MadeCertificate.layers
    let file = try TinyDraftHead(of: tiny, gguf: tiny.gguf(), token: 3, state: 0.5)
      .write(to: folder, modelPath: folder.path + "/tiny.gguf")
    let draft = DecodingSubject.Draft(
      name: "head", source: .head(try DraftHead(path: file, modelDigest: subject.modelDigest)), digest: "d")
    subject.draft = draft
    let regime = DecodingRegime(tasks: [.summarize], options: MadeCertificate.options, maxTokens: 8)
    let lines = (0..<20).map { "{\"id\": \($0), \"document\": \"Text \($0) about \($0 % 5) mills.\"}" }
    var sweep = try ThresholdSweep.drafts(
      subject, draft: draft, fallback: 0, draftLength: 3, grid: [20], maxTokens: 8, regime: regime,
      promptDepth: 1)
    sweep.measure = {
      .draftedDocuments(
        DocumentCosts(
          prompt: PromptCosts(layer: 1, propagatedLayer: 0, token: 1),
          output: DraftCosts(pass: [1], draft: 0)))
    }
    let calibrator = try Calibrator(
      sweep, metric: .text(.rouge(Rouge(.rougeL))), risk: .consistency,
      documentsPath: folder.write("data.jsonl", lines.joined(separator: "\n") + "\n"))
    let certificate = try #require(
      try calibrator.certificate(
        settings: CalibrationSettings(epsilon: 0.99, rule: .empirical), output: folder.path + "/docs",
        shouldStop: { false }))
    let path = folder.path + "/docs.certificate.json"
    try certificate.write(to: path)
    #expect(try ServedCertificate.needsDraft(path))
    let certified = try CertifiedPolicy.load(path, for: subject, regime: regime)
    #expect(certified.pays && certified.promptDepth == 1)
    guard case .drafts(let drafts) = certified.decoding else { throw CancellationError() }
    var options = MadeCertificate.options
    options.promptDepth = 1
    let (model, stopped) = (subject.model, options)
    // Documents whose summaries the depth changes.
    let documents = try (0..<40).map { "\(Self.document) \($0) herons." }.filter {
      try alone(model, .summarize, $0, stopped, strategy: drafts).text
        != alone(model, .summarize, $0, MadeCertificate.options, strategy: drafts).text
    }
    #expect(documents.count > 1)
    try await withServer(
      layers: MadeCertificate.layers,
      certificates: {
        var subject = $0
        subject.draft = draft
        return [try ServedCertificate(path: path, for: subject)]
      }
    ) { server in
      for document in documents.prefix(4) {
        let body = try Self.json(["document": document, "max_tokens": 8])
        let json = try await server.post("/v1/egress/summarize", body).json()
        #expect(
          try json["text"] as? String == alone(model, .summarize, document, stopped, strategy: drafts).text)
        let told = try json.object("egress").object("certificate")
        #expect(told["applied"] as? Bool == true && told["kind"] as? String == "drafts and prompt depth")
      }
    }
  }

  @Test func `a second question about a document does not read it again`() async throws {
    try await withServer { server in
      let document = String(repeating: Self.document + " ", count: 6)
      // The document stands first in a conversation, as for reader models.
      func ask(_ question: String) async throws -> String? {
        let body = try Self.json([
          "messages": [["role": "user", "content": document + question]], "max_tokens": 6,
        ])
        let json = try await server.post("/v1/chat/completions", body).json()
        return text(try json.list("choices").first?.object("message")["content"])
      }
      for question in ["What is it?", "Where is it?"] {
        let prompt = try server.model.prompt(user: document + question)
        #expect(try await ask(question) == server.alone(prompt, .init(maxTokens: 6)).text)
      }
      let metrics = try await server.ask("GET", "/metrics")
      let line = try #require(
        metrics.text.split(separator: "\n").first { $0.hasPrefix("egress_prefix_cache_tokens_total ") })
      let tokens = try server.model.tokenizer.encode(document).count
      #expect(Int(line.split(separator: " ")[1]).map { $0 > tokens - 20 } == true)
    }
  }

  @Test func `metrics count, and the page is one file`() async throws {
    try await withServer { server in
      _ = try await server.post("/v1/completions", #"{"prompt": "a", "max_tokens": 3}"#)
      _ = try await server.post("/v1/completions", "{")
      let metrics = try await server.ask("GET", "/metrics")
      #expect(metrics.headers["content-type"]?.hasPrefix("text/plain; version=0.0.4") == true)
      let lines = Set(metrics.text.split(separator: "\n").map(String.init))
      #expect(lines.contains(#"egress_requests_total{route="/v1/completions",status="200"} 1"#))
      #expect(lines.contains(#"egress_requests_total{route="/v1/completions",status="400"} 1"#))
      #expect(lines.contains("egress_time_to_first_token_seconds_count 1"))
      #expect(lines.contains("egress_outputs_running 0"))
      // Every sample has a type, and every line is one that Prometheus reads.
      for line in metrics.text.split(separator: "\n") where !line.hasPrefix("#") {
        #expect(
          line.wholeMatch(of: /[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+/) != nil, "\(line)"
        )
      }
      let page = try await server.ask("GET", "/")
      #expect(page.status == 200 && page.headers["content-type"] == "text/html; charset=utf-8")
      #expect(page.text.hasPrefix("<!DOCTYPE html>") && page.text.contains("v1/egress/"))
      #expect(page.text.contains("Coloured by") && page.text.contains("prefers-color-scheme: dark"))
      #expect(!page.text.contains("https://") && !page.text.contains("src=\"http"))
    }
  }
}
