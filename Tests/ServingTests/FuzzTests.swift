import Foundation
import Serving
import TestSupport
import Testing

/// Requests with bytes where they do not belong.
@Suite struct FuzzTests {
  private static let bodies: [(route: String, body: String)] = [
    (
      "/v1/chat/completions",
      #"{"model":"tiny","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":[{"type":"text","#
        + #""text":"Hé\n"}]}],"max_tokens":2,"temperature":0.5,"top_p":0.9,"seed":7,"stop":["a","b"],"n":2,"#
        + #""logit_bias":{"70":-1.5},"logprobs":true,"top_logprobs":2}"#
    ),
    (
      "/v1/chat/completions",
      #"{"messages":[{"role":"user","content":"Hi"}],"max_completion_tokens":4,"stream":true,"stream_options":"#
        + #"{"include_usage":true},"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":"#
        + #"{"type":"object","properties":{"a":{"type":"integer","minimum":1},"b":{"enum":["c",null]}},"#
        + #""required":["a"],"additionalProperties":false}}}}"#
    ),
    (
      "/v1/completions",
      #"{"prompt":["The mill",[70,71]],"max_tokens":3,"echo":true,"presence_penalty":-0.5}"#
    ),
    ("/v1/egress/answer", #"{"document":"The mill closed in 1926.","question":"When?","max_tokens":3}"#),
    (
      "/v1/egress/summarize",
      #"{"document":"The mill closed in 1926.","words":5,"long":"split","max_tokens":3}"#
    ),
  ]

  /// What JSON is made of, so that changes are not only at its letters.
  private static let pieces = [
    "{", "}", "[", "]", ":", ",", "\"", "\\", "\\u0000", "\\ud83d", "null", "true", "-1", "1e400",
    "0.0000001", "[[[[",
    "{\"\":", "99999999999999999999", "\"messages\":", "\"$ref\":\"#\"", "\u{FEFF}", "\u{0}", "é", "\n",
  ]

  /// Some bytes changed, taken out, repeated, moved or put in.
  static func changed(_ bytes: [UInt8], by generator: inout SplitMix64) -> [UInt8] {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...2, using: &generator) where !bytes.isEmpty {
      let place = Int.random(in: 0..<bytes.count, using: &generator)
      let end = min(bytes.count, place + Int.random(in: 1...12, using: &generator))
      switch Int.random(in: 0..<6, using: &generator) {
      case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
      case 1: bytes.removeSubrange(place..<end)
      case 2: bytes.insert(contentsOf: bytes[place..<end], at: place)
      case 3: bytes.swapAt(place, Int.random(in: 0..<bytes.count, using: &generator))
      case 4:
        let piece = pieces[Int.random(in: 0..<pieces.count, using: &generator)]
        bytes.insert(contentsOf: Array(piece.utf8), at: place)
      default: bytes.removeSubrange(place...)
      }
    }
    return bytes
  }

  @Test func `bodies with wrong bytes are answered or refused, never with a fault`() async throws {
    try await withServer {
      // Changes may ask for many tokens.
      $0.context = 200
    } _: { server in
      var generator = SplitMix64(seed: 21)
      var statuses: [Int: Int] = [:]
      for round in 0..<500 {
        let (route, body) = Self.bodies[round % Self.bodies.count]
        let bytes = Self.changed(Array(body.utf8), by: &generator)
        let response = try await onThread { [port = server.port] in
          let connection = try HTTPConnection(port: port)
          connection.send("POST", route, body: bytes)
          return try connection.response()
        }
        statuses[response.status, default: 0] += 1
        let said = String(decoding: bytes, as: UTF8.self)
        #expect([200, 400, 404].contains(response.status), "\(response.status): \(said)")
        if response.status != 200 {
          let error = try response.json().object("error")
          #expect(text(error["message"])?.isEmpty == false, "\(said)")
        }
      }
      // Both happen, or the changes are not of a useful size.
      #expect(statuses[200, default: 0] > 20 && statuses[400, default: 0] > 100, "\(statuses)")
      #expect(server.engine.outstanding == 0)
    }
  }

  @Test func `what is hardly HTTP ends its own connection and nothing else`() async throws {
    let requests = [
      "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 32\r\n\r\n"
        + #"{"prompt": "ab", "max_tokens": 2}"#,
      "GET /v1/models/tiny HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer a\r\n\r\n",
      "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        + "transfer-encoding: chunked\r\n\r\n10\r\n{\"prompt\": \"abc\"\r\n12\r\n, \"max_tokens\": 2}\r\n0\r\n\r\n",
      "OPTIONS * HTTP/1.0\r\nexpect: 100-continue\r\n\r\n",
    ]
    try await withServer {
      $0.idleSeconds = 1
      $0.context = 200
    } _: { server in
      var generator = SplitMix64(seed: 5)
      for round in 0..<200 {
        let bytes = Self.changed(Array(requests[round % requests.count].utf8), by: &generator)
        let answer = try await onThread { [port = server.port] in
          let connection = try HTTPConnection(port: port)
          connection.send(bytes)
          connection.finishSending()
          return connection.rest()
        }
        let said = String(decoding: bytes, as: UTF8.self)
        #expect(answer.isEmpty || answer.hasPrefix("HTTP/1."), "\(said) gives \(answer)")
        #expect(!answer.contains("HTTP/1.1 5"), "\(said) gives \(answer)")
      }
      #expect(await server.eventually { server.engine.outstanding == 0 })
      #expect(try await server.ask("GET", "/health").status == 200)
      let whole = try await server.post("/v1/completions", #"{"prompt": "ab", "max_tokens": 2}"#)
      #expect(whole.status == 200)
    }
  }
}
