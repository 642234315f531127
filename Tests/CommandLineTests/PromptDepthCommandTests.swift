import Foundation
import TestSupport
import Testing

/// Prompts that stop after a layer, from the calibration to a document.
@Suite struct PromptDepthCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private static func document(_ index: Int) -> String {
    (0..<7).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
  }

  private func writeDocuments(count: Int = 80) throws -> String {
    let lines = (0..<count).map {
      #"{"id": \#($0), "document": "\#(Self.document($0))", "references": ["some words \#($0)"]}"#
    }
    return try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
  }

  @Test func `a certified layer is what documents like those are read to`() throws {
    let made = try egress.run([
      "calibrate", "--model", model, "--data", try writeDocuments(), "--prompt-depth", "--grid", "1",
      "--max-tokens", "6", "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99",
    ])
    #expect(made.status == 0, "\(made.errors)\(made.text)")
    #expect(made.text.contains("a prompt's token passes"))
    let certificate = egress.path("docs.certificate.json")
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: certificate)))
        as? [String: Any])
    let policy = try #require(json["policy"] as? [String: Any])
    #expect(policy["prompt_policy_version"] as? Int == 1 && policy["deep_tokens"] as? Int == 32)
    #expect(json["threshold"] as? Double == 1)

    func summarize(_ text: String, _ options: [String]) throws -> CommandRunner.Result {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6", "--format", "json"] + options, input: text)
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    func text(_ result: CommandRunner.Result) throws -> String {
      try #require(try result.json()["text"] as? String)
    }
    // Whether it pays hangs on the machine; what decoding does then is one of two outputs.
    let pays = try #require(json["cost"] as? Double) < #require(json["safest_cost"] as? Double)
    for index in 100..<106 {
      let document = Self.document(index)
      let certified = try summarize(document, ["--certificate", certificate])
      let verdict = try #require(try certified.json()["guard"] as? [String: Any])
      let isShallow = pays && verdict["inside"] as? Bool == true
      let same = try summarize(document, isShallow ? ["--prompt-depth", "1"] : [])
      #expect(try text(certified) == text(same), "\(index)")
    }
    let foreign = "Vxqz, Kjwy! (Zbrq) [Hmpf] -- WXYZ;"
    let outside = try summarize(foreign, ["--certificate", certificate])
    #expect(outside.errors.contains("is unlike the documents"))
    #expect(try text(outside) == text(summarize(foreign, [])))

    let evaluated = try egress.run([
      "evaluate", "--model", model, "--data", egress.path("docs.jsonl"), "--limit", "4", "--max-tokens", "6",
      "--risk", "consistency", "--prompt-depth", "1",
    ])
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    #expect(evaluated.text.contains("1, the layer after which prompts stop"), "\(evaluated.text)")
  }

  @Test func `what does not go together is said`() throws {
    let data = try writeDocuments(count: 3)
    for (options, words) in [
      (["--draft", "head"], "--prompt-depth certifies prompts alone, without --draft"),
      (["--risk", "selective"], "--prompt-depth certifies prompts alone, without --risk selective"),
      (["--exit-layers", "1"], "--exit-layers has no effect with --prompt-depth"),
      (["--every-threshold"], "--every-threshold has no effect with --prompt-depth"),
      (["--grid", "0.5"], "--grid must hold layers with --prompt-depth"),
      (["--metric", "brier"], "--metric brier compares exits"),
    ] {
      let result = try egress.run(
        ["calibrate", "--model", model, "--data", data, "--epsilon", "0.5", "--prompt-depth"] + options)
      #expect(result.status == 64 && result.errors.contains(words), "\(result.errors)")
    }
    for (options, status, words) in [
      (["--prompt-depth", "0"], 64 as Int32, "--prompt-depth must be at least 1"),
      (["--prompt-depth", "9"], 1, "prompt-depth must be in 1...2, but is 9"),
      (["--prompt-depth", "1", "--certificate", "c.json"], 64, "--prompt-depth is fixed by --certificate"),
    ] {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6"] + options, input: "Text.")
      #expect(result.status == status && result.errors.contains(words), "\(result.errors)")
      #expect(result.output.isEmpty)
    }
    let table = try egress.folder.write("t.csv", "1,0,0\n0.5,0,1\n")
    let result = try egress.run(["calibrate", table, "--prompt-depth", "--epsilon", "0.5"])
    #expect(result.status == 64 && result.errors.contains("--prompt-depth has no effect without --data"))
  }
}
