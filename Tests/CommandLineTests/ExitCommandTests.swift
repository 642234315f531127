import Foundation
import TestSupport
import Testing

@Suite struct ExitCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel { _ in }
  }

  private func generate(_ options: String...) throws -> [String: Any] {
    let result = try egress.run(
      ["generate", "--model", model, "--raw", "--max-tokens", "12", "--format", "json"] + options + ["abc"])
    #expect(result.status == 0, "\(result.errors)")
    return try result.json()
  }

  @Test func `options decide after which layer tokens leave`() throws {
    #expect(try generate()["average_exit_layer"] as? Double == 2)
    #expect(try generate("--exit-threshold", "1")["average_exit_layer"] as? Double == 2)
    let early = try #require(try generate("--exit-threshold", "0")["average_exit_layer"] as? Double)
    #expect(early < 1.2)
    // The tiny model's first layer: its saturation is 0 by definition.
    let saturation = try generate("--exit-threshold", "0.01", "--confidence", "saturation")
    #expect(saturation["average_exit_layer"] as? Double == 2)
  }

  @Test func `a trace has a line for each token`() throws {
    let path = egress.folder.path + "/t.jsonl"
    let json = try generate("--exit-threshold", "0", "--exit-layers", "1", "--trace", path)
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
      try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
    }
    #expect(lines.map { $0?["id"] as? Int } == (json["token_ids"] as? [Int])?.map { $0 })
    #expect(lines[1]?["layer"] as? Int == 1 && lines[1]?["reason"] as? String == "confident")
    #expect(lines[0]?["reason"] as? String == "last_layer")
  }

  @Test(arguments: [
    (["--exit-threshold", "1.5"], "0...1"),
    (["--exit-threshold", "0.5", "--exit-layers", "2,1"], "exit-layers"),
    (["--confidence", "softmax"], "exit-threshold"), (["--exit-threshold", "0.5", "--decay", "0"], "decay"),
    (["--exit-threshold", "0.5", "--confidence", "classifier"], "exit-heads"),
    (["--certificate", "c.json"], "exit-policy"),
  ])
  func `settings that make no sense are usage errors`(options: [String], part: String) throws {
    let result = try egress.run(["generate", "--model", model, "--raw"] + options + ["abc"])
    #expect(result.status == 64 && result.errors.contains(part), "\(result.errors)")
  }

  @Test func `exits at layers that the model lacks are refused`() throws {
    let result = try egress.run([
      "generate", "--model", model, "--raw", "--exit-threshold", "0.5", "--exit-layers", "7", "abc",
    ])
    #expect(result.status == 1 && result.errors.contains("exit-layers"))
  }

  @Test func `a sweep becomes a certificate that decoding applies`() throws {
    let documents = (0..<12).map {
      #"{"id": \#($0), "document": "text \#($0)", "references": ["some words"]}"#
    }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let name = egress.folder.path + "/run"
    let sweep = [
      "sweep", "--model", model, "--data", data, "--output", name, "--max-tokens", "6", "--exit-layers", "1",
      "--grid", "0.5,0.1,0", "--risk", "consistency",
    ]
    #expect(try egress.run(sweep).status == 0)
    let table = try Data(contentsOf: URL(fileURLWithPath: name + ".csv"))
    let work = try String(contentsOfFile: name + ".sweep.jsonl", encoding: .utf8)
    #expect(work.split(separator: "\n").count == 13)

    // As an interruption leaves it: the last line is incomplete.
    try egress.folder.write("run.sweep.jsonl", String(work.dropLast(work.count / 3)))
    #expect(try egress.run(sweep).status == 0)
    #expect(try Data(contentsOf: URL(fileURLWithPath: name + ".csv")) == table)
    #expect(try String(contentsOfFile: name + ".sweep.jsonl", encoding: .utf8) == work)
    let other = try egress.run(sweep + ["--metric", "token-f1"])
    #expect(other.status == 1 && other.errors.contains("another"))

    let calibrate = try egress.run([
      "calibrate", name + ".csv", "--policy", name + ".policy.json", "--model", model, "--epsilon", "0.99",
      "--rule", "empirical", "--certificate", name + ".certificate.json",
    ])
    #expect(calibrate.status == 0, "\(calibrate.errors)")
    let certified = ["--certificate", name + ".certificate.json", "--exit-policy", name + ".policy.json"]
    let early = try egress.run(
      ["generate", "--model", model, "--raw", "--max-tokens", "6", "--format", "json"] + certified + ["abc"])
    #expect(early.status == 0, "\(early.errors)")
    #expect(try #require(try early.json()["average_exit_layer"] as? Double) < 2)

    let policy = try String(contentsOfFile: name + ".policy.json", encoding: .utf8)
    try egress.folder.write("run.policy.json", policy.replacing("defer", with: "propagate"))
    let refused = try egress.run(["generate", "--model", model, "--raw"] + certified + ["abc"])
    #expect(refused.status == 1 && refused.errors.contains("another exit policy"))
  }
}
