import Foundation
import TestSupport
import Testing

@Suite struct BadInputTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  @Test(arguments: ["summarize", "score", "generate"])
  func `an empty input is refused`(command: String) throws {
    expectRefusal(try egress.run([command, "--model", model, "-"]), status: 1, saying: "is empty")
  }

  @Test func `a document of white space is refused`() throws {
    expectRefusal(
      try egress.run(["summarize", "--model", model], input: " \n\t\n"), status: 1, saying: "is empty")
  }

  @Test func `a missing file and a folder are refused by name`() throws {
    expectRefusal(
      try egress.run(["summarize", "--model", model, "nowhere.txt"]), status: 1,
      saying: "nowhere.txt: No such file")
    expectRefusal(
      try egress.run(["summarize", "--model", model, egress.folder.path]), status: 1, saying: "directory")
  }

  @Test(arguments: ["summarize", "score", "tokenize"])
  func `bytes that are not UTF-8 are refused`(command: String) throws {
    let file = try egress.folder.write("latin.txt", [0x63, 0x61, 0x66, 0xE9, 0x0A])
    expectRefusal(
      try egress.run([command, "--model", model, file]), status: 1, saying: "latin.txt is not UTF-8 text")
  }

  @Test(arguments: [
    (Array("%PDF-1.7\n%".utf8) + [0xE2, 0xE3, 0x0A], "pdftotext"),
    ([0x50, 0x4B, 0x03, 0x04, 0x14, 0x00], "pandoc"),
    ([0xFF, 0xFE, 0x41, 0x00], "iconv"), ([0xFE, 0xFF, 0x00, 0x41], "iconv"),
  ])
  func `a document of another kind is refused with what makes a text of it`(bytes: [UInt8], program: String)
    throws
  {
    let file = try egress.folder.write("report", bytes)
    expectRefusal(try egress.run(["summarize", "--model", model, file]), status: 1, saying: program)
  }

  @Test func `a binary file is refused`() throws {
    let file = try egress.folder.write("a.bin", [0x45, 0x00, 0x01, 0x02])
    expectRefusal(try egress.run(["summarize", "--model", model, file]), status: 1, saying: "binary")
  }

  @Test func `a question without a document is refused`() throws {
    expectRefusal(
      try egress.run(["answer", "--model", model, "--question", "Who?"]), status: 1,
      saying: "standard input is empty")
  }

  @Test func `a document without a question is refused`() throws {
    expectRefusal(
      try egress.run(["answer", "--model", model], input: "Text."), status: 64, saying: "--question")
    expectRefusal(
      try egress.run(["answer", "--model", model, "--question", " "], input: "Text."), status: 64,
      saying: "--question")
  }

  @Test func `an unknown model is refused with the names there are`() throws {
    expectRefusal(
      try egress.run(["summarize", "--model", "gpt-99"], input: "Text."), status: 1,
      saying: "no model and no file called gpt-99")
    for (name, meant) in [
      ("SmolLM2-135M-Instruct", "smollm2-135m-instruct"), ("smollm2-135m-reade", "smollm2-135m-reader"),
      ("smolm2-135m-instruct", "smollm2-135m-instruct"),
    ] {
      expectRefusal(
        try egress.run(["summarize", "--model", name], input: "Text."), status: 1,
        saying: "called \(name) (did you mean \(meant)?)")
    }
    #expect(
      !(try egress.run(["summarize", "--model", "gpt-99"], input: "Text.")).errors.contains("did you mean"))
    expectRefusal(try egress.run(["models", "pull", "gpt-99"]), status: 1, saying: "smollm2-135m-instruct")
  }

  @Test func `a model that is not here yet names the command that fetches it`() throws {
    expectRefusal(
      try egress.run(["summarize"], input: "Text."), status: 1,
      saying: "egress models pull smollm2-135m-reader")
  }

  @Test func `a damaged model is refused by name`() throws {
    let whole = try Data(contentsOf: URL(fileURLWithPath: model))
    let cut = try egress.folder.write("cut.gguf", Array(whole.prefix(whole.count / 2)))
    expectRefusal(try egress.run(["generate", "--model", cut, "--raw", "a"]), status: 1, saying: "cut.gguf")
    let other = try egress.folder.write("other.gguf", "this is no model")
    expectRefusal(try egress.run(["generate", "--model", other, "a"]), status: 1, saying: "other.gguf")
    let empty = try egress.folder.write("empty.gguf", "")
    expectRefusal(try egress.run(["generate", "--model", empty, "a"]), status: 1, saying: "empty.gguf")
  }

  @Test(
    arguments: [
      ["--threads", "0"], ["--threads", "1000"], ["--threads", "-1"], ["--max-tokens", "0"],
      ["--temperature", "-1"], ["--temperature", "nan"], ["--temperature", "1", "--top-k", "0"],
      ["--temperature", "1", "--top-p", "0"], ["--temperature", "1", "--top-p", "1.5"],
      ["--temperature", "1", "--min-p", "2"], ["--top-k", "3"], ["--context", "1"], ["--stop", ""],
      ["--seed", "-3"], ["--format", "xml"], ["--special"], ["--nonsense"], ["--max-tokens", "many"],
    ])
  func `an option out of its range is a usage error`(options: [String]) throws {
    expectRefusal(
      try egress.run(["generate", "--model", model] + options + ["Text"]), status: 64,
      saying: options[options.count == 1 ? 0 : options.count - 2])
  }

  @Test func `a number below its range is told from a missing one`() throws {
    expectRefusal(
      try egress.run(["generate", "--model", model, "--temperature", "-1", "Text"]), status: 64,
      saying: "must be 0 or above, but is -1")
  }

  @Test func `an unknown command is refused with the one that was meant`() throws {
    expectRefusal(try egress.run(["sumarize", "a"]), status: 64, saying: "did you mean summarize?")
    expectRefusal(try egress.run(["nonsense"]), status: 64, saying: "no command called nonsense")
  }

  @Test func `beams and what is shown of drafts are refused for files of documents`() throws {
    try egress.folder.write("a.jsonl", #"{"id": 1, "document": "a"}"#)
    for option in [["--beams", "2"], ["--drafter", "auto", "--show-drafts"]] {
      expectRefusal(
        try egress.run(
          ["summarize", "--model", model, "--input", egress.folder.path + "/a.jsonl", "--output", "b.jsonl"]
            + option),
        status: 64, saying: "one document")
    }
    expectRefusal(
      try egress.run(["summarize", "--model", model, "--batch", "2", "a"]), status: 64,
      saying: "--batch has no effect without --input")
    expectRefusal(
      try egress.run(["summarize", "--input", "a", "--output", "b", "--batch", "0"]), status: 64,
      saying: "--batch must be in 1...256")
  }

  @Test func `a context larger than the model's is refused`() throws {
    expectRefusal(
      try egress.run(["generate", "--model", model, "--raw", "--context", "129", "a"]), status: 1,
      saying: "context must be in 2...128")
  }

  @Test func `a prompt longer than the context is refused`() throws {
    expectRefusal(
      try egress.run(
        ["generate", "--model", model, "--raw", "-"], input: String(repeating: "abc ", count: 100)),
      status: 1, saying: "the context holds 128")
  }

  @Test(.enabled(if: CommandRunner.hasFullDevice, "needs /dev/full"))
  func `a full disk is reported`() throws {
    let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
    for arguments in [
      ["generate", "--model", model, "--raw", "a"], ["tokenize", "--model", model], ["--help"],
    ] {
      expectRefusal(
        try egress.run(arguments, input: "a", output: full), status: 1,
        saying: "cannot write to standard output: No space left on device")
    }
  }

  @Test func `a closed pipe is reported`() throws {
    let pipe = try egress.makePipe()
    try pipe.reading.close()
    expectRefusal(
      try egress.run(["generate", "--model", model, "--raw", "a"], output: pipe.writing),
      status: 1,
      saying: "cannot write to standard output: Broken pipe")
  }

  @Test func `a model without a known template says what to do`() throws {
    let plain = try egress.writeModel("plain.gguf") { $0.remove("tokenizer.chat_template") }
    expectRefusal(try egress.run(["generate", "--model", plain, "a"]), status: 1, saying: "--raw")
    #expect(try egress.run(["generate", "--model", plain, "--raw", "a"]).status == 0)
  }

  @Test func `a token outside the vocabulary is refused`() throws {
    expectRefusal(
      try egress.run(["detokenize", "--model", model, "5", "4000"]), status: 1, saying: "token 4000")
    expectRefusal(try egress.run(["detokenize", "--model", model, "five"]), status: 64, saying: "five")
  }
}
