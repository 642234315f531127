import Checkpoints
import Foundation
import TestSupport
import Testing

@Suite struct DraftHeadCommandTests {
  let egress: CommandRunner
  let model: String
  let head: String

  init() throws {
    egress = try CommandRunner()
    var tiny = TinyDecoder()
    tiny.layerCount = 3
    tiny.hasTiedEmbedding = false
    var gguf = tiny.gguf()
    gguf.set("general.name", .string("large"))
    gguf.set("tokenizer.chat_template", .string(CommandRunner.chatTemplate))
    model = try egress.folder.write("large.gguf", gguf.build())
    head = try TinyDraftHead(of: tiny, gguf: gguf, token: 3, state: 0.5).write(
      to: egress.folder, name: "tiny", modelPath: model)
  }

  private func generate(_ options: [String], raw: Bool = true) throws -> CommandRunner.Result {
    let text = "the in the on the in the on the in"
    // In the model's template it is a document: what a certificate is made on.
    return raw
      ? try egress.run(
        ["generate", "--model", model, "--max-tokens", "24", "--format", "json", "--raw"] + options + [text])
      : try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options, input: text)
  }

  @Test func `a draft head drafts exactly, or with rollback, and auto takes it`() throws {
    let plain = try generate([])
    #expect(plain.status == 0, "\(plain.errors)")
    for options in [
      ["--draft", head, "--exact", "--fallback", "0"], ["--draft", head, "--rollback", "0"],
      ["--drafter", "auto", "--draft", head, "--fallback", "0"],
    ] {
      let found = try generate(options)
      #expect(found.status == 0, "\(found.errors)")
      #expect(try found.json()["token_ids"] as? [Int] == plain.json()["token_ids"] as? [Int])
      #expect(try found.json()["speculation"] != nil)
    }
    let free = try generate(["--draft", head, "--rollback", "inf", "--fallback", "0", "--draft-length", "3"])
    let statistics = try #require(try free.json()["speculation"] as? [String: Any])
    #expect(statistics["rollbacks"] as? Int == 0)
    #expect(statistics["drafted"] as? Int == statistics["accepted"] as? Int)
  }

  @Test func `what cannot be is refused`() throws {
    expectRefusal(try generate(["--draft", "head"]), status: 1, saying: "no draft head comes with")
    expectRefusal(
      try generate(["--draft", head, "--draft-exit-threshold", "0.5"]), status: 64,
      saying: "a draft head, which has one layer")
    expectRefusal(
      try generate(["--draft", head, "--exit-threshold", "0.5"]), status: 1, saying: "a draft head")
    let other = try egress.writeModel("other.gguf")
    expectRefusal(
      try egress.run(["generate", "--model", other, "--draft", head, "--raw", "a"]), status: 1,
      saying: "tiny.safetensors: model: expected Tiny with SHA-256")
    try egress.folder.write("tiny.json", "{}")
    expectRefusal(try generate(["--draft", head]), status: 1, saying: "the description of a draft head")
  }

  @Test func `a rollback threshold is certified for a draft head, and for no other`() throws {
    let documents = (0..<12).map {
      #"{"id": \#($0), "document": "the in on \#($0 * 7919)", "references": ["some words"]}"#
    }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let made = try egress.run([
      "calibrate", "--model", model, "--draft", head, "--data", data, "--max-tokens", "8", "--fallback", "0",
      "--draft-length", "3", "--risk", "consistency", "--epsilon", "0.99",
    ])
    #expect(made.status == 0 || made.status == 3, "\(made.errors)")
    #expect(made.text.contains("head tiny drafting for large"))
    let path = egress.folder.path + "/docs.certificate.json"
    let found = try generate(["--draft", head, "--certificate", path], raw: false)
    #expect(found.status == 0, "\(found.errors)")
    let evaluated = try egress.run([
      "evaluate", "--model", model, "--draft", head, "--certificate", path, "--data", data, "--max-tokens",
      "8",
    ])
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    expectRefusal(
      try generate(["--draft", model, "--certificate", path], raw: false), status: 1,
      saying: "not for this draft")
    expectRefusal(
      try generate(["--certificate", path], raw: false), status: 1,
      saying: "is for drafts of head tiny, and no draft is given: add --draft")
  }

  private static func document(_ index: Int) -> String {
    (0..<7).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
  }

  @Test func `drafts and the prompt's depth are certified together`() throws {
    let documents = (0..<100).map { #"{"id": \#($0), "document": "\#(Self.document($0))"}"# }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let priced = try egress.run([
      "bench", "--model", model, "--prices", egress.path("prices.json"), "--draft", head, "--prompt-depth",
    ])
    #expect(priced.status == 0, "\(priced.errors)")
    // What the parts cost is given, so that stopping pays, or does not, whatever the machine does.
    let measured = try egress.text("prices.json")
    func price(_ part: String) throws {
      try egress.folder.write(
        "prices.json",
        try measured.replacing(Regex("\"\(part)\" : [0-9.e-]+"), with: "\"\(part)\" : 1"))
    }
    func calibrate(_ depths: String, _ name: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", model, "--draft", head, "--data", data, "--prompt-depth", depths,
          "--draft-length", "3", "--grid", "1,20", "--max-tokens", "8", "--risk", "consistency", "--epsilon",
          "0.95", "--delta", "0.4", "--bound", "hoeffding", "--prices", egress.path("prices.json"),
          "--output",
          egress.path(name),
        ] + options)
    }
    try price("prompt_layer")
    let made = try calibrate("1", "docs", "--fallback", "0")
    #expect(made.status == 0, "\(made.errors)\(made.text)")
    #expect(
      made.text.contains("prompts     stop after layer 1 but for the last tokens, at every threshold above 0")
    )
    #expect(
      made.text.contains("head tiny drafting for large, prompts stop after layer 1, a token of the output"))
    let certificate = egress.path("docs.certificate.json")
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: certificate)))
        as? [String: Any])
    let policy = try #require(json["policy"] as? [String: Any])
    #expect((policy["prompt"] as? [String: Int]) == ["layer": 1, "deep_tokens": 32])
    #expect(json["threshold"] as? Double == 20 && json["pays"] as? Bool == true)

    func text(_ document: String, _ options: [String]) throws -> String {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + options, input: document)
      #expect(result.status == 0, "\(result.errors)")
      return try #require(try result.json()["text"] as? String)
    }
    let byHand = ["--draft", head, "--rollback", "20", "--fallback", "0", "--draft-length", "3"]
    let certified = ["--draft", head, "--certificate", certificate]
    var differing = 0
    for index in 200..<212 {
      let document = Self.document(index)
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "8", "--format", "json"] + certified, input: document)
      let verdict = try #require(try result.json()["guard"] as? [String: Any])
      let isInside = verdict["inside"] as? Bool == true
      let same = try text(document, isInside ? byHand + ["--prompt-depth", "1"] : [])
      #expect(try result.json()["text"] as? String == same, "\(index)")
      if isInside { differing += try same == text(document, byHand) ? 0 : 1 }
      // Drafts that change nothing, after a prompt that stops.
      let stopped = try text(document, ["--prompt-depth", "1"])
      #expect(try text(document, ["--prompt-depth", "1", "--draft", head, "--exact"]) == stopped)
      #expect(try text(document, ["--prompt-depth", "1", "--draft", head, "--drafter", "auto"]) == stopped)
    }
    #expect(differing > 0)
    #expect(try text("Vxqz, Kjwy! (Zbrq) -- WXYZ;", certified) == text("Vxqz, Kjwy! (Zbrq) -- WXYZ;", []))
    let evaluated = try egress.run(
      [
        "evaluate", "--model", model, "--data", data, "--limit", "6", "--max-tokens", "8", "--risk",
        "consistency",
      ]
        + certified)
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    #expect(evaluated.text.contains("20; prompts stop after layer 1"), "\(evaluated.text)")

    // Of several pairs one is chosen; that of the last layer reads the whole prompt.
    let chosen = try calibrate("3,1", "two", "--fallback", "0,0.9")
    #expect(chosen.status == 0, "\(chosen.errors)\(chosen.text)")
    for name in ["fallback 0.0, prompts to layer 3", "fallback 0.9, prompts to layer 1"] {
      #expect(chosen.text.contains("policy      \(name): certified, cost "), "\(chosen.text)")
    }
    let two = try egress.text("two.certificate.json")
    #expect(two.contains("\"layer\" : 1") && two.contains("\"policies_compared\" : 4"))
    func lines(_ name: String) throws -> [Substring] {
      try egress.text(name).split(separator: "\n").dropFirst().map(\.self)
    }
    #expect(try lines("two.fallback-0.0.prompt-depth-1.runs.jsonl") == lines("docs.runs.jsonl"))
    #expect(try lines("two.fallback-0.0.prompt-depth-3.runs.jsonl") != lines("docs.runs.jsonl"))

    // Where full depth costs less, the prompt passes all layers and drafts are exact.
    try price("prompt_propagated_layer")
    #expect(try calibrate("1", "dear", "--fallback", "0").status == 0)
    let dear = ["--draft", head, "--certificate", egress.path("dear.certificate.json")]
    let note = try egress.run(
      ["summarize", "--model", model, "--max-tokens", "8"] + dear, input: Self.document(300))
    #expect(note.errors.contains("so prompts pass all layers, and drafts are exact"), "\(note.errors)")
    #expect(try text(Self.document(300), dear) == text(Self.document(300), []))
  }

  @Test func `hidden states go to files that training reads`() throws {
    let documents = (0..<5).map { #"{"id": \#($0), "document": "the in on \#($0 * 7919)"}"# }
    try egress.folder.write("in.jsonl", documents.joined(separator: "\n") + "\n")
    let batch = try egress.run([
      "summarize", "--model", model, "--raw", "--max-tokens", "6", "--input", egress.path("in.jsonl"),
      "--output",
      egress.path("out.jsonl"),
    ])
    #expect(batch.status == 0, "\(batch.errors)")
    let command = [
      "export-states", "--model", model, "--data", egress.path("out.jsonl"), "--output",
      egress.path("states"), "--layers",
      "1,3",
    ]
    let result = try egress.run(command)
    #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    let file = egress.path("states/states-00000.safetensors")
    let tensors = try TensorFile.open(file)
    #expect(
      Set(tensors.keys) == ["layer.1", "layer.3", "scale.1", "scale.3", "tokens", "starts", "outputs"])
    let tokens = try #require(tensors["tokens"]).makeFloats().map { Int($0) }
    let starts = try #require(tensors["starts"]).makeFloats().map { Int($0) }
    let outputs = try #require(tensors["outputs"]).makeFloats().map { Int($0) }
    let lines = try String(contentsOfFile: egress.path("out.jsonl"), encoding: .utf8).split(separator: "\n")
      .map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    #expect(starts.count == 5 && outputs.count == 5)
    for (index, line) in lines.enumerated() {
      let end = index + 1 < starts.count ? starts[index + 1] : tokens.count
      #expect(Array(tokens[starts[index]..<outputs[index]]) == line["prompt_token_ids"] as? [Int])
      #expect(Array(tokens[outputs[index]..<end]) == line["token_ids"] as? [Int])
    }
    for layer in ["layer.1", "layer.3"] {
      let states = try #require(tensors[layer])
      #expect(states.shape == [tokens.count, 64])
      let values = states.makeFloats()
      for row in 0..<tokens.count {
        let square = values[row * 64..<(row + 1) * 64].reduce(0) { $0 + $1 * $1 } / 64
        #expect(abs(square - 1) < 0.01)
      }
    }
    for scale in ["scale.1", "scale.3"] {
      let values = try #require(tensors[scale]).makeFloats()
      #expect(values.count == tokens.count && values.allSatisfy { $0 > 0 && $0.isFinite })
    }
    // Layers in any order, and each as if it were the only one.
    for layers in ["3,1", "1"] {
      let other = ["--output", egress.path("of-" + layers), "--layers", layers]
      #expect(try egress.run(Array(command[..<5]) + other).status == 0)
      let found = try TensorFile.open(egress.path("of-\(layers)/states-00000.safetensors"))
      for name in ["layer.1", "scale.1"] {
        #expect(found[name]?.makeFloats() == tensors[name]?.makeFloats())
      }
      #expect(found.count == (layers == "1" ? 5 : 7))
    }
    // A file that is there is not written again.
    let before = try FileManager.default.attributesOfItem(atPath: file)[.modificationDate] as? Date
    #expect(try egress.run(command).status == 0)
    #expect(try FileManager.default.attributesOfItem(atPath: file)[.modificationDate] as? Date == before)

    expectRefusal(
      try egress.run(command.dropLast() + ["4"]), status: 1, saying: "--layers must be in 1...3, but has 4")
    expectRefusal(
      try egress.run(command + ["--data", egress.path("in.jsonl")]), status: 1,
      saying: "in.jsonl line 1 is not a result")
  }
}
