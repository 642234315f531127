import Foundation
import Generation
import Serving
import Testing

@Suite struct ChatTests {
  private static func body(_ text: String, _ rest: String = "") -> String {
    #"{"model": "tiny", "messages": [{"role": "user", "content": "\#(text)"}], "max_tokens": 12\#(rest)}"#
  }

  private func expected(_ server: RunningServer, _ text: String, _ options: GenerationOptions) throws
    -> Generation
  {
    try server.alone(server.model.prompt(user: text), options)
  }

  @Test func `an answer has OpenAI's form and the text that the model gives alone`() async throws {
    try await withServer { server in
      let response = try await server.post("/v1/chat/completions", Self.body("Hello"))
      let alone = try expected(server, "Hello", .init(maxTokens: 12))
      #expect(response.status == 200 && response.headers["content-type"] == "application/json")
      let json = try response.json()
      #expect(text(json["object"]) == "chat.completion" && text(json["model"]) == "tiny")
      #expect(text(json["id"])?.hasPrefix("chatcmpl-") == true && json["created"] is Int)
      #expect(text(json["system_fingerprint"])?.hasPrefix("fp_") == true)
      let choice = try #require(try json.list("choices").first)
      let message = try choice.object("message")
      #expect(text(message["role"]) == "assistant" && text(message["content"]) == alone.text)
      #expect(message["refusal"] is NSNull && choice["logprobs"] is NSNull)
      #expect(text(choice["finish_reason"]) == finishReason(alone.stopReason))
      let usage = try json.object("usage")
      #expect(usage["prompt_tokens"] as? Int == alone.promptTokenIDs.count)
      #expect(usage["completion_tokens"] as? Int == alone.tokenIDs.count)
      #expect(usage["total_tokens"] as? Int == alone.promptTokenIDs.count + alone.tokenIDs.count)
      let egress = try json.object("egress")
      #expect(egress["certificate"] is NSNull && egress["average_layer"] as? Double == 2)
    }
  }

