import Foundation
import Generation
import Logging
import Serving
import Synchronization
import Testing

@Suite struct FormatTests {
  private static func body(_ text: String, _ rest: String = "", maxTokens: Int = 12) -> String {
    #"{"messages": [{"role": "user", "content": "\#(text)"}], "max_tokens": \#(maxTokens)\#(rest)}"#
  }

  /// Foundation's reader of JSON rounds the last bit otherwise than its writer.
  private func near(_ found: [Double?], _ expected: [Double]) -> Bool {
    found.count == expected.count
      && zip(found, expected).allSatisfy { abs(($0 ?? .infinity) - $1) < 1e-12 }
  }

  @Test func `a chat tells how likely its tokens were, whole and in a stream`() async throws {
    try await withServer { server in
      var options = GenerationOptions(maxTokens: 12)
      options.topProbabilities = 3
      let alone = try server.alone(server.model.prompt(user: "Hello"), options)
      let rest = #", "logprobs": true, "top_logprobs": 3"#
      let whole = try await server.post("/v1/chat/completions", Self.body("Hello", rest)).json()
      let told = try #require(try whole.list("choices").first).object("logprobs")
      #expect(Set(told.keys) == ["content", "refusal"] && told["refusal"] is NSNull)
      let content = try told.list("content")
      let count = alone.tokenIDs.count - (alone.stopReason == .endOfText ? 1 : 0)
      #expect(content.count == count)
      for (index, entry) in content.enumerated() {
        #expect(Set(entry.keys) == ["token", "logprob", "bytes", "top_logprobs"])
        #expect(near([entry["logprob"] as? Double], [alone.logProbabilities[index]]))
        let bytes = try server.model.tokenizer.bytes(of: alone.tokenIDs[index])
        #expect(entry["bytes"] as? [Int] == bytes.map(Int.init))
        let top = try entry.list("top_logprobs")
        #expect(near(top.map { $0["logprob"] as? Double }, alone.alternatives[index].map(\.logProbability)))
        #expect(top.allSatisfy { Set($0.keys) == ["token", "logprob", "bytes"] })
      }
      let stream = try await server.post(
        "/v1/chat/completions", Self.body("Hello", rest + #", "stream": true"#))
      var texts = ""
      var streamed: [[String: Any]] = []
      for event in stream.events.dropLast() {
        let chunk = try #require(try JSONSerialization.jsonObject(with: Data(event.utf8)) as? [String: Any])
        let choice = try #require(try chunk.list("choices").first)
        texts += text(try choice.object("delta")["content"]) ?? ""
        if let logprobs = choice["logprobs"] as? [String: Any] { streamed += try logprobs.list("content") }
      }
      #expect(texts == alone.text)
      #expect(streamed as NSArray == content as NSArray)
    }
  }

  @Test func `a completion tells how likely its tokens were`() async throws {
    try await withServer { server in
      let prompt = [70, 71, 72]
      var options = GenerationOptions(maxTokens: 6)
      options.topProbabilities = 2
      let alone = try server.alone(prompt, options)
      let request = #"{"prompt": [70, 71, 72], "max_tokens": 6, "logprobs": 2"#
      let whole = try await server.post("/v1/completions", request + "}").json()
      let told = try #require(try whole.list("choices").first).object("logprobs")
      #expect(Set(told.keys) == ["tokens", "token_logprobs", "top_logprobs", "text_offset"])
      let count = alone.tokenIDs.count - (alone.stopReason == .endOfText ? 1 : 0)
      let logprobs = try #require(told["token_logprobs"] as? [Double])
      #expect(near(logprobs, Array(alone.logProbabilities.prefix(count))))
      let top = try #require(told["top_logprobs"] as? [[String: Double]])
      #expect(top.count == count && top.allSatisfy { (2...3).contains($0.count) })
      let offsets = try #require(told["text_offset"] as? [Int])
      #expect(offsets.count == count && offsets.first == 0 && offsets == offsets.sorted())
      let stream = try await server.post("/v1/completions", request + #", "stream": true}"#)
      var places: [Int] = []
      for event in stream.events.dropLast() {
        let chunk = try #require(try JSONSerialization.jsonObject(with: Data(event.utf8)) as? [String: Any])
        let choice = try #require(try chunk.list("choices").first)
        if let logprobs = choice["logprobs"] as? [String: Any] {
          places += try #require(logprobs["text_offset"] as? [Int])
        }
      }
      #expect(places == offsets)
    }
  }

  @Test func `outputs are JSON that validates, whole, in a stream and many at a time`() async throws {
    let schema =
      #"{"type": "object", "properties": {"z": {"type": "integer", "minimum": 1, "maximum": 9}, "#
      + #""a": {"enum": ["x", "y"]}}, "required": ["z", "a"], "additionalProperties": false}"#
    let format =
      #", "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "#
      + #""schema": \#(schema)}}"#
    try await withServer { server in
      var options = GenerationOptions(maxTokens: 60)
      options.grammar = try server.model.grammar(jsonSchema: Array(schema.utf8))
      let alone = try server.alone(server.model.prompt(user: "Hi"), options)
      let whole = try await server.post("/v1/chat/completions", Self.body("Hi", format, maxTokens: 60)).json()
      let choice = try #require(try whole.list("choices").first)
      #expect(text(choice["finish_reason"]) == "stop")
      let content = try #require(text(try choice.object("message")["content"]))
      #expect(content == alone.text)
      // In the order of the schema.
      #expect(
        try #require(content.range(of: "\"z\"")).lowerBound < #require(content.range(of: "\"a\"")).lowerBound)
      let rest = format + #", "n": 8, "temperature": 2, "seed": 5"#
      let many = try await server.post("/v1/chat/completions", Self.body("Hi", rest, maxTokens: 40)).json()
      for choice in try many.list("choices") {
        let content = try #require(text(try choice.object("message")["content"]))
        let value = try #require(try JSONSerialization.jsonObject(with: Data(content.utf8)) as? [String: Any])
        #expect(Set(value.keys) == ["a", "z"] && (1...9).contains(value["z"] as? Int ?? 0), "\(content)")
        #expect(["x", "y"].contains(text(value["a"])))
      }
      let free = try await server.post(
        "/v1/chat/completions",
        Self.body("Hi", #", "response_format": {"type": "json_object"}"#, maxTokens: 30))
      let object = try #require(try free.json().list("choices").first).object("message")
      #expect(
        try JSONSerialization.jsonObject(with: Data((text(object["content"]) ?? "").utf8)) is [String: Any])
      // Fewer tokens than the shortest output takes: cut, and told so.
      let cut = try await server.post("/v1/chat/completions", Self.body("Hi", format, maxTokens: 3)).json()
      #expect(text(try #require(try cut.list("choices").first)["finish_reason"]) == "length")
    }
  }

  @Test func `pages of named origins may ask, others may not`() async throws {
    try await withServer {
      $0.origins = ["https://example.org"]
      $0.keys = ["key"]
    } _: { server in
      let asked = try await server.ask(
        "OPTIONS", "/v1/chat/completions",
        headers: [
          "origin": "https://example.org", "access-control-request-method": "POST",
          "access-control-request-headers": "authorization, content-type",
        ])
      #expect(asked.status == 204)
      #expect(asked.headers["access-control-allow-origin"] == "https://example.org")
      #expect(asked.headers["access-control-allow-headers"] == "authorization, content-type")
      #expect(asked.headers["access-control-allow-methods"]?.contains("POST") == true)
      let answered = try await server.ask(
        "GET", "/v1/models", headers: ["origin": "https://example.org", "authorization": "Bearer key"])
      #expect(answered.status == 200 && answered.headers["vary"] == "Origin")
      #expect(answered.headers["access-control-allow-origin"] == "https://example.org")
      let refused = try await server.ask("GET", "/v1/models", headers: ["origin": "https://example.org"])
      #expect(refused.status == 401 && refused.headers["access-control-allow-origin"] != nil)
      let other = try await server.ask(
        "GET", "/v1/models", headers: ["origin": "https://evil.example", "authorization": "Bearer key"])
      #expect(other.headers["access-control-allow-origin"] == nil)
      let question = try await server.ask(
        "OPTIONS", "/v1/models",
        headers: ["origin": "https://evil.example", "access-control-request-method": "GET"])
      #expect(question.status == 401)
    }
    try await withServer { server in
      let plain = try await server.ask("GET", "/v1/models", headers: ["origin": "https://example.org"])
      #expect(plain.status == 200 && plain.headers["access-control-allow-origin"] == nil)
    }
  }

  @Test func `a server listens before its model is there`() async throws {
    var configuration = ServerConfiguration()
    configuration.port = 0
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let gate = DispatchSemaphore(value: 0)
    let server = try Server(configuration: configuration, logger: logger) {
      gate.wait()
      throw ServerError("the model is damaged")
    }
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let ready = Mutex(false)
    let task = Task {
      try await server.run(
        onListening: { continuation.yield($0) }, onReady: { _ in ready.withLock { $0 = true } })
    }
    var iterator = ports.makeAsyncIterator()
    let port = try #require(await iterator.next())
    for (method, path) in [("GET", "/health"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions")] {
      let response = try await onThread {
        let connection = try HTTPConnection(port: port)
        connection.send(method, path, body: method == "POST" ? Array(Self.body("Hi").utf8) : nil)
        return try connection.response()
      }
      #expect(response.status == 503 && response.headers["retry-after"] != nil)
      #expect(try text(response.json().object("error")["code"]) == "loading")
    }
    gate.signal()
    // A model that cannot be loaded ends the server with the reason.
    await #expect(throws: ServerError("the model is damaged")) { try await task.value }
    #expect(!ready.withLock { $0 })
  }
}
