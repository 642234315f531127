import Foundation
import TestSupport
import Testing

@Suite struct SummaryCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel { $0.set("egress.prompts", .string("reader")) }
  }

  private func run(_ arguments: [String], model: String? = nil) throws -> CommandRunner.Result {
    try egress.run(
      arguments + ["--model", model ?? self.model, "--max-tokens", "6", "-"], input: "It rains.")
  }

  private func prompt(_ arguments: [String], model: String? = nil) throws -> [Int] {
    let result = try run(["summarize", "--format", "json"] + arguments, model: model)
    #expect(result.status == 0, "\(result.errors)")
    return try #require(try result.json()["prompt_token_ids"] as? [Int])
  }

  @Test func `what a summary is to be like reaches the model`() throws {
    let usual = try prompt([])
    #expect(try prompt(["--sentences", "1"]) == usual)
    let others = try [
      prompt(["--sentences", "2"]), prompt(["--words", "20"]), prompt(["--focus", "rain"]),
      prompt(["--words", "20", "--focus", "rain"]), prompt([], model: egress.writeModel("chat.gguf")),
    ]
    #expect(Set(others).count == others.count && !others.contains(usual))
    let longer = try prompt(["--focus", "rain"]).count - prompt(["--focus", "r"]).count
    #expect(longer > 0)
  }

  @Test func `a document of a batch brings its own focus`() throws {
    let path = egress.folder.path
    let lines = [
      #"{"id": 1, "document": "It rains."}"#, #"{"id": 2, "document": "It rains.", "query": "rain"}"#,
      #"{"id": 3, "document": "It rains.", "query": " "}"#,
    ]
    try egress.folder.write("in.jsonl", lines.joined(separator: "\n"))
    func run(_ arguments: [String], output: String) throws -> (CommandRunner.Result, [[Int]]) {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6", "--input", path + "/in.jsonl"]
          + ["--output", path + "/" + output] + arguments)
      let written = try? String(contentsOfFile: path + "/" + output, encoding: .utf8).split(separator: "\n")
      let ids = try (written ?? []).map { line in
        let json = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        return try #require(json?["prompt_token_ids"] as? [Int])
      }
      return (result, ids)
    }
    let (result, prompts) = try run([], output: "out.jsonl")
    #expect(result.status == 0, "\(result.errors)")
    #expect(try prompts == [prompt([]), prompt(["--focus", "rain"]), prompt([])])
    let (_, focused) = try run(["--focus", "wind"], output: "focused.jsonl")
    #expect(
      try focused == [
        prompt(["--focus", "wind"]), prompt(["--focus", "rain"]), prompt(["--focus", "wind"]),
      ])
    // The same file with another request is not gone on with.
    expectRefusal(
      try run(["--sentences", "2"], output: "out.jsonl").0, status: 1, saying: "with other options")
  }

  @Test func `lengths and styles that there are not are refused`() throws {
    for (arguments, text) in [
      (["--sentences", "0"], "--sentences must be in 1...100"),
      (["--words", "-1"], "--words must be in 1...5000"),
      (["--sentences", "1", "--words", "5"], "not both"), (["--focus", " "], "--focus must not be empty"),
    ] {
      let result = try run(["summarize"] + arguments)
      #expect(result.status == 64 && result.errors.contains(text), "\(result.errors)")
    }
    let other = try egress.writeModel("other.gguf") { $0.set("egress.prompts", .string("poet")) }
    expectRefusal(
      try run(["summarize"], model: other), status: 1, saying: "egress.prompts")
  }
}
