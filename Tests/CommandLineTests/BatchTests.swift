import Foundation
import TestSupport
import Testing

@Suite struct BatchTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func arguments(_ command: String = "summarize") -> [String] {
    [
      command, "--model", model, "--raw", "--context", "128", "--max-tokens", "10", "--input",
      egress.path("in.jsonl"), "--output",
      egress.path("out.jsonl"),
    ]
  }

  private func writeInput(_ count: Int = 20) throws {
    let lines = (0..<count).map {
      #"{"id": "doc-\#($0)", "document": "\#(String(repeating: "ab", count: $0 % 7 + 1))"}"#
    }
    try egress.folder.write("in.jsonl", lines.joined(separator: "\n") + "\n")
  }

  private func output() throws -> String {
    try String(contentsOfFile: egress.path("out.jsonl"), encoding: .utf8)
  }

  @Test func `a batch keeps the order and gives what each document gets alone`() throws {
    try writeInput()
    let result = try egress.run(arguments())
    #expect(result.status == 0 && result.output.isEmpty && result.errors == "", "\(result.errors)")
    let lines = try output().split(separator: "\n")
    #expect(lines.count == 20)
    for (index, line) in lines.enumerated() {
      let json = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      #expect(
        Set(json.keys) == [
          "id", "settings", "text", "token_ids", "prompt_token_ids", "stop_reason", "sentences",
        ])
      #expect(json["id"] as? String == "doc-\(index)")
      guard index < 7 else { continue }
      let alone = try egress.run(
        ["summarize", "--model", model, "--raw", "--max-tokens", "10", "--format", "json"],
        input: String(repeating: "ab", count: index % 7 + 1)
      ).json()
      #expect(json["token_ids"] as? [Int] == alone["token_ids"] as? [Int])
      #expect(json["text"] as? String == alone["text"] as? String)
    }
  }

  @Test(
    arguments: [
      ["--exit-threshold", "0.004", "--confidence", "softmax"],
      ["--drafter", "prompt-lookup", "--rollback", "3"],
      ["--draft", "small", "--rollback", "5", "--fallback", "0", "--draft-length", "3"],
      ["--drafter", "early-exit", "--rollback", "4", "--fallback", "0", "--draft-length", "2"],
    ])
  func `exits and drafts go into the batch, and change what they change alone`(options: [String]) throws {
    let small = try egress.writeModel("small.gguf") { $0.set("general.name", .string("small")) }
    let options = options.map { $0 == "small" ? small : $0 }
    try writeInput(12)
    #expect(try egress.run(arguments()).status == 0)
    let plain = try output()
    var outputs: [String] = []
    for batch in ["1", "5", "16"] {
      try FileManager.default.removeItem(atPath: egress.path("out.jsonl"))
      let result = try egress.run(arguments() + options + ["--batch", batch])
      #expect(result.status == 0, "\(result.errors)")
      outputs.append(try output())
    }
    #expect(Set(outputs).count == 1)
    for (index, line) in outputs[0].split(separator: "\n").prefix(7).enumerated() {
      let json = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      let alone = try egress.run(
        ["summarize", "--model", model, "--raw", "--max-tokens", "10", "--format", "json"] + options,
        input: String(repeating: "ab", count: index % 7 + 1)
      ).json()
      #expect(json["token_ids"] as? [Int] == alone["token_ids"] as? [Int])
      #expect(
        json["average_exit_layer"] as? Double == alone["average_exit_layer"] as? Double
          || options[0] != "--exit-threshold")
    }
    // What a batch was made with is part of what its lines say.
    #expect(outputs[0] != plain)
    expectRefusal(
      try egress.run(arguments()), status: 1, saying: "was made with another model, with other options")
  }

  @Test func `an interrupted batch goes on where it stopped`() throws {
    try writeInput()
    #expect(try egress.run(arguments()).status == 0)
    let whole = try output()
    // Cut in the middle of the eighth line, as a crash would leave it.
    let lines = whole.split(separator: "\n")
    let kept = lines.prefix(7).joined(separator: "\n") + "\n"
    try egress.folder.write("out.jsonl", kept + lines[7].prefix(20))
    let result = try egress.run(arguments())
    #expect(result.status == 0 && result.errors.contains("7 of 20"))
    #expect(try output() == whole)
    #expect(try egress.run(arguments()).status == 0)
    #expect(try output() == whole)
  }

  @Test func `a batch does not go on with another model, other options or other documents`() throws {
    try writeInput(3)
    #expect(try egress.run(arguments()).status == 0)
    let lines = try output().split(separator: "\n")
    let half = lines.prefix(1).joined() + "\n"
    func refused(_ arguments: [String], sourceLocation: SourceLocation = #_sourceLocation) throws {
      try egress.folder.write("out.jsonl", half)
      expectRefusal(
        try egress.run(arguments), status: 1,
        saying: "line 1 was made with another model, with other options",
        sourceLocation: sourceLocation)
      #expect(try output() == half)
    }
    for options in [
      ["--max-tokens", "11"], ["--temperature", "1"], ["--stop", "zzz"], ["--context", "127"],
      ["--long", "truncate"], ["--exit-threshold", "0.5"],
    ] {
      try refused(arguments() + options)
    }
    try refused(arguments().filter { $0 != "--raw" })
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("another")) }
    try refused(arguments().map { $0 == model ? other : $0 })
    // The number of threads changes nothing in an output.
    try egress.folder.write("out.jsonl", half)
    #expect(try egress.run(arguments() + ["--threads", "1"]).status == 0)
    #expect(try output().split(separator: "\n") == lines)
    let input = try String(contentsOfFile: egress.path("in.jsonl"), encoding: .utf8)
    try egress.folder.write("in.jsonl", input.replacing("\"ab\"", with: "\"abc\""))
    try refused(arguments())
    // A file of an earlier version does not say what it was made with.
    try egress.folder.write("in.jsonl", input)
    try egress.folder.write(
      "out.jsonl", half.replacing(try Regex(#""settings":"[0-9a-f]{16}","#), with: ""))
    expectRefusal(try egress.run(arguments()), status: 1, saying: "choose another --output")
  }

  @Test func `results of other documents are left alone`() throws {
    try writeInput()
    for foreign in [
      #"{"id":"other","prompt_token_ids":[],"stop_reason":"max_tokens","text":"","token_ids":[]}"# + "\n",
      "notes\n", "notes", #"{"id": "doc-0", "document": "ab"}"# + "\n",
    ] {
      try egress.folder.write("out.jsonl", foreign)
      expectRefusal(try egress.run(arguments()), status: 1, saying: "choose another --output")
      #expect(try output() == foreign)
    }
  }

  @Test(
    arguments: [
      (#"{"id": 1, "document": "a"}"# + "\nnot json\n", "line 2: it is not JSON"),
      (#"{"document": "a"}"#, "line 1: the field id is missing"),
      (#"{"id": 1}"#, "line 1: the field document is missing"),
      (#"{"id": 1, "document": 5}"#, "line 1: the field document is of the wrong kind"),
      (#"{"id": 1, "document": "  "}"#, "line 1: the document is empty"),
      ("[1]", "line 1: it is not a JSON object"),
      (#"{"id": 1.5, "document": "a"}"#, "line 1: the field id is of the wrong kind"),
      (
        #"{"id": 1, "document": "a"}"# + "\n" + #"{"id": 1, "document": "b"}"#,
        "line 2: line 1 has the id 1 already"
      ),
      ("\n\n", "in.jsonl is empty"),
    ])
  func `a mistake in the input is found before any work`(input: String, message: String) throws {
    try egress.folder.write("in.jsonl", input)
    expectRefusal(try egress.run(arguments()), status: 1, saying: message)
    #expect(!FileManager.default.fileExists(atPath: egress.path("out.jsonl")))
  }

  @Test func `questions come from the file or from the option`() throws {
    // Without a template the request of `answer` has 120 tokens in this vocabulary of bytes.
    let model = try egress.writeModel("longer.gguf") { $0.set("llama.context_length", .uint32(512)) }
    func answer(_ record: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.folder.write("in.jsonl", record + "\n")
      return try egress.run(
        [
          "answer", "--model", model, "--max-tokens", "1", "--input", egress.path("in.jsonl"), "--output",
          "-",
        ]
          + options)
    }
    let own = #"{"id": 1, "document": "a b", "question": "c?"}"#
    let none = #"{"id": 1, "document": "a b"}"#
    expectRefusal(try answer(none), status: 1, saying: "line 1: there is no question")
    let prompt = try answer(own).json()["prompt_token_ids"] as? [Int]
    #expect(try answer(none, "--question", "c?").json()["prompt_token_ids"] as? [Int] == prompt)
    #expect(try answer(own, "--question", "d?").json()["prompt_token_ids"] as? [Int] == prompt)
    #expect(try answer(none, "--question", "d?").json()["prompt_token_ids"] as? [Int] != prompt)
  }

  @Test func `input and output belong together`() throws {
    expectRefusal(
      try egress.run(["summarize", "--input", "a"]), status: 64,
      saying: "--input and --output belong together")
    expectRefusal(
      try egress.run(["summarize", "--input", "a", "--output", "b", "c"]), status: 64, saying: "not both")
  }

  @Test(.enabled(if: CommandRunner.hasFullDevice, "needs /dev/full"))
  func `a full disk loses no whole line`() throws {
    try writeInput(3)
    var arguments = arguments()
    arguments[arguments.count - 1] = "/dev/full"
    expectRefusal(
      try egress.run(arguments), status: 1, saying: "cannot write to /dev/full: No space left on device")
  }

  @Test func `a long document is split or cut, and the user is told`() throws {
    let long = String(repeating: "The tide came in. ", count: 60)
    let base = ["summarize", "--model", model, "--raw", "--max-tokens", "8"]
    let split = try egress.run(base, input: long)
    #expect(split.status == 0 && split.errors.contains("parts"), "\(split.errors)")
    let cut = try egress.run(base + ["--long", "truncate"], input: long)
    #expect(cut.status == 0 && cut.errors.contains("only the first"), "\(cut.errors)")
    #expect(split.text != cut.text)
  }
}
