import Foundation
import TestSupport
import Testing

/// Certificates watched while they are used, and several losses in one.
@Suite struct MonitorCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func writeDocuments(_ name: String = "docs.jsonl", count: Int = 24) throws -> String {
    let lines = (0..<count).map { index in
      #"{"id": \#(index), "document": "text \#(index * 7919)", "references": ["some words \#(index)"]}"#
    }
    return try egress.folder.write(name, lines.joined(separator: "\n") + "\n")
  }

  private func calibrate(_ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1",
        "--no-guard",
      ] + options)
  }

  private func json(_ name: String) throws -> [String: Any] {
    try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: egress.path(name))))
        as? [String: Any])
  }

  private func summarize(_ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "summarize", "--model", model, "--max-tokens", "6", "--certificate",
        egress.path("docs.certificate.json"),
      ]
        + options,
      input: "text 123")
  }

  @Test func `audits are logged, an alarm is told, and decoding is at full depth from then on`() throws {
    let data = try writeDocuments()
    let made = try calibrate(data, "--rule", "empirical", "--epsilon", "0.99", "--risk", "consistency")
    #expect(made.status == 0, "\(made.errors)")
    #expect(try json("docs.certificate.json")["audit_epsilon"] as? Double == 0.99)

    let one = try summarize("--audit", "1")
    #expect(one.status == 0, "\(one.errors)")
    let log = egress.path("docs.audit.jsonl")
    let state = try egress.run(["monitor", log, "--certificate", egress.path("docs.certificate.json")])
    #expect(state.status == 0 && state.text.contains("no alarm") && state.text.contains("audits      1,"))
    // The outputs of a batch go to the same log.
    let batch = try summarize("--audit", "1", "--input", data, "--output", egress.path("out.jsonl"))
    #expect(batch.status == 0, "\(batch.errors)")
    let after = try egress.run(["monitor", log, "--format", "json", "--figure", egress.path("audit.svg")])
    #expect(try after.json()["audits"] as? Int == 25 && after.json()["alarm"] as? Bool == false)
    #expect(try String(contentsOfFile: egress.path("audit.svg"), encoding: .utf8).contains("over 25 audits"))

    // Losses of 1 do not happen at a risk of 0.99 for ever, but of those that are written here all are.
    let header = try String(contentsOfFile: log, encoding: .utf8).prefix { $0 != "\n" }
    let worst = header + "\n" + String(repeating: "{\"loss\":1}\n", count: 1000)
    try egress.folder.write("docs.audit.jsonl", String(worst))
    let alarmed = try egress.run(["monitor", log])
    #expect(
      alarmed.status == 4 && alarmed.text.contains("alarm, at audit"), "\(alarmed.text)\(alarmed.errors)")
    let full = try summarize("--audit", "1", "--format", "json")
    #expect(full.status == 0 && full.errors.contains("decoding at full depth"), "\(full.errors)")
    #expect(try full.json()["average_exit_layer"] as? Double == 2)
    let early = try summarize("--format", "json")
    #expect(try #require(try early.json()["average_exit_layer"] as? Double) < 2)
    let rest = try summarize("--audit", "1", "--input", data, "--output", egress.path("rest.jsonl"))
    #expect(rest.status == 0 && rest.errors.contains("decoding at full depth"))
    let lines = try String(contentsOfFile: egress.path("rest.jsonl"), encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 24 && !lines.contains { $0.contains("average_exit_layer") })
    #expect(try String(contentsOfFile: log, encoding: .utf8) == worst)
  }

  @Test func `after an alarm a safer certificate is used, then full depth`() throws {
    let data = try writeDocuments()
    let made = try calibrate(
      data, "--rule", "empirical", "--epsilon", "0.2,0.5,0.99", "--risk", "consistency")
    #expect([0, 3].contains(made.status), "\(made.errors)")
    func certificate(_ epsilon: String) -> String { egress.path("docs.certificate.epsilon-\(epsilon).json") }
    func summarize(_ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "summarize", "--model", model, "--max-tokens", "6", "--certificate", certificate("0.99"), "--audit",
          "1",
        ] + options, input: "text 123")
    }
    /// Every audit is as bad as can be.
    func alarm(_ epsilon: String) throws {
      let log = egress.path("docs.certificate.epsilon-\(epsilon).audit.jsonl")
      if !FileManager.default.fileExists(atPath: log) {
        _ = try egress.run(
          [
            "summarize", "--model", model, "--max-tokens", "6", "--certificate", certificate(epsilon),
            "--audit", "1",
          ], input: "text 7")
      }
      let header = try String(contentsOfFile: log, encoding: .utf8).prefix { $0 != "\n" }
      try Data((header + "\n" + String(repeating: "{\"loss\":1}\n", count: 1000)).utf8).write(
        to: URL(fileURLWithPath: log))
    }
    let thresholds = try ["0.2", "0.5", "0.99"].map { epsilon in
      try json("docs.certificate.epsilon-\(epsilon).json")["threshold"] as? Double
    }
    try #require(thresholds[1] != thresholds[2], "\(thresholds)")
    #expect(try !summarize().errors.contains("which is safer"))
    try alarm("0.99")
    let safer = try summarize()
    #expect(safer.status == 0 && safer.errors.contains("epsilon-0.5.json, which is safer"), "\(safer.errors)")
    let batch = try summarize("--input", data, "--output", egress.path("out.jsonl"))
    #expect(batch.status == 0 && batch.errors.contains("epsilon-0.5.json, which is safer"), "\(batch.errors)")
    let log = egress.path("docs.certificate.epsilon-0.5.audit.jsonl")
    #expect(try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").count == 26)
    for epsilon in ["0.5", "0.2"] { try alarm(epsilon) }
    let none = try summarize()
    #expect(none.status == 0 && none.errors.contains("no safer one is left"), "\(none.errors)")
  }

  @Test func `logs of others, and audits of nothing, are refused`() throws {
    let data = try writeDocuments()
    let empirical = ["--rule", "empirical", "--epsilon", "0.99", "--risk", "consistency"]
    #expect(
      try calibrate(data, empirical[0], empirical[1], empirical[2], empirical[3], empirical[4], empirical[5])
        .status == 0)
    #expect(try summarize("--audit", "0.5").status == 0)
    let other = try calibrate(
      data, "--rule", "empirical", "--epsilon", "0.9", "--risk", "consistency", "--output",
      egress.path("other"))
    #expect([0, 3].contains(other.status), "\(other.errors)")
    let refused = try egress.run([
      "monitor", egress.path("docs.audit.jsonl"), "--certificate", egress.path("other.certificate.json"),
    ])
    #expect(refused.status == 1 && refused.errors.contains("is the audit log of another certificate"))
    let written = try egress.run(
      [
        "summarize", "--model", model, "--max-tokens", "6", "--certificate",
        egress.path("other.certificate.json"),
        "--audit", "1", "--audit-log", egress.path("docs.audit.jsonl"),
      ], input: "text 5")
    #expect(written.status == 1 && written.errors.contains("is the audit log of another certificate"))
    for (name, text) in [("empty.jsonl", ""), ("none.jsonl", "{}\n"), ("bad.jsonl", "not JSON\n")] {
      let result = try egress.run(["monitor", try egress.folder.write(name, text)])
      #expect(result.status == 1 && result.errors.contains(name), "\(result.errors)")
    }
    #expect(try egress.run(["monitor", egress.path("nowhere.jsonl")]).status == 1)
    for wrong in [["--audit", "0"], ["--audit", "1.5"], ["--audit-log", "x"]] {
      #expect(try egress.run(["summarize", "--certificate", "c.json"] + wrong, input: "a").status == 64)
    }
    #expect(try egress.run(["summarize", "--audit", "0.1"], input: "a").status == 64)
  }

  @Test func `several losses hold at one threshold`() throws {
    let data = try writeDocuments()
    let made = try calibrate(
      data, "--metric", "rouge-l,repetition,unsupported", "--epsilon", "0.9,0.8,0.7", "--rule", "empirical",
      "--risk", "consistency")
    #expect([0, 3].contains(made.status), "\(made.errors)")
    let risks = try #require(try json("docs.certificate.json")["further_risks"] as? [[String: Any]])
    #expect(
      risks.compactMap { $0["metric"] as? String } == [
        "repetition, performance gap", "unsupported, performance gap",
      ])
    #expect(risks.compactMap { $0["epsilon"] as? Double } == [0.8, 0.7])
    #expect(made.text.contains("risk 2      repetition, performance gap; epsilon 0.8"), "\(made.text)")
    let verified = try egress.run([
      "verify", egress.path("docs.certificate.json"), egress.path("docs.losses.jsonl"), "--also",
      egress.path("docs.repetition.losses.jsonl"), "--also", egress.path("docs.unsupported.losses.jsonl"),
    ])
    #expect(verified.status == 0, "\(verified.errors)")
    // One ε is for all of them.
    let same = try calibrate(
      data, "--metric", "rouge-l,repetition", "--epsilon", "0.9", "--rule", "empirical", "--risk",
      "consistency", "--output", egress.path("same"))
    #expect([0, 3].contains(same.status), "\(same.errors)")
    for (metric, epsilon) in [
      ("rouge-l,nonsense", "0.5"), ("rouge-l,rouge-l", "0.5"), ("rouge-l,brier", "0.5"),
      ("brier,rouge-l", "0.5"),
      ("rouge-l,repetition,unsupported", "0.5,0.4"), ("rouge-l,", "0.5"),
    ] {
      let result = try calibrate(data, "--metric", metric, "--epsilon", epsilon)
      #expect(result.status == 64, "\(metric) \(epsilon): \(result.errors)")
    }
  }
}
