import Foundation
import TestSupport
import Testing

/// `--packed-copy`.
@Suite struct PackedCopyCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func summarize(_ options: [String]) throws -> CommandRunner.Result {
    try egress.run(
      ["summarize", "--model", model, "--max-tokens", "6"] + options,
      input: "A mill stood by the river. It was built of stone.")
  }

  private func copies() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: egress.path("home/packed")).sorted()
  }

  @Test func `packed weights are kept beside the models and give the same output`() throws {
    let expected = try summarize([])
    #expect(!FileManager.default.fileExists(atPath: egress.path("home/packed")))
    for isFirst in [true, false] {
      let result = try summarize(["--packed-copy"])
      #expect(result.status == 0 && result.text == expected.text)
      let found = try copies()
      let note = "egress: the packed weights are kept in \(egress.path("home/packed/" + found[0]))\n"
      #expect(result.errors == (isFirst ? note : "") + expected.errors, "\(result.errors)")
      #expect(found.count == 2 && found[1] == found[0] + ".checked" && found[0].hasSuffix(".packed"))
    }
    let path = egress.path("home/packed/" + (try copies()[0]))
    try Data("no copy".utf8).write(to: URL(fileURLWithPath: path))
    let result = try summarize(["--packed-copy"])
    #expect(result.status == 0 && result.text == expected.text)
    #expect(result.errors.contains("expected a copy of packed weights"), "\(result.errors)")
    #expect(try summarize(["--packed-copy"]).errors == expected.errors)
  }

  @Test func `what has no packed weights is refused`() throws {
    for (options, words) in [
      (["--compute", "float32"], "--packed-copy does not go together with --compute float32"),
      (["--compute", "16-bit"], "--packed-copy does not go together with --compute 16-bit"),
      (["--adapter", "a"], "--packed-copy does not go together with --adapter"),
    ] {
      let result = try summarize(["--packed-copy"] + options)
      #expect(result.status == 64 && result.errors.contains(words), "\(result.errors)")
    }
    let file = try egress.folder.write("home", "a file in the folder's place")
    expectRefusal(
      try egress.run(
        ["summarize", "--model", model, "--packed-copy"], input: "A mill.", environment: ["EGRESS_HOME": file]
      ),
      status: 1, saying: "expected a folder that can be made")
  }
}
