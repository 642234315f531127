import Foundation
import Generation
import Serving
import Synchronization
import TestSupport
import Testing

@Suite struct ServingTests {
  private static func body(_ text: String, _ rest: String = "") -> String {
    #"{"messages": [{"role": "user", "content": "\#(text)"}]\#(rest)}"#
  }

  /// Random weights may end an output at once; this one goes on for long.
  private func endless(_ server: RunningServer) throws -> String {
    for index in 0..<200 {
      let prompt = try server.model.prompt(user: "Go on \(index)")
      if try server.alone(prompt, .init(maxTokens: 400)).tokenIDs.count == 400 { return "Go on \(index)" }
    }
    throw ServerError("every output ends early")
  }

  @Test func `whatever else is decoded, an output is the one of its request alone`() async throws {
    try await withServer {
      $0.slots = 3
      $0.queue = 200
    } _: { server in
      var generator = SplitMix64(seed: 11)
      var requests: [(text: String, options: GenerationOptions, rest: String, delay: Int)] = []
      for index in 0..<48 {
        let words = Int(generator.next() % 60)
        let text =
          "Request \(index % 7): " + (0..<words).map { "word\($0 * index % 13)" }.joined(separator: " ")
        let count = 1 + Int(generator.next() % 30)
        var options = GenerationOptions(maxTokens: count)
        var rest = #", "max_tokens": \#(count)"#
        if index % 3 == 0 {
          options.sampling = .random(.init(temperature: 1, seed: UInt64(index)))
          rest += #", "temperature": 1, "seed": \#(index)"#
        }
        if index % 2 == 0 { rest += #", "stream": true"# }
        requests.append((text, options, rest, Int(generator.next() % 40)))
      }
      let texts = try await withThrowingTaskGroup(of: (Int, String).self) { group in
        for (index, request) in requests.enumerated() {
          group.addTask {
            try await Task.sleep(for: .milliseconds(request.delay))
            let response = try await server.post(
              "/v1/chat/completions", Self.body(request.text, request.rest))
            guard response.headers["content-type"] != "application/json" else {
              let choice = try #require(try response.json().list("choices").first)
              return (index, try #require(try choice.object("message")["content"] as? String))
            }
            let pieces = try response.events.dropLast().map { event in
              let chunk = try #require(
                try JSONSerialization.jsonObject(with: Data(event.utf8)) as? [String: Any])
              return try chunk.list("choices").first?.object("delta")["content"] as? String ?? ""
            }
            return (index, pieces.joined())
          }
        }
        var texts = [String](repeating: "", count: requests.count)
        for try await (index, text) in group { texts[index] = text }
        return texts
      }
      for (request, text) in zip(requests, texts) {
        let alone = try server.alone(server.model.prompt(user: request.text), request.options)
        #expect(text == alone.text)
      }
      #expect(server.engine.outstanding == 0)
    }
  }

  @Test func `a client that leaves frees its slot, streaming or waiting`() async throws {
    try await withServer {
      $0.slots = 1
      $0.queue = 4
    } _: { server in
      let asked = try endless(server)
      let (port, engine) = (server.port, server.engine)
      for streams in [true, false] {
        let rest = #", "max_tokens": 60000, "stream": \#(streams)"#
        try await onThread {
          let (taken, connection) = (engine.takenCount, try HTTPConnection(port: port))
          connection.send("POST", "/v1/chat/completions", body: Array(Self.body(asked, rest).utf8))
          if streams { #expect(connection.waitFor("data: ")) }
          engine.waitForRequest(after: taken)
          connection.close()
        }
        #expect(await server.eventually { server.engine.outstanding == 0 })
      }
      // Half of a connection closed is as good as all of it.
      let half = try await onThread {
        let (taken, connection) = (engine.takenCount, try HTTPConnection(port: port))
        connection.send(
          "POST", "/v1/chat/completions", body: Array(Self.body(asked, #", "max_tokens": 60000"#).utf8))
        engine.waitForRequest(after: taken)
        connection.finishSending()
        return connection.waitForEnd()
      }
      #expect(half)
      #expect(await server.eventually { server.engine.outstanding == 0 })
      #expect(server.engine.metrics.cancelledCount == 3)
      // That is no fault of the server.
      let metrics = try await server.ask("GET", "/metrics").text
      #expect(metrics.contains(#"{route="/v1/chat/completions",status="499"} 2"#), "\(metrics)")
      #expect(!metrics.contains(#"status="500""#))
      #expect(
        try await server.post("/v1/chat/completions", Self.body("Hi", #", "max_tokens": 2"#)).status == 200)
    }
  }

  @Test func `a full queue is told with the time to wait`() async throws {
    try await withServer {
      $0.slots = 1
      $0.queue = 1
    } _: { server in
      let asked = try endless(server)
      // Longer than other tests can keep this one from running.
      let long = Self.body(asked, #", "max_tokens": 60000, "stream": true"#)
      let port = server.port
      let connections = try await onThread {
        let connections = Held(try (0..<2).map { _ in try HTTPConnection(port: port) })
        for connection in connections.list {
          connection.send("POST", "/v1/chat/completions", body: Array(long.utf8))
        }
        return connections
      }
      #expect(await server.eventually { server.engine.outstanding == 2 })
      let refused = try await server.post("/v1/chat/completions", Self.body("Hi"))
      #expect(refused.status == 429)
      #expect(Int(refused.headers["retry-after"] ?? "").map { $0 >= 1 } == true)
      #expect(try text(refused.json().object("error")["code"]) == "queue_full")
      let many = try await server.post("/v1/chat/completions", Self.body("Hi", #", "n": 3"#))
      #expect(many.status == 400)
      for connection in connections.list { connection.close() }
      #expect(await server.eventually { server.engine.outstanding == 0 })
    }
  }

  @Test func `a server told to stop answers what it has, and takes no more`() async throws {
    let server = try await RunningServer {
      $0.slots = 2
      $0.queue = 20
    }
    let asked = try endless(server)
    let body = Self.body(asked, #", "max_tokens": 3000"#)
    let alone = try server.alone(server.model.prompt(user: asked), .init(maxTokens: 3000)).text
    let answers = (0..<6).map { _ in Task { try await server.post("/v1/chat/completions", body) } }
    // Some may have ended before the last is taken.
    #expect(await server.eventually { server.engine.takenCount == 6 })
    await server.triggerShutdown()
    for answer in answers {
      let response = try await answer.value
      #expect(response.status == 200)
      let choice = try #require(try response.json().list("choices").first)
      #expect(try choice.object("message")["content"] as? String == alone)
    }
    try await server.waitForEnd()
    #expect(server.engine.outstanding == 0)
    await #expect(throws: NoConnection.self) { try await server.ask("GET", "/health") }
  }

  @Test func `half a request is hung up on, and does not hold up the end`() async throws {
    try await withServer {
      $0.idleSeconds = 1
    } _: { server in
      let port = server.port
      let ends = try await onThread {
        let silent = try HTTPConnection(port: port)
        let head = try HTTPConnection(port: port)
        head.send("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n")
        let body = try HTTPConnection(port: port)
        body.send(
          "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            + "content-length: 1000\r\n\r\n{\"messages\"")
        let garbage = try HTTPConnection(port: port)
        garbage.send("\u{0}\u{1}not HTTP at all\r\n\r\n")
        return [silent, head, body, garbage].map { $0.waitForEnd() }
      }
      #expect(ends == [true, true, true, true])
      #expect(try await server.ask("GET", "/health").status == 200)
    }
  }

  @Test func `several requests share a connection`() async throws {
    try await withServer { server in
      let port = server.port
      let texts = try await onThread {
        let connection = try HTTPConnection(port: port)
        return try (0..<4).map { index in
          let stream = index % 2 == 1
          connection.send(
            "POST", "/v1/chat/completions",
            body: Array(Self.body("Hello", #", "max_tokens": 6, "stream": \#(stream)"#).utf8))
          let response = try connection.response()
          #expect(response.status == 200)
          return response.headers["content-type"] ?? ""
        }
      }
      #expect(texts[0] == "application/json" && texts[1].hasPrefix("text/event-stream"))
    }
  }

  @Test func `time limits end an output with an error`() async throws {
    try await withServer {
      $0.requestSeconds = 0
    } _: { server in
      let asked = try endless(server)
      let whole = try await server.post("/v1/chat/completions", Self.body(asked, #", "max_tokens": 15000"#))
      #expect(whole.status == 503)
      #expect(try Self.code(whole) == "timeout")
      let stream = try await server.post(
        "/v1/chat/completions", Self.body(asked, #", "max_tokens": 15000, "stream": true"#))
      // The error is the last event, and no end of a stream that is whole follows it.
      #expect(stream.events.last?.contains("\"code\":\"timeout\"") == true)
      #expect(await server.eventually { server.engine.outstanding == 0 })
    }
  }

  private static func code(_ response: HTTPConnection.Response) throws -> String? {
    text(try response.json().object("error")["code"])
  }
}

/// Connections that one thread hands to another.
final class Held: @unchecked Sendable {
  // Used by one thread at a time: the test waits for each before the next begins.
  let list: [HTTPConnection]
  init(_ list: [HTTPConnection]) { self.list = list }
}