  @Test func `penalties and biases change the output as they do alone`() async throws {
    try await withServer { server in
      let plain = try expected(server, "Hello", .init(maxTokens: 12))
      let first = try #require(plain.tokenIDs.first)
      var options = GenerationOptions(maxTokens: 12)
      options.adjustments = LogitAdjustments(
        frequencyPenalty: 1.5, presencePenalty: 0.5, bias: [first: -.infinity])
      let alone = try expected(server, "Hello", options)
      #expect(alone.tokenIDs.first != first)
      let rest = #", "frequency_penalty": 1.5, "presence_penalty": 0.5, "logit_bias": {"\#(first)": -100}"#
      let response = try await server.post("/v1/chat/completions", Self.body("Hello", rest))
      let choice = try #require(try response.json().list("choices").first)
      #expect(text(try choice.object("message")["content"]) == alone.text)
      let beyond = try await server.post(
        "/v1/chat/completions", Self.body("Hello", #", "logit_bias": {"1000000": 1}"#))
      #expect(beyond.status == 400, "\(beyond)")
    }
  }

  @Test func `a stream has the role first, reasons last, and the same text`() async throws {
    try await withServer { server in
      let rest = #", "stream": true, "stream_options": {"include_usage": true}"#
      let response = try await server.post("/v1/chat/completions", Self.body("Hello", rest))
      let alone = try expected(server, "Hello", .init(maxTokens: 12))
      #expect(response.headers["content-type"]?.hasPrefix("text/event-stream") == true)
      var events = response.events
      #expect(events.popLast() == "[DONE]")
      let chunks = try events.map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
      #expect(chunks.allSatisfy { text($0["object"]) == "chat.completion.chunk" })
      #expect(Set(chunks.map { text($0["id"]) }).count == 1)
      let last = try #require(chunks.last)
      #expect(try last.list("choices").isEmpty)
      #expect(try last.object("usage")["completion_tokens"] as? Int == alone.tokenIDs.count)
      let choices = try chunks.dropLast().map { try #require(try $0.list("choices").first) }
      #expect(chunks.dropLast().allSatisfy { $0["usage"] is NSNull })
      let deltas = try choices.map { try $0.object("delta") }
      #expect(text(deltas[0]["role"]) == "assistant" && text(deltas[0]["content"]) == "")
      #expect(deltas.dropFirst().allSatisfy { $0["role"] == nil })
      #expect(deltas.compactMap { text($0["content"]) }.joined() == alone.text)
      #expect(choices.dropLast().allSatisfy { $0["finish_reason"] is NSNull })
      #expect(text(choices.last?["finish_reason"]) == finishReason(alone.stopReason))
      #expect(deltas.last?.isEmpty == true)
      #expect(chunks[chunks.count - 2]["egress"] is [String: Any])
      // Without the wish, no word of usage.
      let plain = try await server.post("/v1/chat/completions", Self.body("Hello", #", "stream": true"#))
      #expect(!plain.text.contains("usage") && plain.text.hasSuffix("data: [DONE]\n\n"))
    }
  }

  @Test func `seeds, stop strings and numbers of outputs do what they do on the command line`() async throws {
    try await withServer { server in
      func options(_ seed: UInt64) -> GenerationOptions {
        .init(
          maxTokens: 12,
          sampling: .random(.init(temperature: 0.5, topK: 40, topP: 0.75, minP: 0.25, seed: seed)))
      }
      let rest =
        #", "temperature": 0.5, "top_p": 0.75, "top_k": 40, "min_p": 0.25, "seed": 7, "n": 3, "stop": null"#
      let json = try await server.post("/v1/chat/completions", Self.body("Hi", rest)).json()
      let texts = try json.list("choices").map { text(try $0.object("message")["content"]) }
      #expect(try texts == (7...9).map { try expected(server, "Hi", options($0)).text })
      #expect(try json.object("usage")["prompt_tokens"] as? Int == server.model.prompt(user: "Hi").count)
      #expect(text(try json.object("egress")["seed"]) == "7")
      let alone = try expected(server, "Hi", .init(maxTokens: 12)).text
      // A text that is in the middle of the output; random weights write odd characters, so it is sent escaped.
      let scalars = Array(alone.unicodeScalars)
      let stop = String(String.UnicodeScalarView(scalars[2..<3]))
      let escaped = String(decoding: try JSONEncoder().encode([stop]), as: UTF8.self)
      let stopped = try await server.post("/v1/chat/completions", Self.body("Hi", #", "stop": \#(escaped)"#))
        .json()
      let choice = try #require(try stopped.list("choices").first)
      let cut = try expected(server, "Hi", .init(maxTokens: 12, stopStrings: [stop]))
      #expect(cut.stopReason == .stopString)
      #expect(
        text(try choice.object("message")["content"]) == cut.text && text(choice["finish_reason"]) == "stop")
    }
  }

  @Test func `content may be in parts, and nulls are as if they were not there`() async throws {
    try await withServer { server in
      let parts = """
        {"messages": [{"role": "developer", "content": "Be brief.", "name": null},
        {"role": "user", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]},
        {"role": "assistant", "content": null, "tool_calls": null, "refusal": null},
        {"role": "user", "content": "Go on."}],
        "max_completion_tokens": 5, "max_tokens": null, "temperature": null, "top_p": null, "n": null, "stop": null,
        "stream": null, "stream_options": null, "seed": null, "tools": [], "tool_choice": "auto", "logit_bias": {},
        "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": false, "top_logprobs": null, "user": "me",
        "response_format": {"type": "text"}, "metadata": {"a": "b"}, "parallel_tool_calls": true}
        """
      let json = try await server.post("/v1/chat/completions", parts).json()
      let prompt = try server.model.prompt(messages: [
        .init(role: "system", content: "Be brief."), .init(role: "user", content: "Hello"),
        .init(role: "assistant", content: ""), .init(role: "user", content: "Go on."),
      ])
      let choice = try #require(try json.list("choices").first)
      #expect(
        text(try choice.object("message")["content"]) == (try server.alone(prompt, .init(maxTokens: 5)).text))
    }
  }

  @Test func `completions take texts, tokens and several of them`() async throws {
    try await withServer { server in
      let (a, b) = (try server.model.prompt(raw: "The mill"), [70, 71, 72])
      func text(_ prompt: [Int], _ count: Int) throws -> String {
        try server.alone(prompt, .init(maxTokens: count)).text
      }
      func ask(_ body: String) async throws -> [String] {
        let json = try await server.post("/v1/completions", body).json()
        #expect(json["object"] as? String == "text_completion")
        return try json.list("choices").map { try #require($0["text"] as? String) }
      }
      #expect(try await ask(#"{"prompt": "The mill"}"#) == [text(a, 16)])
      #expect(try await ask(#"{"prompt": [70, 71, 72], "max_tokens": 3}"#) == [text(b, 3)])
      #expect(
        try await ask(#"{"prompt": ["The mill", [70, 71, 72]], "max_tokens": 4, "n": 2, "best_of": 2}"#)
          == [text(a, 4), text(a, 4), text(b, 4), text(b, 4)])
      #expect(
        try await ask(#"{"prompt": "The mill", "max_tokens": 4, "echo": true}"#) == ["The mill" + text(a, 4)])
      let stream = try await server.post(
        "/v1/completions", #"{"prompt": "The mill", "stream": true, "echo": true, "max_tokens": 4}"#)
      let pieces = try stream.events.dropLast().map { event in
        let chunk = try #require(try JSONSerialization.jsonObject(with: Data(event.utf8)) as? [String: Any])
        return try #require(try chunk.list("choices").first?["text"] as? String)
      }
      #expect(try pieces.joined() == "The mill" + text(a, 4) && stream.events.last == "[DONE]")
    }
  }

  @Test func `models and health are told`() async throws {
    try await withServer { server in
      #expect(try await server.ask("GET", "/health").json()["status"] as? String == "ok")
      let list = try await server.ask("GET", "/v1/models").json()
      #expect(text(list["object"]) == "list")
      let model = try #require(try list.list("data").first)
      #expect(text(model["id"]) == "tiny" && text(model["object"]) == "model" && model["created"] is Int)
      #expect(try await text(server.ask("GET", "/v1/models/tiny").json()["id"]) == "tiny")
      let other = try await server.ask("GET", "/v1/models/gpt-4")
      #expect(other.status == 404)
      #expect(try text(other.json().object("error")["code"]) == "model_not_found")
    }
  }
}
