import Foundation
import TestSupport
import Testing

/// `--prompt-cache` and `--cache-bits`.
@Suite struct PromptCacheCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private static let document = "A mill stood by the river. It was built of stone."

  /// The command and the options that only it has.
  @Test(arguments: [
    ["summarize"], ["answer", "--question", "When?"], ["generate"],
    ["summarize", "--exit-threshold", "0.005"],
    ["answer", "--question", "Who?", "--drafter", "prompt-lookup"],
    ["summarize", "--cache-bits", "8"],
  ])
  func `a prompt is read once`(_ command: [String]) throws {
    let cache = egress.path("a.cache")
    func run(_ options: [String]) throws -> CommandRunner.Result {
      let result = try egress.run(
        command + ["--model", model, "--max-tokens", "6", "--format", "json"] + options, input: Self.document)
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    func tokens(_ result: CommandRunner.Result) throws -> [Int] {
      try #require(try result.json()["token_ids"] as? [Int])
    }
    let expected = try tokens(run([]))
    let first = try run(["--prompt-cache", cache])
    #expect(try tokens(first) == expected && !first.errors.contains("were read from"), "\(first.errors)")
    let second = try run(["--prompt-cache", cache])
    #expect(try tokens(second) == expected)
    #expect(second.errors.contains("tokens were read from \(cache)"), "\(second.errors)")
  }

  @Test func `another question goes on from the document`() throws {
    let cache = egress.path("a.cache")
    func ask(_ question: String, _ options: [String] = []) throws -> CommandRunner.Result {
      try egress.run(
        [
          "answer", "--model", model, "--prompts", "reader", "--max-tokens", "4", "--format", "json",
          "--question", question,
        ]
          + options, input: Self.document)
    }
    #expect(try ask("When?", ["--prompt-cache", cache]).status == 0)
    let other = try ask("By whom?", ["--prompt-cache", cache])
    #expect(other.errors.contains("tokens were read from"), "\(other.errors)")
    let expected = try ask("By whom?")
    #expect(try other.json()["token_ids"] as? [Int] == expected.json()["token_ids"] as? [Int])
  }

  @Test func `what does not fit is one sentence`() throws {
    let cache = egress.path("a.cache")
    func summarize(_ options: [String]) throws -> CommandRunner.Result {
      try egress.run(["summarize", "--model", model, "--max-tokens", "4"] + options, input: Self.document)
    }
    for (options, words) in [
      (["--beams", "2"], "--prompt-cache does not go together with --beams"),
      (["--prompt-depth", "1"], "--prompt-cache does not go together with --prompt-depth"),
      (["--input", "a.jsonl", "--output", "b.jsonl"], "--prompt-cache does not go together with --input"),
    ] {
      let result = try summarize(options + ["--prompt-cache", cache])
      #expect(result.status == 64 && result.errors.contains(words), "\(result.errors)")
    }
    for (options, words) in [
      (["--cache-bits", "4"], "--cache-bits must be 16 or 8, but is 4."),
      (["--cache-bits", "8", "--compute", "float32"], "--cache-bits has no effect with --compute float32"),
    ] {
      let result = try summarize(options)
      #expect(result.status == 64 && result.errors.contains(words), "\(result.errors)")
    }
    expectRefusal(
      try summarize(["--prompt-cache", cache, "--compute", "float32"]), status: 1,
      saying: "prompt-cache must be absent with --compute float32")
    expectRefusal(
      try summarize(["--prompt-cache", egress.folder.path]), status: 1,
      saying: "expected a readable file, found a directory")
    expectRefusal(
      try summarize(["--prompt-cache", egress.path("none/a.cache")]), status: 1,
      saying: "expected a file that can be written, found No such file or directory")
    let text = try egress.folder.write("text.txt", String(repeating: Self.document, count: 3))
    expectRefusal(
      try summarize(["--prompt-cache", text]), status: 1, saying: "it is no file of keys and values")
    #expect(try summarize(["--prompt-cache", cache]).status == 0)
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("Other")) }
    expectRefusal(
      try egress.run(["summarize", "--model", other, "--prompt-cache", cache], input: Self.document),
      status: 1,
      saying: "it is of another model")
    expectRefusal(
      try summarize(["--prompt-cache", cache, "--cache-bits", "8"]), status: 1,
      saying: "it is of another way to compute, quantized, and this is quantized --cache-bits 8")
  }

  @Test func `a certificate made with another cache is refused`() throws {
    let lines = (0..<60).map {
      #"{"id": \#($0), "document": "\#(($0 * 7919) % 9973) words \#($0)", "references": ["some words \#($0)"]}"#
    }
    let data = try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
    let made = try egress.run([
      "calibrate", "--model", model, "--data", data, "--cache-bits", "8", "--max-tokens", "4", "--grid",
      "0.5",
      "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99", "--exit-layers", "1",
    ])
    // Whether anything but the safest is certified is not the point.
    #expect([0, 3].contains(made.status), "\(made.errors)\(made.text)")
    let certificate = egress.path("docs.certificate.json")
    func summarize(_ options: [String]) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", model, "--max-tokens", "4", "--certificate", certificate] + options,
        input: "77 words 77")
    }
    expectRefusal(
      try summarize([]), status: 1,
      saying: "the certificate is for --compute quantized --cache-bits 8, found --compute quantized")
    #expect(try summarize(["--cache-bits", "8"]).status == 0)
  }
}
