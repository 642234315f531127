import Foundation
import Serving
import Testing

@Suite struct RefusalTests {
  private static let messages = #""messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2"#

  @Test(arguments: [
    (#""tools": [{"type": "function"}]"#, "tools"),
    (#""tool_choice": "required""#, "tool_choice"),
    (#""response_format": {"type": "xml"}"#, "response_format.type"),
    (#""response_format": {"type": "json_object"}, "stop": "a""#, "stop"),
    (#""response_format": {"type": "json_schema"}"#, "response_format.json_schema"),
    (#""response_format": {"type": "json_schema", "json_schema": {}}"#, "response_format.json_schema.schema"),
    (
      #""response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"not": {}}}}}}"#,
      "response_format.json_schema.schema.properties.a.not"
    ),
    (#""logit_bias": {"5": 101}"#, "logit_bias"), (#""logit_bias": {"a": 1}"#, "logit_bias"),
    (#""logprobs": true, "top_logprobs": 21"#, "top_logprobs"), (#""top_logprobs": 2"#, "top_logprobs"),
    (#""logprobs": 5"#, "logprobs"),
    (#""presence_penalty": 2.5"#, "presence_penalty"),
    (#""frequency_penalty": "0.5""#, "frequency_penalty"),
    (#""modalities": ["audio"]"#, "modalities"),
    (#""reasoning_effort": "high""#, "reasoning_effort"),
    (#""store": true"#, "store"),
    (#""something": 1"#, "something"),
    (#""temperature": 3"#, "temperature"),
    (#""temperature": "hot""#, "temperature"),
    (#""top_p": 1.5"#, "top_p"),
    (#""n": 0"#, "n"),
    (#""n": 1.5"#, "n"),
    (#""seed": 1e300"#, "seed"),
    (#""stop": 5"#, "stop"),
    (#""stop": [""]"#, "stop"),
    (#""stop": [1]"#, "stop"),
    (#""stream": 1"#, "stream"),
    (#""stream_options": {"include_usage": true}"#, "stream_options"),
    (#""max_completion_tokens": 3"#, "max_tokens"),
    (#""max_completion_tokens": 0"#, "max_completion_tokens"),
  ])
  func `a field that cannot be honoured is refused by name`(field: String, param: String) async throws {
    try await withServer { server in
      let response = try await server.post("/v1/chat/completions", "{\(Self.messages), \(field)}")
      #expect(response.status == 400)
      let error = try response.json().object("error")
      #expect(text(error["param"]) == param && text(error["type"]) == "invalid_request_error")
      #expect(text(error["message"])?.isEmpty == false && error.keys.contains("code"))
    }
  }

  @Test func `messages at fault are refused by place`() async throws {
    let cases = [
      (#"{"messages": []}"#, "messages"), ("{}", "messages"), (#"{"messages": "Hi"}"#, "messages"),
      (#"{"messages": ["Hi"]}"#, "messages[0]"),
      (#"{"messages": [{"content": "Hi"}]}"#, "messages[0].role"),
      (#"{"messages": [{"role": "tool", "content": "Hi"}]}"#, "messages[0].role"),
      (#"{"messages": [{"role": "user"}]}"#, "messages[0].content"),
      (#"{"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]}"#, "messages[0].name"),
      (
        #"{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}"#,
        "messages[0].content[0].type"
      ),
      (#"{"messages": [{"role": "user", "content": "Hi", "x": 1}]}"#, "messages[0].x"),
      (#"{"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}"#, "messages[0].tool_calls"),
    ]
    try await withServer { server in
      for (body, param) in cases {
        let response = try await server.post("/v1/chat/completions", body)
        #expect(response.status == 400, "\(body)")
        #expect(try text(response.json().object("error")["param"]) == param, "\(body)")
      }
      for body in [
        #"{}"#, #"{"prompt": []}"#, #"{"prompt": [[]]}"#, #"{"prompt": [1.5]}"#, #"{"prompt": [99999]}"#,
        #"{"prompt": ""}"#,
      ] {
        let response = try await server.post("/v1/completions", body)
        #expect(response.status == 400, "\(body)")
        #expect(try text(response.json().object("error")["param"]) == "prompt", "\(body)")
      }
      for (body, param) in [
        (#"{"prompt": "a", "logprobs": 6}"#, "logprobs"),
        (#"{"prompt": "a", "logprobs": 1, "echo": true}"#, "logprobs"),
        (#"{"prompt": "a", "best_of": 3}"#, "best_of"), (#"{"prompt": "a", "suffix": "b"}"#, "suffix"),
      ] {
        #expect(try text(await server.post("/v1/completions", body).json().object("error")["param"]) == param)
      }
    }
  }

  @Test func `what is not JSON is refused, however it is not`() async throws {
    let bodies = [
      "", "{", "[]", "null", "{\"a\": 1", "{\"messages\": [}", "{\"messages\": [], \"messages\": []}",
      "\u{FEFF}{}",
      String(repeating: "[", count: 5000), "{\"a\": \"\\ud800\"}", "{\"a\": NaN}", "{\"a\": 1e999}",
      "{\"a\": [" + String(repeating: "1,", count: 100_000) + "1]}", "{'a': 1}",
    ]
    try await withServer { server in
      for body in bodies {
        let response = try await server.post("/v1/chat/completions", body)
        #expect(response.status == 400, "\(body.prefix(40))")
        #expect(try response.json()["error"] is [String: Any], "\(body.prefix(40))")
      }
      let bytes = try await onThread { [port = server.port] in
        let connection = try HTTPConnection(port: port)
        connection.send("POST", "/v1/chat/completions", body: [0x7B, 0xFF, 0xFE, 0x00])
        return try connection.response()
      }
      #expect(bytes.status == 400)
      let form = try await server.ask(
        "POST", "/v1/chat/completions", "{\(Self.messages)}", headers: ["content-type": "text/plain"])
      #expect(form.status == 400)
      #expect(try text(form.json().object("error")["code"]) == "invalid_content_type")
      // The server is as it was.
      #expect(try await server.post("/v1/chat/completions", "{\(Self.messages)}").status == 200)
    }
  }

  @Test func `bodies that are too large are refused, told beforehand or not`() async throws {
    try await withServer {
      $0.bodyLimit = 10_000
    } _: { server in
      let large =
        #"{"messages": [{"role": "user", "content": ""# + String(repeating: "a", count: 20_000) + "\"}]}"
      let told = try await server.post("/v1/chat/completions", large)
      #expect(told.status == 413)
      #expect(try text(told.json().object("error")["code"]) == "request_too_large")
      // A client that went on with the connection would find it closed in the middle of its next request.
      #expect(told.headers["connection"] == "close")
      let untold = try await onThread { [port = server.port] in
        let connection = try HTTPConnection(port: port)
        connection.send("POST", "/v1/chat/completions", headers: ["transfer-encoding": "chunked"])
        let chunk = String(repeating: "b", count: 4096)
        for _ in 0..<4 { connection.send("1000\r\n\(chunk)\r\n") }
        let response = try connection.response()
        // Whoever goes on sending is hung up on.
        return (response.status, connection.waitForEnd())
      }
      #expect(untold == (413, true))
    }
  }

  @Test func `prompts that do not fit, other models and other places are refused`() async throws {
    try await withServer {
      $0.context = 64
    } _: { server in
      let long = String(repeating: "word ", count: 100)
      let response = try await server.post(
        "/v1/chat/completions", #"{"messages": [{"role": "user", "content": "\#(long)"}]}"#)
      #expect(response.status == 400)
      #expect(try text(response.json().object("error")["code"]) == "context_length_exceeded")
      #expect(
        try await server.post("/v1/chat/completions", #"{"model": "x", \#(Self.messages)}"#).status == 404)
      let missing = try await server.ask("GET", "/v1/nothing")
      #expect(missing.status == 404)
      #expect(try text(missing.json().object("error")["code"]) == "not_found")
      for (method, path, allow) in [
        ("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/egress/answer", "POST"), ("POST", "/", "GET"),
        ("TRACE", "/health", "GET"), ("DELETE", "/v1/models/tiny", "GET"), ("POST", "/metrics", "GET"),
      ] {
        let wrong = try await server.ask(method, path)
        #expect(wrong.status == 405 && wrong.headers["allow"] == allow, "\(method) \(path)")
        #expect(try text(wrong.json().object("error")["code"]) == "method_not_allowed")
      }
    }
  }

  @Test func `without the key nothing answers but health`() async throws {
    try await withServer {
      $0.keys = ["first", "second key"]
    } _: { server in
      #expect(try await server.ask("GET", "/health").status == 200)
      for path in ["/", "/v1/models", "/metrics", "/v1/models/tiny", "/nothing"] {
        let response = try await server.ask("GET", path)
        #expect(response.status == 401, "\(path)")
        #expect(response.headers["www-authenticate"] != nil)
      }
      for key in ["Bearer", "Bearer wrong", "Bearer firs", "Bearer first2", "Basic first", "first"] {
        let response = try await server.ask("GET", "/v1/models", headers: ["authorization": key])
        #expect(response.status == 401, "\(key)")
        #expect(try text(response.json().object("error")["code"]) == "invalid_api_key")
      }
      let password = Data("me:second key".utf8).base64EncodedString()
      for key in ["Bearer first", "bearer second key", "Basic \(password)"] {
        #expect(
          try await server.ask("GET", "/v1/models", headers: ["authorization": key]).status == 200, "\(key)")
      }
      #expect(try await server.post("/v1/chat/completions", "{\(Self.messages)}").status == 401)
    }
  }

  @Test func `a page that calls this machine by another name is refused`() async throws {
    try await withServer { server in
      for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"] {
        let response = try await server.ask("GET", "/v1/models", headers: ["host": host])
        #expect(response.status == 403, "\(host)")
      }
      for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"] {
        let response = try await server.ask("GET", "/v1/models", headers: ["host": host])
        #expect(response.status == 200, "\(host)")
      }
    }
  }
}
