import Foundation
import TestSupport
import Testing

/// A model and some documents become a folder that makes the model faster, and decoding uses it.
@Suite struct AdaptCommandTests {
  let egress: CommandRunner
  let model: String

  let draftHead: String

  init() throws {
    egress = try CommandRunner()
    var decoder = TinyDecoder()
    decoder.layerCount = 6
    var builder = decoder.gguf()
    builder.set("tokenizer.chat_template", .string(CommandRunner.chatTemplate))
    model = try egress.folder.write("tiny.gguf", builder.build())
    draftHead = try TinyDraftHead(of: decoder, gguf: builder, token: 3, state: 0.5).write(
      to: egress.folder, modelPath: model)
  }

  private func writeDocuments(_ name: String = "docs.jsonl", count: Int = 70) throws -> String {
    let lines = (0..<count).map { index in
      let words = (0..<7).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
      return #"{"id": \#(index), "document": "\#(words)", "references": ["some words \#(index)"]}"#
    }
    return try egress.folder.write(name, lines.joined(separator: "\n") + "\n")
  }

  private func adapt(_ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "adapt", model, "--data", data, "--max-tokens", "8", "--risk", "consistency", "--epsilon", "0.6",
      ] + options)
  }

  private func file(_ name: String) -> String { egress.path("tiny.gguf.egress/\(name)") }

  private func description() throws -> [String: Any] {
    try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: file("adaptation.json")))) as? [String: Any])
  }

  /// What pays hangs on the clock; a test says it instead.
  private func setWay(_ edit: (inout [String: Any]) -> Void) throws {
    var found = try description()
    edit(&found)
    try JSONSerialization.data(withJSONObject: found).write(to: URL(fileURLWithPath: file("adaptation.json")))
  }

  @Test func `an adaptation is made, goes on where it was, and is used`() throws {
    let data = try writeDocuments()
    let result = try adapt(data)
    #expect([0, 3].contains(result.status), "\(result.errors)")
    #expect(result.text.contains("fitted on 21 documents, certified on 49: rouge-l, consistency"))
    let found = try description()
    let timings = try #require(found["timings"] as? [[String: Any]])
    #expect(timings.first?["name"] as? String == "full depth")
    // Drafts looked up in the text change nothing.
    #expect(timings.dropFirst().first?["identical_outputs"] as? Int == found["timed_documents"] as? Int)
    let attempts = try #require(found["attempts"] as? [[String: Any]])
    #expect(attempts.contains { $0["name"] as? String == "prompts" })
    let page = try egress.text("tiny.gguf.egress/report.html")
    #expect(page.contains("On the clock") && page.contains("layer 5"))

    // Half the outputs are gone, as after an interruption, and come back to the bytes.
    let outputs = try egress.text("tiny.gguf.egress/outputs.jsonl")
    let runs = try egress.text("tiny.gguf.egress/prompts.runs.jsonl")
    let heads = try Data(contentsOf: URL(fileURLWithPath: file("heads.safetensors")))
    for (name, text) in [("outputs.jsonl", outputs), ("prompts.runs.jsonl", runs)] {
      try Data(text.utf8.prefix(text.utf8.count / 2)).write(to: URL(fileURLWithPath: file(name)))
    }
    for name in ["heads.safetensors", "heads.json", "plan.json", "adaptation.json"] {
      try FileManager.default.removeItem(atPath: file(name))
    }
    #expect([0, 3].contains(try adapt(data).status))
    #expect(try egress.text("tiny.gguf.egress/outputs.jsonl") == outputs)
    #expect(try egress.text("tiny.gguf.egress/prompts.runs.jsonl") == runs)
    #expect(try Data(contentsOf: URL(fileURLWithPath: file("heads.safetensors"))) == heads)

    // Decoding uses what is there, and full depth says nothing of it.
    try setWay {
      $0["way"] = "full-depth"; $0["prompt_lookup"] = true
    }
    func summarize(_ options: String...) throws -> CommandRunner.Result {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8"] + options, input: "some words, some words")
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    let (with, without) = (try summarize(), try summarize("--full-depth"))
    #expect(with.output == without.output && !with.output.isEmpty)
    #expect(with.errors.contains("drafts looked up in the text, from ") && without.errors.isEmpty)
    #expect(
      try summarize("--temperature", "0.5").errors.contains("does not cover this, for sampling was greedy"))
    #expect(try summarize("--exit-threshold", "1").errors.isEmpty)
    let batch = try egress.run([
      "summarize", "--model", model, "--max-tokens", "8", "--input", data, "--output",
      egress.path("out.jsonl"),
    ])
    #expect(batch.status == 0 && batch.errors.contains("from \(egress.path("tiny.gguf.egress"))"))
  }

  @Test func `a draft head is timed with what it goes with, and used where it pays`() throws {
    let data = try writeDocuments()
    let result = try adapt(data, "--draft", draftHead)
    #expect([0, 3].contains(result.status), "\(result.errors)")
    let found = try description()
    let timings = try #require(found["timings"] as? [[String: Any]])
    let drafted = try #require(timings.first { $0["name"] as? String == "draft head and prompt look-up" })
    #expect(drafted["identical_outputs"] as? Int == found["timed_documents"] as? Int)
    #expect(!timings.contains { "\($0["name"] ?? "")".hasPrefix("exits and draft head") })
    let isChosen = found["draft_head_sha256"] != nil
    #expect(FileManager.default.fileExists(atPath: file("draft-head.safetensors")) == isChosen)

    // What pays hangs on the clock.
    for kind in ["safetensors", "json"] {
      try? FileManager.default.removeItem(atPath: file("draft-head.\(kind)"))
      try FileManager.default.copyItem(
        atPath: egress.path("head.\(kind)"), toPath: file("draft-head.\(kind)"))
    }
    try setWay {
      $0["way"] = "full-depth"
      $0["prompt_lookup"] = true
      $0["draft_head_sha256"] = "of the head"
    }
    func summarize(_ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options,
        input: "12 34 56 12 34 56")
    }
    let (used, plain) = (try summarize(), try summarize("--full-depth"))
    #expect(used.errors.contains("drafts of a head and looked up in the text, from "), "\(used.errors)")
    #expect(try used.json()["token_ids"] as? [Int] == plain.json()["token_ids"] as? [Int])
    #expect(try used.json()["speculation"] != nil)
    // The head that lies there is good enough for another run, and a folder without one is refused.
    #expect([0, 3].contains(try adapt(data, "--draft", file("draft-head.safetensors")).status))
    try setWay {
      $0["way"] = "full-depth"
      $0["prompt_lookup"] = true
      $0["draft_head_sha256"] = "of the head"
    }
    try? FileManager.default.removeItem(atPath: file("draft-head.json"))
    let refused = try summarize()
    #expect(refused.status == 1 && refused.errors.contains("draft-head.json"), "\(refused.errors)")
    expectRefusal(
      try adapt(data, "--draft", model), status: 64, saying: "--draft takes a .safetensors file")
  }

  @Test func `a certified way is applied by its certificate and its heads`() throws {
    let data = try writeDocuments()
    #expect([0, 3].contains(try adapt(data).status))
    // Certified by hand at the same heads, so that the test does not hang on what pays.
    let made = try egress.run([
      "calibrate", "--model", model, "--data", data, "--exit-heads", file("heads.safetensors"),
      "--max-tokens",
      "8", "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99", "--no-guard", "--certificate",
      file("exits.certificate.json"), "--force",
    ])
    #expect(made.status == 0, "\(made.errors)")
    try setWay {
      $0["way"] = "exits"; $0["prompt_lookup"] = true
    }
    func summarize(_ options: String...) throws -> CommandRunner.Result {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options, input: "12 34 56")
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    let used = try summarize()
    #expect(used.errors.contains("early exits, with drafts looked up in the text, from "))
    let given = try summarize(
      "--certificate", file("exits.certificate.json"), "--exit-heads", file("heads.safetensors"))
    #expect(try used.json()["text"] as? String == given.json()["text"] as? String)
    #expect(try used.json()["average_exit_layer"] as? Double == given.json()["average_exit_layer"] as? Double)

    #expect(try serve().contains("exits.certificate.json: "))
    #expect(try !serve("--full-depth").contains("certificate.json"))
  }

  @Test func `exits and prompts are certified together where both plans say so`() throws {
    let data = try writeDocuments()
    let prepared = try adapt(data, "--prepare")
    #expect(prepared.status == 0, "\(prepared.errors)")
    // What pays hangs on the machine, and what a random model does with shorter prompts on the model.
    func edit(_ name: String, _ change: (inout [String: Any]) -> Void) throws {
      let url = URL(fileURLWithPath: file(name))
      var json = try #require(
        try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
      change(&json)
      try JSONSerialization.data(withJSONObject: json).write(to: url)
    }
    let plan = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: file("prompt-plan.json"))))
        as? [String: Any])
    let depths = try #require(plan["depths"] as? [[String: Any]])
    #expect(depths.compactMap { $0["layer"] as? Int } == [4, 2])
    #expect(depths.allSatisfy { (0...1).contains($0["agreement"] as? Double ?? -1) })
    try edit("prompt-plan.json") { $0["layer"] = 4 }
    try edit("prices.json") {
      $0["prompt_layer"] = 1.0; $0["prompt_propagated_layer"] = 0.1; $0["output_token"] = 7.0
    }
    try edit("exit-prices.json") {
      $0["layer"] = Array(repeating: 1.0, count: ($0["layer"] as? [Any])?.count ?? 1)
      $0["head"] = 1.0; $0["exitHead"] = 0.001; $0["gate"] = 0.001; $0["propagatedLayer"] = 0.001
    }
    try FileManager.default.removeItem(atPath: file("plan.json"))

    let result = try adapt(data, "--delta", "0.3")
    #expect([0, 3].contains(result.status), "\(result.errors)")
    let attempts = try #require(try description()["attempts"] as? [[String: Any]])
    #expect(attempts.compactMap { $0["name"] as? String } == ["exits", "prompts", "both"])
    #expect(attempts[2]["prompt_layer"] as? Int == 4 && attempts[0]["prompt_layer"] == nil)
    #expect(try egress.text("tiny.gguf.egress/report.html").contains("tried with exits"))
    #expect(result.text.contains("prompts to layer 4"))
    // At the safest threshold a document costs what it does at full depth, whichever way says so.
    let costs = try attempts.map { try #require($0["full_milliseconds"] as? Double) }
    #expect(costs.allSatisfy { abs($0 / costs[0] - 1) < 0.1 }, "\(costs)")
    #expect(attempts[2]["outcome"] as? String == "certified")
    let certificate = try egress.text("tiny.gguf.egress/both.certificate.json")
    #expect(certificate.contains("\"policies_compared\" : 3") && certificate.contains("\"layer\" : 4"))
    let timings = try #require(try description()["timings"] as? [[String: Any]])
    let names = timings.compactMap { $0["name"] as? String }
    #expect(names.contains("both") && names.contains("both and prompt look-up"))

    // What is chosen hangs on the clock, and what decoding does then does not.
    try setWay {
      $0["way"] = "both"; $0["prompt_lookup"] = false
    }
    func summarize(_ options: String...) throws -> [String: Any] {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options,
        input: "12 34 56 78 910 1112 1314")
      #expect(result.status == 0, "\(result.errors)")
      return try result.json()
    }
    let (used, given) = (
      try summarize(),
      try summarize("--certificate", file("both.certificate.json"), "--exit-heads", file("heads.safetensors"))
    )
    #expect(used["token_ids"] as? [Int] == given["token_ids"] as? [Int])
    #expect(used["average_exit_layer"] as? Double == given["average_exit_layer"] as? Double)
    #expect(try serve().contains("both.certificate.json: "))
  }

  @Test func `a model without turns is adapted with the prompts that it is read with`() throws {
    var decoder = TinyDecoder()
    decoder.layerCount = 4
    try egress.folder.write("tiny.gguf", decoder.gguf().build())
    let data = try writeDocuments()
    #expect([0, 3].contains(try adapt(data).status))
    let outputs = try egress.text("tiny.gguf.egress/outputs.jsonl").split(separator: "\n")
    let first = try #require(
      try JSONSerialization.jsonObject(with: Data(outputs[0].utf8)) as? [String: Any])
    func summarize(_ options: [String]) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options,
        input: (0..<7).map { "\($0 * 104_729 % 9973)" }.joined(separator: " "))
    }
    let plain = try summarize(["--full-depth"])
    #expect(try plain.json()["prompt_token_ids"] as? [Int] == first["prompt"] as? [Int])
    #expect(try plain.json()["token_ids"] as? [Int] == first["tokens"] as? [Int])

    let made = try egress.run([
      "calibrate", "--model", model, "--data", data, "--max-tokens", "8", "--exit-layers", "2", "--risk",
      "consistency", "--rule", "empirical", "--epsilon", "0.99", "--no-guard", "--certificate",
      egress.path("c.json"),
    ])
    #expect(made.status == 0, "\(made.errors)")
    let used = try summarize(["--certificate", egress.path("c.json")])
    #expect(used.status == 0 && used.errors.contains("Nothing is guaranteed"), "\(used.errors)")
    // A model that can be asked in several ways: the certificate is of one of them.
    let both = try egress.writeModel("both.gguf", layers: 4) {
      $0.set("egress.prompts", .string("completion"))
    }
    let another = try egress.run([
      "calibrate", "--model", both, "--data", data, "--max-tokens", "8", "--exit-layers", "2", "--risk",
      "consistency", "--rule", "empirical", "--epsilon", "0.99", "--no-guard", "--output",
      egress.path("both"), "--certificate", egress.path("d.json"),
    ])
    #expect(another.status == 0, "\(another.errors)")
    func read(_ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", both, "--max-tokens", "8", "--certificate", egress.path("d.json")] + options,
        input: "12 34 56")
    }
    #expect(try read().status == 0)
    for style in ["chat", "examples"] {
      expectRefusal(
        try read("--prompts", style), status: 1, saying: "the certificate is for another prompt template")
    }
  }

  /// Starts a server and ends it.
  ///
  /// - Returns: What it says on standard error.
  private func serve(_ options: String...) throws -> String {
    let log = try egress.folder.write("log", "")
    func said() throws -> String { try String(contentsOfFile: log, encoding: .utf8) }
    let result = try egress.run(
      ["serve", "--model", model, "--port", "0", "--threads", "1", "--log-level", "error"] + options,
      errors: FileHandle(forWritingTo: URL(fileURLWithPath: log))
    ) { process in
      for _ in 0..<60_000 where process.isRunning {
        if try said().contains("is served at") { break }
        Thread.sleep(forTimeInterval: 0.01)
      }
      process.terminate()
    }
    #expect(result.status == 0)
    return try said()
  }

  @Test func `a template that does not run is left out where that is asked for`() throws {
    _ = try egress.writeModel("tiny.gguf") { $0.set("tokenizer.chat_template", .string("{% foo %}")) }
    let data = try writeDocuments()
    expectRefusal(try adapt(data, "--prepare"), status: 1, saying: "without it with --prompts completion")
    let made = try adapt(data, "--prepare", "--prompts", "completion")
    #expect(made.status == 0, "\(made.errors)")
    #expect(FileManager.default.fileExists(atPath: file("outputs.jsonl")))
  }

  @Test func `what does not fit a folder is refused`() throws {
    let data = try writeDocuments()
    expectRefusal(
      try adapt(try writeDocuments("few.jsonl", count: 12)), status: 1,
      saying: "12 documents that fit the model's context; adapting takes at least 60")
    expectRefusal(
      try adapt(data, "--metric", "nonsense"), status: 64, saying: "--metric must be one that compares texts")
    expectRefusal(
      try egress.run([
        "adapt", model, "--data", data, "--max-tokens", "8", "--risk", "consistency", "--epsilon", "0.001",
      ]),
      status: 1,
      saying: "no epsilon below")
    #expect([0, 3].contains(try adapt(data).status))
    expectRefusal(
      try adapt(try writeDocuments("other.jsonl", count: 71)), status: 1,
      saying: "is for another model, other documents or another metric; remove it to begin again")

    let description = try egress.text("tiny.gguf.egress/adaptation.json")
    func refuses(_ text: String, saying words: String) throws {
      try Data(text.utf8).write(to: URL(fileURLWithPath: file("adaptation.json")))
      expectRefusal(
        try egress.run(["summarize", "--model", model, "--max-tokens", "8"], input: "a text"), status: 1,
        saying: words)
    }
    try refuses(String(description.prefix(40)), saying: "expected an adaptation, found something else")
    try refuses(
      description.replacingOccurrences(of: #""version" : 1"#, with: #""version" : 7"#),
      saying: "version: expected 1, found 7")
    try refuses(
      description.replacingOccurrences(of: #""way" : ""#, with: #""way" : "x"#), saying: "adaptation.json")
    try setWay(from: description) { $0["model_sha256"] = String(repeating: "0", count: 64) }
    expectRefusal(
      try egress.run(["summarize", "--model", model, "--max-tokens", "8"], input: "a text"), status: 1,
      saying: "is for another model, adapted as Tiny")
  }

  private func setWay(from text: String, _ edit: (inout [String: Any]) -> Void) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: file("adaptation.json")))
    try setWay(edit)
  }
}
