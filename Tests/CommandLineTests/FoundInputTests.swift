import Foundation
import TestSupport
import Testing

/// Models and documents as people have them, which other programs, or earlier versions of this one, failed on.
@Suite struct FoundInputTests {
  let egress: CommandRunner

  init() throws { egress = try CommandRunner() }

  /// A Hugging Face directory with weights for so many tokens and a tokenizer of as many as it has itself.
  private func directory(
    rows: Int, tokens: Int = 272, _ files: [String: String] = [:]
  ) throws -> String {
    let folder = egress.folder.path + "/model-\(UUID().uuidString)"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    func write(_ name: String, _ bytes: [UInt8]) throws {
      try Data(bytes).write(to: URL(fileURLWithPath: folder + "/" + name))
    }
    var model = TinyDecoder()
    model.vocabularySize = rows
    try write("config.json", Array(model.configJSON().utf8))
    try write("model.safetensors", model.safetensors().build())
    model.vocabularySize = tokens
    try write("tokenizer.json", Array(model.tokenizerJSON().utf8))
    for (name, text) in files { try write(name, Array(text.utf8)) }
    return folder
  }

  private func tokens(_ result: CommandRunner.Result) throws -> [Int] {
    #expect(result.status == 0, "\(result.errors)")
    return try #require(try result.json()["token_ids"] as? [Int])
  }

  @Test func `rows of padding are no text, and end nothing`() throws {
    let model = try directory(rows: 320)
    let found = try egress.run([
      "generate", "--model", model, "--raw", "--temperature", "3", "--seed", "4", "--max-tokens", "60",
      "--format",
      "json", "the",
    ])
    #expect(try tokens(found).contains { $0 >= 272 })
    #expect(try found.json()["text"] is String)
  }

  @Test func `a token without a row is refused where a text has it, and only there`() throws {
    // The last merge is "on".
    let model = try directory(rows: 265, tokens: 266)
    let options = ["generate", "--model", model, "--raw", "--max-tokens", "4", "--format", "json"]
    #expect(try tokens(egress.run(options + ["the cat"])).count <= 4)
    expectRefusal(try egress.run(options + ["only"]), status: 1, saying: "265")
  }

  @Test(arguments: ["quantized", "float32"])
  func `weights that are no numbers are refused by tensor and place`(_ compute: String) throws {
    let model = try egress.writeModel { builder in
      builder.editTensor("blk.1.ffn_up.weight") {
        $0.bytes.replaceSubrange(260..<264, with: [0, 0, 0xC0, 0x7F])
      }
    }
    for command in [["generate", "--raw", "a"], ["score", "-"]] {
      expectRefusal(
        try egress.run([command[0], "--model", model, "--compute", compute] + command[1...], input: "a b c"),
        status: 1, saying: "blk.1.ffn_up.weight, row 1, column 1")
    }
    let norm = try egress.writeModel("norm.gguf") { builder in
      builder.editTensor("output_norm.weight") { $0.bytes.replaceSubrange(8..<12, with: [0, 0, 0x80, 0x7F]) }
    }
    expectRefusal(
      try egress.run(["generate", "--model", norm, "--raw", "a"]), status: 1,
      saying: "output_norm.weight, number 2")
  }

  @Test func `a file without the name of its pre-tokenizer is warned about`() throws {
    let model = try egress.writeModel { $0.remove("tokenizer.ggml.pre") }
    let found = try egress.run(["generate", "--model", model, "--raw", "--max-tokens", "2", "a"])
    #expect(found.status == 0 && found.errors.contains("tokenizer.ggml.pre is missing"), "\(found.errors)")
    let cut = try egress.run(["tokenize", "--model", model, "-"], input: "a")
    #expect(cut.status == 0 && cut.errors.contains("tokenizer.ggml.pre is missing"), "\(cut.errors)")
    let named = try egress.writeModel("named.gguf")
    #expect(
      try !egress.run(["generate", "--model", named, "--raw", "--max-tokens", "2", "a"]).errors.contains(
        "missing"))
  }

  @Test func `an argument that is not UTF-8 is refused, not repaired into another name`() throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", #""$0" tokenize "$(printf 'caf\351.txt')" 2>&1"#, CommandRunner.program.path]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 64)
    #expect(text.hasPrefix("egress: argument 2, caf\u{FFFD}.txt, is not UTF-8"), "\(text)")
  }

  @Test func `half a surrogate pair and NaN in a document's line are read`() throws {
    let model = try egress.writeModel()
    let lines = try egress.folder.write(
      "in.jsonl",
      #"{"id": "a", "document": "a\ud83d b", "score": NaN}"# + "\n" + #"{"id": "b", "document": "c"}"# + "\n")
    let output = egress.folder.path + "/out.jsonl"
    let found = try egress.run([
      "summarize", "--model", model, "--input", lines, "--output", output, "--max-tokens", "2", "--threads",
      "1",
    ])
    #expect(found.status == 0, "\(found.errors)")
    #expect(try String(contentsOfFile: output, encoding: .utf8).split(separator: "\n").count == 2)
  }

  @Test func `settings as Python writes them, and end tokens that there are not`() throws {
    let model = try directory(
      rows: 272,
      ["generation_config.json": #"{"temperature": NaN, "top_p": Infinity, "eos_token_id": [2, 9999]}"#])
    let found = try egress.run([
      "generate", "--model", model, "--raw", "--max-tokens", "2", "--format", "json", "a",
    ])
    #expect(found.status == 0)
    #expect(found.errors.contains("the end token 9999 is not among the 272"), "\(found.errors)")
  }

  @Test func `a checkpoint's own template writes the prompt`() throws {
    let source =
      #"{{ '<|im_start|>' + messages[0].role + '<im_sep>' + messages[0].content + '<|im_end|><think>' }}"#
    let model = try egress.writeModel { $0.set("tokenizer.chat_template", .string(source)) }
    let found = try egress.run([
      "generate", "--model", model, "--max-tokens", "1", "--format", "json", "a<|im_end|>",
    ])
    // Two marks, those of the template alone.
    #expect(found.status == 0, "\(found.errors)")
    let prompt = try #require(try found.json()["prompt_token_ids"] as? [Int])
    #expect(prompt.first == 1 && prompt.filter { $0 < 3 } == [1, 2])
    #expect(prompt.contains(3 + 0x3C) && prompt.last == 3 + 0x3E)
    let refusing = try egress.writeModel("refusing.gguf") {
      $0.set("tokenizer.chat_template", .string("{{ raise_exception('No \\'user\\' here') }}"))
    }
    expectRefusal(
      try egress.run(["generate", "--model", refusing, "a"]), status: 1, saying: "it refuses the conversation"
    )
    let broken = try egress.writeModel("broken.gguf") {
      $0.set("tokenizer.chat_template", .string("{% if %}"))
    }
    expectRefusal(try egress.run(["generate", "--model", broken, "a"]), status: 1, saying: "chat template")
  }
}
