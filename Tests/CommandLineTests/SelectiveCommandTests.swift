import Foundation
import TestSupport
import Testing

/// Answers that are given only from a certified confidence on.
@Suite struct SelectiveCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func line(_ index: Int, references: [String]? = nil) throws -> String {
    var fields: [String: Any] = [
      "id": index, "document": "text \(index * 7919)", "question": "what \(index)?",
    ]
    fields["references"] = references
    return String(decoding: try JSONSerialization.data(withJSONObject: fields), as: UTF8.self) + "\n"
  }

  private func results(_ name: String) throws -> [[String: Any]] {
    try String(contentsOfFile: egress.path(name), encoding: .utf8).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
  }

  /// Questions of which the model's own answers are right where `isRight` says so of their confidence.
  ///
  /// - Parameter options: How the model decodes for that, with a name of its own.
  private func writeQuestions(
    _ name: String, count: Int = 60, by options: (name: String, options: [String]) = ("plain", []),
    isRight: (Double) -> Bool
  ) throws -> String {
    let plain = try egress.folder.write("plain.jsonl", try (0..<count).map { try line($0) }.joined())
    let output = "\(options.name).out"
    if !FileManager.default.fileExists(atPath: egress.path(output)) {
      let run = try egress.run(
        ["answer", "--model", model, "--max-tokens", "6", "--input", plain, "--output", egress.path(output)]
          + options.options)
      #expect(run.status == 0, "\(run.errors)")
    }
    let lines = try results(output).prefix(count).enumerated().map { index, result in
      let text = try #require(result["text"] as? String).trimmingCharacters(in: .whitespacesAndNewlines)
      let confidence = result["confidence"] as? Double ?? 0
      return try line(index, references: [isRight(confidence) && !text.isEmpty ? text : "some other words"])
    }
    return try egress.folder.write(name, lines.joined())
  }

  private func calibrate(_ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--risk", "selective", "--metric",
        "exact-match", "--no-guard",
      ] + options)
  }

  @Test func `answers are given from the certified confidence on`() throws {
    let sure = try writeQuestions("sure.jsonl") { _ in true }
    let confidences = try results("plain.out").compactMap { $0["confidence"] as? Double }.sorted()
    let middle = confidences[confidences.count / 2]
    // The surer half is right.
    let half = try writeQuestions("half.jsonl") { $0 >= middle }
    let made = try calibrate(half, "--epsilon", "0.3")
    #expect(made.status == 0, "\(made.text)\(made.errors)")
    #expect(made.text.contains("of other epsilons"))
    let certificate = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: egress.path("half.certificate.json"))))
        as? [String: Any])
    let threshold = try #require(certificate["threshold"] as? Double)
    let share = try #require(certificate["answered_share"] as? Double)
    #expect(share > 0.3 && share < 0.9)
    #expect(certificate["bound"] as? String == "binomial")

    let run = try egress.run([
      "answer", "--model", model, "--max-tokens", "6", "--input", sure, "--output",
      egress.path("given.jsonl"),
      "--certificate", egress.path("half.certificate.json"),
    ])
    #expect(run.status == 0, "\(run.errors)")
    var given = 0
    for result in try results("given.jsonl") {
      let isSure = (result["confidence"] as? Double ?? 0) >= threshold && result["answered"] as? Bool == true
      #expect(result["given"] as? Bool == isSure)
      given += isSure ? 1 : 0
    }
    #expect(given > 10 && given < 60)
    // Alone, what is not given is not shown.
    for result in try results("given.jsonl").prefix(6) {
      let index = try #require(result["id"] as? Int)
      let one = try egress.run(
        [
          "answer", "--model", model, "--max-tokens", "6", "--question", "what \(index)?", "--certificate",
          egress.path("half.certificate.json"),
        ], input: "text \(index * 7919)")
      #expect(one.status == 0, "\(one.errors)")
      #expect((one.text == "Not sure.\n") == (result["given"] as? Bool == false), "\(one.text)")
    }
  }

  @Test func `the exit threshold is chosen with the confidence, and a study shows the share answered`() throws
  {
    let right = try writeQuestions("right.jsonl") { _ in true }
    let made = try calibrate(right, "--epsilon", "0.5", "--grid", "0,1", "--exit-layers", "1")
    // Full depth is right always, exits after the first of two layers hardly ever.
    #expect(made.status == 0, "\(made.text)\(made.errors)")
    #expect(made.errors.contains("of threshold 0, threshold 1, the fastest that answers about as many is"))
    let exiting = try writeQuestions(
      "exiting.jsonl", by: ("exiting", ["--exit-threshold", "0", "--exit-layers", "1"])
    ) { _ in true }
    let early = try calibrate(
      exiting, "--epsilon", "0.5", "--grid", "0", "--exit-layers", "1", "--output", egress.path("early"))
    #expect(early.status == 0, "\(early.text)\(early.errors)")
    let run = try egress.run(
      [
        "answer", "--model", model, "--max-tokens", "6", "--question", "what 3?", "--format", "json",
        "--certificate", egress.path("early.certificate.json"),
      ], input: "text 23757")
    #expect(run.status == 0, "\(run.errors)")
    #expect(try #require(try run.json()["average_exit_layer"] as? Double) < 2, "\(run.text)")
    let drafted = try egress.run(
      [
        "answer", "--model", model, "--max-tokens", "6", "--question", "what 3?", "--drafter",
        "prompt-lookup",
        "--certificate", egress.path("right.certificate.json"),
      ], input: "text 23757")
    #expect(drafted.status == 0 || drafted.errors.contains("at full depth"), "\(drafted.errors)")

    let study = try egress.run([
      "study", egress.path("right.answers.jsonl"), "--risk", "selective", "--calibration-size", "30",
      "--trials",
      "5",
      "--epsilons", "0.2,0.5", "--figure", egress.path("share.svg"),
    ])
    #expect(study.status == 0 && study.text.contains("answered"), "\(study.text)\(study.errors)")
    #expect(try String(contentsOfFile: egress.path("share.svg"), encoding: .utf8).contains(">answered<"))
    let table = try egress.run([
      "study", egress.path("right.answers.jsonl"), "--risk", "selective", "--calibration-size", "30",
      "--rules",
      "crc",
    ])
    #expect(table.status == 64)
    let other = try egress.run(["study", right, "--risk", "selective", "--calibration-size", "30"])
    #expect(other.status == 1 && other.errors.contains("line 1: expected an answer"), "\(other.errors)")
  }

  @Test func `what cannot be certified, or is not covered, is refused`() throws {
    let wrong = try writeQuestions("wrong.jsonl") { _ in false }
    let nothing = try calibrate(wrong, "--epsilon", "0.2")
    #expect(
      nothing.status == 2 && nothing.text.contains("nothing_certified"), "\(nothing.text)\(nothing.errors)")
    func answer(_ certificate: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        ["answer", "--model", model, "--question", "what?", "--certificate", egress.path(certificate)]
          + options,
        input: "text")
    }
    let unable = try answer("wrong.certificate.json", "--max-tokens", "6")
    #expect(unable.status == 1 && unable.errors.contains("certifies nothing"), "\(unable.errors)")

    let sure = try writeQuestions("sure.jsonl") { _ in true }
    #expect(try calibrate(sure, "--epsilon", "0.3").status == 0)
    let longer = try answer("sure.certificate.json", "--max-tokens", "7")
    #expect(longer.status == 1 && longer.errors.contains("max-tokens was 6"), "\(longer.errors)")
    let drafted = try answer("sure.certificate.json", "--max-tokens", "6", "--audit", "0.5")
    #expect(drafted.status == 64, "\(drafted.errors)")
    let text = try String(contentsOfFile: egress.path("sure.certificate.json"), encoding: .utf8)
    try egress.folder.write(
      "edited.certificate.json",
      text.replacingOccurrences(of: "\"epsilon\" : 0.3", with: "\"epsilon\" : 0.01"))
    let edited = try answer("edited.certificate.json", "--max-tokens", "6")
    #expect(edited.status == 1 && edited.errors.contains("the certificate was edited"), "\(edited.errors)")
    let summary = try egress.run(
      ["summarize", "--model", model, "--certificate", egress.path("sure.certificate.json")], input: "text")
    #expect(summary.status == 1)

    let few = try writeQuestions("few.jsonl", count: 5) { _ in true }
    #expect(try calibrate(few, "--epsilon", "0.3").status == 1)
    let documents = try egress.folder.write(
      "docs.jsonl", #"{"id": 1, "document": "text", "references": ["x y"]}"#)
    let asked = try calibrate(documents, "--epsilon", "0.3")
    #expect(asked.status == 1 && asked.errors.contains("has no question"))
    for wrong in [
      ["--epsilon", "0.1,0.2"], ["--epsilon", "0.1", "--exit-layers", "1"],
      ["--epsilon", "0.1", "--rule", "crc"],
    ] {
      let result = try egress.run(
        ["calibrate", "--model", model, "--data", sure, "--risk", "selective", "--metric", "exact-match"]
          + wrong)
      #expect(result.status == 64, "\(wrong) \(result.errors)")
    }
    let property = try egress.run([
      "calibrate", "--model", model, "--data", sure, "--risk", "selective", "--metric", "repetition",
      "--epsilon", "0.1",
    ])
    #expect(property.status == 64)
  }
}
