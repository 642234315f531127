import Foundation
import TestSupport
import Testing

/// Prompts that stop after a layer, from the calibration to a document.
@Suite struct PromptDepthCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    // The keys and values of the layer after that where tokens stop are what they are anyway.
    model = try egress.writeModel(layers: 4)
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

  @Test func `exits and the prompt's depth are certified together`() throws {
    // What the parts cost is given, so that stopping pays whatever the machine does.
    let priced = try egress.run(
      ["bench", "--model", model, "--prices", egress.path("prices.json"), "--prompt-depth"])
    #expect(priced.status == 0, "\(priced.errors)")
    let prices = try egress.text("prices.json").replacing(
      /"prompt_layer" : [0-9.e-]+/, with: "\"prompt_layer\" : 1")
    try egress.folder.write("prices.json", prices)
    func calibrate(_ depths: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", model, "--data", egress.path("docs.jsonl"), "--prompt-depth", depths,
          "--exit-layers", "2", "--grid", "0.3", "--max-tokens", "6", "--risk", "consistency",
          "--epsilon",
          "0.95", "--delta", "0.4", "--bound", "hoeffding", "--prices", egress.path("prices.json"),
        ] + options)
    }
    _ = try writeDocuments(count: 100)
    let made = try calibrate("1")
    #expect(made.status == 0, "\(made.errors)\(made.text)")
    #expect(made.text.contains("prompts     stop after layer 1 but for the last tokens"))
    #expect(made.text.contains("prompts stop after layer 1, a token of the output passes"))
    let certificate = egress.path("docs.certificate.json")
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: certificate)))
        as? [String: Any])
    let policy = try #require(json["policy"] as? [String: Any])
    #expect((policy["prompt"] as? [String: Int]) == ["layer": 1, "deep_tokens": 32])
    let threshold = try #require(json["threshold"] as? Double)
    #expect(threshold == 0.3 && json["pays"] as? Bool == true)

    func summarize(_ text: String, _ options: [String]) throws -> CommandRunner.Result {
      let result = try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6", "--format", "json"] + options, input: text)
      #expect(result.status == 0, "\(result.errors)")
      return result
    }
    func text(_ result: CommandRunner.Result) throws -> String {
      try #require(try result.json()["text"] as? String)
    }
    let byHand = ["--exit-threshold", "\(threshold)", "--exit-layers", "2"]
    var differing = 0
    for index in 200..<216 {
      let document = Self.document(index)
      let certified = try summarize(document, ["--certificate", certificate])
      let verdict = try #require(try certified.json()["guard"] as? [String: Any])
      let isInside = verdict["inside"] as? Bool == true
      let same = try summarize(document, isInside ? byHand + ["--prompt-depth", "1"] : [])
      #expect(try text(certified) == text(same), "\(index)")
      let lookup = try summarize(document, ["--certificate", certificate, "--drafter", "prompt-lookup"])
      #expect(try text(lookup) == text(certified), "\(index)")
      if isInside { differing += try text(same) == text(summarize(document, byHand)) ? 0 : 1 }
    }
    #expect(differing > 0)
    let foreign = "Vxqz, Kjwy! (Zbrq) [Hmpf] -- WXYZ;"
    let outside = try summarize(foreign, ["--certificate", certificate])
    #expect(outside.errors.contains("is unlike the documents"))
    #expect(try text(outside) == text(summarize(foreign, [])))
    let head = try egress.run(
      ["summarize", "--model", model, "--certificate", certificate, "--drafter", "early-exit"], input: foreign
    )
    #expect(head.status == 64 && head.errors.contains("--drafter early-exit"), "\(head.errors)")

    let evaluated = try egress.run([
      "evaluate", "--model", model, "--data", egress.path("docs.jsonl"), "--limit", "6", "--max-tokens", "6",
      "--certificate", certificate,
    ])
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    #expect(evaluated.text.contains("\(threshold); prompts stop after layer 1"), "\(evaluated.text)")

    let distances = try egress.run([
      "evaluate", "--model", model, "--data", egress.path("docs.jsonl"), "--max-tokens", "6", "--certificate",
      certificate, "--metric", "brier", "--risk", "consistency",
    ])
    expectRefusal(
      distances, status: 1, saying: "is of prompts that stop after a layer, and brier compares exits")

    // Of several layers one is chosen, and the last one is the whole prompt. The guard reads the lowest.
    let chosen = try calibrate("4,1", "--output", egress.path("two"))
    #expect(chosen.status == 0, "\(chosen.errors)\(chosen.text)")
    #expect(chosen.text.contains("policy      prompts to layer 1: certified, cost "))
    #expect(chosen.text.contains("policy      prompts to layer 4: "))
    #expect(try egress.text("two.certificate.json").contains("\"layer\" : 1"))
    #expect(try egress.text("two.certificate.json").contains("\"policies_compared\" : 2"))
    func lines(_ name: String) throws -> [Substring] {
      try egress.text(name).split(separator: "\n").dropFirst().map(\.self)
    }
    // With one layer or two, what is decoded is the same.
    #expect(try lines("two.prompt-depth-1.runs.jsonl") == lines("docs.runs.jsonl"))
    #expect(try lines("two.prompt-depth-4.runs.jsonl") != lines("docs.runs.jsonl"))
    let other = try calibrate("4", "--output", egress.path("docs"))
    #expect(
      other.status == 1 && other.errors.contains("another risk, metric or exit policy"), "\(other.errors)")
  }

  @Test func `what does not go together is said`() throws {
    let data = try writeDocuments(count: 3)
    for (options, words) in [
      (
        ["--draft", "head"],
        "--prompt-depth with --draft takes the layer after which prompts stop, as --prompt-depth 24"
      ),
      (
        ["--risk", "selective"],
        "--prompt-depth certifies prompts, alone or with exits or drafts, without --risk selective"
      ),
      (["--exit-layers", "1"], "--exit-layers has no effect with --prompt-depth"),
      (["--every-threshold"], "--every-threshold has no effect with --prompt-depth"),
      (["--grid", "0.5"], "--grid must hold layers with --prompt-depth"),
      (["--metric", "brier"], "--metric brier compares exits"),
    ] {
      let result = try egress.run(
        ["calibrate", "--model", model, "--data", data, "--epsilon", "0.5", "--prompt-depth"] + options)
      #expect(result.status == 64 && result.errors.contains(words), "\(result.errors)")
    }
    for (depths, options, status, words) in [
      ("1", ["--draft", "head", "--rule", "empirical"], 1 as Int32, "no draft head comes with"),
      (
        "1,2", ["--draft", "head", "--fallback", "0.1,0.2", "--epsilon", "0.3,0.5"], 64,
        "several values of --fallback and layers of --prompt-depth take one epsilon"
      ),
      (
        "1", ["--metric", "brier"], 64, "--metric brier compares exits; with --prompt-depth give one of texts"
      ),
      ("1", ["--grid", "1"], 64, "--grid must hold thresholds at least 0 and below 1"),
      ("0", [], 64, "--prompt-depth must hold layers that differ, whole numbers from 1 on"),
      ("1,1", [], 64, "--prompt-depth must hold layers that differ"),
      ("x", [], 64, "--prompt-depth must hold layers that differ, whole numbers from 1 on"),
      ("1,2", ["--epsilon", "0.3,0.5"], 64, "several layers of --prompt-depth take one epsilon"),
      ("1,2", ["--rule", "crc"], 64, "several layers of --prompt-depth take --rule ucb or ltt"),
      ("1,2", ["--metric", "rouge-l,repetition"], 64, "several layers of --prompt-depth take one --metric"),
      ("9", ["--rule", "empirical", "--max-tokens", "6"], 1, "prompt-depth must be in 1...4, but is 9"),
    ] {
      let result = try egress.run(
        ["calibrate", "--model", model, "--data", data, "--epsilon", "0.5", "--prompt-depth", depths]
          + options)
      #expect(result.status == status && result.errors.contains(words), "\(result.errors)")
    }
    let evaluated = try egress.run([
      "evaluate", "--model", model, "--data", data, "--prompt-depth", "1", "--metric", "brier", "--risk",
      "consistency",
    ])
    expectRefusal(
      evaluated, status: 64, saying: "--metric brier compares exits; with --prompt-depth give one of texts")
    for (options, status, words) in [
      (["--prompt-depth", "0"], 64 as Int32, "--prompt-depth must be at least 1"),
      (["--prompt-depth", "9"], 1, "prompt-depth must be in 1...4, but is 9"),
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
