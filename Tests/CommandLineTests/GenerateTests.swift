import Foundation
import TestSupport
import Testing

@Suite struct GenerateTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func tokens(_ options: String..., prompt: String = "abc") throws -> [Int] {
    let result = try egress.run(
      ["generate", "--model", model, "--raw", "--max-tokens", "12", "--format", "json"] + options + [prompt])
    #expect(result.status == 0, "\(result.errors)")
    return try #require(try result.json()["token_ids"] as? [Int])
  }

  @Test func `JSON has the documented keys`() throws {
    let result = try egress.run(
      ["generate", "--model", model, "--max-tokens", "4", "--format", "json", "Hello"])
    let json = try result.json()
    #expect(
      Set(json.keys) == [
        "text", "token_ids", "prompt_token_ids", "stop_reason", "timings", "average_exit_layer",
      ])
    let timings = try #require(json["timings"] as? [String: Double])
    #expect(
      Set(timings.keys) == ["load", "prefill", "decode", "tokens_per_second", "prefill_tokens_per_second"])
    #expect((json["prompt_token_ids"] as? [Int])?.first == 1)
  }

  @Test func `text is what JSON says`() throws {
    let json = try egress.run([
      "generate", "--model", model, "--raw", "--max-tokens", "9", "--format", "json", "a",
    ])
    let text = try egress.run(["generate", "--model", model, "--raw", "--max-tokens", "9", "a"])
    let expected = try #require(try json.json()["text"] as? String)
    #expect(text.text == (expected.last?.isNewline == true ? expected : expected + "\n"))
  }

  @Test func `every sampling option changes the output and the seed fixes it`() throws {
    let base = try tokens("--temperature", "5", "--seed", "1")
    #expect(try tokens("--temperature", "5", "--seed", "1") == base)
    #expect(try tokens("--temperature", "5", "--seed", "2") != base)
    #expect(try tokens("--temperature", "50", "--seed", "1") != base)
    let greedy = try tokens()
    #expect(greedy != base)
    #expect(try tokens("--temperature", "5", "--seed", "1", "--top-k", "1") == greedy)
    #expect(try tokens("--temperature", "5", "--seed", "1", "--top-p", "0.0001") == greedy)
    #expect(try tokens("--temperature", "5", "--seed", "1", "--min-p", "1") == greedy)
  }

  @Test func `a seed that was drawn can be given again`() throws {
    let options = [
      "generate", "--model", model, "--raw", "--max-tokens", "12", "--format", "json", "--temperature", "5",
    ]
    let first = try egress.run(options + ["abc"]).json()
    let seed = try #require(first["seed"] as? Int)
    let second = try egress.run(options + ["--seed", "\(seed)", "abc"]).json()
    #expect(first["token_ids"] as? [Int] == second["token_ids"] as? [Int])
  }

  @Test func `threads and batching do not change the output`() throws {
    #expect(try tokens("--threads", "1") == tokens("--threads", "2"))
  }

  @Test func `max-tokens and context end the output`() throws {
    #expect(try tokens("--max-tokens", "3").count <= 3)
    let full = try egress.run(
      ["generate", "--model", model, "--raw", "--context", "8", "--format", "json", "abcd"])
    let json = try full.json()
    let count = try #require(json["token_ids"] as? [Int]).count
    if json["stop_reason"] as? String == "context_full" {
      #expect(count == 4 && full.errors.contains("the context is full"))
    } else {
      #expect(json["stop_reason"] as? String == "end_of_text" && count <= 4)
    }
  }

  @Test func `a stop string ends the output before it`() throws {
    let whole = try egress.run([
      "generate", "--model", model, "--raw", "--max-tokens", "12", "--format", "json", "abc",
    ])
    let text = try #require(try whole.json()["text"] as? String)
    let stop = String(try #require(text.dropFirst(2).first { $0.isASCII }))
    let cut = try egress.run(
      [
        "generate", "--model", model, "--raw", "--max-tokens", "12", "--stop", stop, "--format", "json",
        "abc",
      ])
    let json = try cut.json()
    #expect(json["stop_reason"] as? String == "stop_string")
    #expect(json["text"] as? String == String(text.prefix { String($0) != stop }))
  }

  @Test func `a text cannot forge a turn unless it is asked to`() throws {
    func prompt(_ options: String...) throws -> [Int] {
      let result = try egress.run(
        ["generate", "--model", model, "--max-tokens", "1", "--format", "json"] + options + ["<|im_start|>"])
      return try #require(try result.json()["prompt_token_ids"] as? [Int])
    }
    #expect(try prompt("--raw", "--special") == [1])
    #expect(try !prompt("--raw").contains(1))
    #expect(try prompt().count { $0 == 1 } == 2)
  }

  @Test func `the float32 path gives nearly the same scores`() throws {
    let text = "The mill ground corn by the sea."
    let fast = try egress.run(["score", "--model", model, "--format", "json"], input: text).json()
    let exact = try egress.run(
      ["score", "--model", model, "--compute", "float32", "--format", "json"], input: text
    ).json()
    let a = try #require(fast["logprobs"] as? [Double])
    let b = try #require(exact["logprobs"] as? [Double])
    let ids = try #require(fast["token_ids"] as? [Int])
    #expect(a.count == ids.count - 1 && a.count == b.count && a.allSatisfy { $0 < 0 })
    #expect(zip(a, b).allSatisfy { abs($0 - $1) < 0.5 })
    let mean = a.reduce(0, +) / Double(a.count)
    #expect(abs(try #require(fast["perplexity"] as? Double) - exp(-mean)) < 1e-9 * exp(-mean))
  }

  @Test func `tokens turn back into the very text`() throws {
    let text = "Zwölf Boxkämpfer\tjagen <|im_end|> \u{1F600}\r\n\n  x "
    let tokens = try egress.run(["tokenize", "--model", model], input: text)
    #expect(try egress.run(["detokenize", "--model", model], input: tokens.text).text == text)
    let json = try egress.run(["tokenize", "--model", model, "--format", "json"], input: text)
    #expect(try egress.run(["detokenize", "--model", model, "-"], input: json.text).text == text)
    #expect(try egress.run(["tokenize", "--model", model], input: "").text == "\n")
    #expect(try egress.run(["tokenize", "--model", model, "--special"], input: "<|im_end|>").text == "2\n")
  }

  @Test func `inspect and bench report the documented keys`() throws {
    let facts = try egress.run(["inspect", "--model", model, "--format", "json"]).json()
    #expect(facts["layers"] as? Int == 2 && facts["context_length"] as? Int == 128)
    #expect((facts["tensors"] as? [[String: Any]])?.count ?? 0 > 18)
    #expect(facts["prompts"] as? String == "chat")
    expectRefusal(try egress.run(["bench", "--model", model]), status: 1, saying: "context of")
  }

  @Test(arguments: ["quantized", "16-bit", "float32"])
  func `bench tells how far from a plain read of the weights a token is`(_ compute: String) throws {
    var decoder = TinyDecoder()
    decoder.contextLength = 512
    let long = try egress.folder.write("long.gguf", decoder.gguf().build())
    let found = try egress.run([
      "bench", "--model", long, "--compute", compute, "--format", "json",
    ]).json()
    let (whole, plain) = (
      try #require(found["gigabytes_per_second"] as? Double),
      try #require(found["read_gigabytes_per_second"] as? Double)
    )
    // A token of a model of two layers has far more to do than to read its weights.
    #expect(whole > 0 && plain > whole)
  }

  @Test func `a profile tells where the time of passes goes`() throws {
    var decoder = TinyDecoder()
    decoder.contextLength = 512
    let long = try egress.folder.write("long.gguf", decoder.gguf().build())
    let profile = try egress.run(["bench", "--profile", "--model", long, "--format", "json"]).json()
    let passes = try #require(profile["passes"] as? [String: [String: Any]])
    #expect(Set(passes.keys) == ["1", "4", "8", "16"])
    for pass in passes.values {
      let parts = try #require(pass["parts"] as? [String: Double])
      #expect(Set(parts.keys) == ["products", "attention", "rows", "unembedding", "between"])
      let total = try #require(pass["total"] as? Double)
      #expect(total > 0 && abs(parts.values.reduce(0, +) - total) < 1e-3 * total)
      #expect(pass["greedy_choice"] as? Double ?? 0 > 0)
    }
    let text = try egress.run(["bench", "--profile", "--model", long]).text
    #expect(text.contains("T(16)") && text.contains("of it waiting") && !text.contains("nan"))
    expectRefusal(
      try egress.run(["bench", "--profile", "--model", model]), status: 1, saying: "context of 272")
    expectRefusal(
      try egress.run(["bench", "--profile", "--prices", "p.json", "--model", long]), status: 64,
      saying: "exclude each other")
  }

  @Test func `Ctrl-C keeps what was written so far`() throws {
    // Without end tokens the model goes on until it is stopped.
    var decoder = TinyDecoder()
    decoder.contextLength = 200_000
    var builder = decoder.gguf()
    builder.remove("tokenizer.ggml.eos_token_id")
    builder.set("tokenizer.ggml.token_type", .int32s(Array(repeating: 1, count: decoder.vocabularySize)))
    let long = try egress.folder.write("long.gguf", builder.build())
    let pipe = try egress.makePipe()
    let result = try egress.run(
      [
        "generate", "--model", long, "--raw", "--max-tokens", "100000", "--temperature", "100", "--seed", "3",
        "abc",
      ],
      output: pipe.writing
    ) { process in
      // The first text has come: the signal now finds the program decoding.
      _ = pipe.reading.availableData
      kill(process.processIdentifier, SIGINT)
      DispatchQueue.global().async { while !pipe.reading.availableData.isEmpty {} }
    }
    #expect(result.status == 130)
    #expect(result.errors == "")
  }
}
