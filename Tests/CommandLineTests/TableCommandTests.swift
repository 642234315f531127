import Foundation
import Testing

/// Runs the built program on tables that the tests write.
@Suite struct TableCommandTests {
  private struct Outcome {
    var status: Int32
    var output: String
    var errors: String
  }

  private let egress: CommandRunner
  private var folder: String { egress.folder.path }

  init() throws {
    egress = try CommandRunner()
  }

  private func run(_ arguments: String..., input: String = "") throws -> Outcome {
    try run(arguments, input: input)
  }

  private func run(_ arguments: [String], input: String = "") throws -> Outcome {
    let result = try egress.run(arguments, input: input)
    return Outcome(status: result.status, output: result.text, errors: result.errors)
  }

  /// A CSV of 500 samples whose share of ones in each row is given in thousandths.
  private func csv(_ shares: [Int], seed: Int = 0) -> String {
    shares.enumerated().map { row, share in
      "\(1 - Double(row) / 10),"
        + (0..<500).map { ($0 * 383 + seed) % 1000 < share ? "1" : "0" }.joined(separator: ",")
    }.joined(separator: "\n") + "\n"
  }

  private func write(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: folder + "/" + name))
  }

  private func json(_ outcome: Outcome) throws -> [String: Any] {
    try #require(JSONSerialization.jsonObject(with: Data(outcome.output.utf8)) as? [String: Any])
  }

  @Test func `calibrate writes a certificate that verify recomputes`() throws {
    try write(csv([0, 10, 30, 300]), "t.csv")
    try write("30\n25\n20\n10\n", "costs.csv")
    let result = try run(
      "calibrate", "t.csv", "--epsilon", "0.1", "--costs", "costs.csv", "--format", "json", "--metric",
      "1 - F1")
    #expect(result.status == 0 && result.errors == "")
    let object = try json(result)
    #expect(object["outcome"] as? String == "certified" && object["index"] as? Int == 2)
    #expect(object["threshold"] as? Double == 0.8 && object["metric"] as? String == "1 - F1")
    #expect(object["cost"] as? Double == 20 && object["safest_cost"] as? Double == 30)
    #expect(
      (object["upper_bound"] as? Double ?? 1) < 0.1 && (object["empirical_risk"] as? Double ?? 1) < 0.05)
    let file = try String(contentsOfFile: folder + "/t.certificate.json", encoding: .utf8)
    #expect(file == result.output)
    let verified = try run("verify", "t.certificate.json", "t.csv", "--costs", "costs.csv")
    #expect(verified.status == 0 && verified.output.contains("recomputes from t.csv to the last digit"))

    try write(file.replacingOccurrences(of: "\"epsilon\" : 0.1", with: "\"epsilon\" : 0.01"), "edited.json")
    let bound = try run("verify", "t.certificate.json", "t.csv", "--costs", "costs.csv", "--loss-bound", "2")
    #expect(bound.status == 64)
    #expect(bound.errors.contains("comes from the certificate"))
    let edited = try run("verify", "edited.json", "t.csv", "--costs", "costs.csv")
    #expect(edited.status == 1 && edited.errors.contains("the certificate was edited"))
    try write(csv([0, 10, 30, 299]), "other.csv")
    let other = try run("verify", "t.certificate.json", "other.csv", "--costs", "costs.csv")
    #expect(other.status == 1 && other.errors.contains("the table is not the one that was certified"))
  }

  @Test func `the three outcomes have three exit statuses`() throws {
    try write(csv([0, 300]), "safest.csv")
    try write(csv([300, 400]), "nothing.csv")
    try write(csv([0, 10]), "good.csv")
    let statuses = try ["good.csv", "safest.csv", "nothing.csv"].map {
      let result = try run("calibrate", $0, "--epsilon", "0.1", "--format", "json")
      return "\(result.status) \(try json(result)["outcome"] as? String ?? "")"
    }
    #expect(statuses == ["0 certified", "3 only_safest", "2 nothing_certified"])
    #expect(
      try json(run("calibrate", "nothing.csv", "--epsilon", "0.1", "--format", "json"))["threshold"] is NSNull
    )
    #expect(try run("calibrate", "good.csv", "--epsilon", "0.1", "--no-full-model").status == 0)
    #expect(try run("calibrate", "good.csv", "--epsilon", "0.001").errors.contains("--force"))
    let small = try run("calibrate", "good.csv", "--epsilon", "0.001", "--force")
    #expect(small.status == 3 && small.output.contains("too few samples"))
  }

  @Test func `every option changes something`() throws {
    try write(csv([0, 20, 60, 35, 300]), "t.csv")
    func result(_ options: [String]) throws -> String {
      let outcome = try json(
        run(["calibrate", "t.csv", "--epsilon", "0.1", "--format", "json", "--force"] + options))
      return ["index", "upper_bound", "order", "seed", "rule", "bound"].map { "\(outcome[$0] ?? "")" }.joined(
        separator: " ")
    }
    let plain = try result([])
    for options in [
      ["--delta", "0.01"], ["--rule", "crc"], ["--rule", "ltt"], ["--bound", "hb"], ["--bound", "hoeffding"],
      ["--bound", "bernstein"], ["--seed", "7"], ["--order", "given"], ["--loss-bound", "2"],
      ["--tail", "cvar:0.5"],
      ["--tail", "quantile:0.9"],
    ] { #expect(try result(options) != plain, "\(options)") }
    try write(csv([0, 20, 150, 35, 300]), "t.csv")
    #expect(try result(["--rule", "empirical"]) != result(["--rule", "empirical", "--scan", "cautious"]))
  }

  @Test func `no order and no seed are chosen unless asked for`() throws {
    try write(csv([0, 20, 60, 300]), "t.csv")
    func made(_ options: String...) throws -> [String: Any] {
      try json(run(["calibrate", "t.csv", "--epsilon", "0.1", "--format", "json", "--force"] + options))
    }
    #expect(try made()["order"] as? String == "averaged")
    #expect(try made("--seed", "3")["order"] as? String == "shuffled")
    let growing = try made("--bound", "anytime")
    #expect(growing["order"] as? String == "given" && growing["bound"] as? String == "anytime")
    #expect(try run("verify", "t.certificate.json", "t.csv").status == 0)
    #expect(try made("--bound", "binomial")["bound"] as? String == "binomial")
    let both = try run("calibrate", "t.csv", "--epsilon", "0.1", "--order", "given", "--seed", "3")
    #expect(both.status == 64 && both.errors.contains("--seed draws a shuffled order"))
    let shuffled = try run(
      "calibrate", "t.csv", "--epsilon", "0.1", "--bound", "anytime", "--order", "averaged")
    #expect(shuffled.status == 64 && shuffled.errors.contains("in the order of their arrival"))
  }

  @Test func `sorted losses certify nothing that they were seen to break`() throws {
    let zeros = Array(repeating: "0", count: 100).joined(separator: ",")
    let sorted = (0..<100).map { $0 < 60 ? "0" : "1" }.joined(separator: ",")
    try write("1,\(zeros)\n0.9,\(sorted)\n", "sorted.csv")
    let result = try run("calibrate", "sorted.csv", "--epsilon", "0.1", "--order", "given")
    #expect(result.status == 3, "\(result.output)")
    #expect(result.output.contains("the observed risk is 0.4, above that and above epsilon"))
    #expect(try run("calibrate", "sorted.csv", "--epsilon", "0.1", "--force").status == 3)
  }

  @Test(arguments: ["full", "1.0 (full)", "n/a"])
  func `a first row with numbers in it is no header`(threshold: String) throws {
    let zeros = Array(repeating: "0", count: 100).joined(separator: ",")
    let ones = (0..<100).map { $0 < 50 ? "1" : "0" }.joined(separator: ",")
    try write("\(threshold),\(zeros)\n0.9,\(zeros)\n0.8,\(ones)\n", "t.csv")
    let result = try run("calibrate", "t.csv", "--epsilon", "0.01")
    #expect(
      result.status == 1 && result.errors.contains("row 1, column 1: \"\(threshold)\""), "\(result.errors)")
  }

  @Test func `a signed certificate is told from an unsigned one and from one of another key`() throws {
    try write(csv([0, 20, 300]), "t.csv")
    try write(
      "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
        + "-----END PRIVATE KEY-----\n", "key.pem")
    try write(
      "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
        + "-----END PUBLIC KEY-----\n", "public.pem")
    #expect(try run("calibrate", "t.csv", "--epsilon", "0.1").status == 0)
    let verify = ["verify", "t.certificate.json", "t.csv", "--verify-key", "public.pem"]
    let unsigned = try run(verify)
    #expect(unsigned.status == 1 && unsigned.errors.contains("is not signed"))
    #expect(try run("calibrate", "t.csv", "--epsilon", "0.1", "--sign", "key.pem").status == 0)
    #expect(try run(verify).status == 0)
    let wrong = try run("calibrate", "t.csv", "--epsilon", "0.1", "--sign", "public.pem")
    #expect(wrong.status == 1 && wrong.errors.contains("no Ed25519 private key"))
  }

  @Test func `a grid, several risks, several policies and weights`() throws {
    try write(csv([0, 10, 30, 300]), "a.csv")
    try write(csv([0, 5, 200, 300], seed: 5), "b.csv")
    try write("30\n25\n20\n10\n", "costs.csv")
    let grid = try run(
      "calibrate", "a.csv", "--epsilon", "0.03:0.09:0.03", "--simultaneous", "--format", "json")
    #expect(grid.status == 0)
    #expect((try JSONSerialization.jsonObject(with: Data(grid.output.utf8)) as? [[String: Any]])?.count == 3)
    #expect(FileManager.default.fileExists(atPath: folder + "/a.certificate.epsilon-0.06.json"))

    let both = try json(
      run("calibrate", "a.csv", "--epsilon", "0.1", "--also", "b.csv:0.05", "--format", "json"))
    #expect(both["index"] as? Int == 1 && (both["further_risks"] as? [Any])?.count == 1)
    #expect(try run("verify", "a.certificate.json", "a.csv", "--also", "b.csv").status == 0)
    #expect(try run("verify", "a.certificate.json", "a.csv").status == 64)

    let policies = try run(
      "calibrate", "b.csv", "a.csv", "--epsilon", "0.1", "--costs", "costs.csv", "-o", "p.json")
    #expect(
      policies.status == 0 && policies.output.contains("(policy a.csv)")
        && policies.output.contains("cost        20"))
    #expect(try run("verify", "p.json", "a.csv", "--costs", "costs.csv").status == 0)

    try write((0..<500).map { _ in "1" }.joined(separator: "\n") + "\n", "w.csv")
    #expect(
      try run("calibrate", "a.csv", "--epsilon", "0.1", "--weights", "w.csv", "--weight-bound", "2").status
        == 0)
    #expect(
      try run("verify", "a.certificate.json", "a.csv", "--weights", "w.csv", "--weight-bound", "2").status
        == 0)
    #expect(try run("verify", "a.certificate.json", "a.csv").status == 1)
  }

  @Test func `bad data end with 1 and bad options with 64, each with a sentence`() throws {
    try write("1,0\n0.5,nan\n", "nan.csv")
    let nan = try run("calibrate", "nan.csv", "--epsilon", "0.1")
    #expect(nan.status == 1 && nan.output == "")
    #expect(
      nan.errors.contains(
        "nan.csv: row 2, column 2 (threshold 0.5): loss is NaN, expected a number in [-1, 1]"))
    #expect(try run("calibrate", "none.csv", "--epsilon", "0.1").errors.contains("none.csv: no such file"))
    try write(csv([0, 10]), "t.csv")
    for options in [("1.5", "0.1"), ("0", "0.1"), ("0.1", "0"), ("0.1", "1"), ("x", "0.1")] {
      let result = try run("calibrate", "t.csv", "--epsilon", options.0, "--delta", options.1)
      #expect(result.status == 64 && !result.errors.isEmpty, "\(options)")
    }
    #expect(try run("calibrate", "t.csv", "--epsilon", "0.1", "--weights", "w").status == 64)
    #expect(try run("calibrate", "t.csv", "--epsilon", "0.1", "--tail", "median").status == 64)
    #expect(try run("study", "t.csv", "--calibration-size", "500").status == 64)
    #expect(try run("study", "t.csv", "--calibration-size", "10", "--rules", "best").status == 64)
    try write("1,0\n0.5,0\n", "tiny.csv")
    let tiny = try run("calibrate", "tiny.csv", "--epsilon", "0.1")
    #expect(tiny.status == 1 && tiny.errors.contains("1 samples can never certify any epsilon below B = 1"))
  }

  @Test func `a table may come from standard input, and models are named by their hash`() throws {
    try write("weights", "model.bin")
    let result = try run(
      "calibrate", "-", "--epsilon", "0.1", "--model", "model.bin", "-o", "c.json", input: csv([0, 10]))
    #expect(result.status == 0)
    try write(csv([0, 10]), "t.csv")
    #expect(try run("verify", "c.json", "t.csv", "--model", "model.bin").status == 0)
    try write("other", "model.bin")
    let other = try run("verify", "c.json", "t.csv", "--model", "model.bin")
    #expect(other.status == 1 && other.errors.contains("the model is not the one of the certificate"))
  }

  @Test(.enabled(if: CommandRunner.hasFullDevice, "needs /dev/full"))
  func `calibrate, verify and study report a full disk`() throws {
    let full = try #require(FileHandle(forWritingAtPath: "/dev/full"))
    try write(csv([0, 10, 30]), "t.csv")
    #expect(try run("calibrate", "t.csv", "--epsilon", "0.1").status == 0)
    for arguments in [
      ["calibrate", "t.csv", "--epsilon", "0.1"],
      ["calibrate", "t.csv", "--epsilon", "0.1", "--format", "json"],
      ["verify", "t.certificate.json", "t.csv"],
      ["study", "t.csv", "--trials", "2", "--calibration-size", "100", "--epsilons", "0.1"],
    ] {
      let result = try egress.run(arguments, output: full)
      #expect(result.status == 1)
      #expect(result.errors == "egress: cannot write to standard output: No space left on device\n")
    }
  }

  @Test func `study prints a table, JSON with stable keys, and a figure`() throws {
    try write(csv([0, 10, 30, 60, 300]), "t.csv")
    try write("30\n25\n20\n15\n10\n", "costs.csv")
    let text = try run(
      "study", "t.csv", "--trials", "5", "--calibration-size", "100,200", "--epsilons", "0.05:0.1:0.05",
      "--costs", "costs.csv")
    #expect(
      text.status == 0 && text.errors == "" && text.output.split(separator: "\n").count == 1 + 2 * 4 * 2)
    let result = try run(
      "study", "t.csv", "--trials", "5", "--calibration-size", "100", "--epsilons", "0.05,0.1", "--costs",
      "costs.csv", "--format",
      "json", "--figure", "f.svg")
    let object = try json(result)
    let rows = try #require(object["measurements"] as? [[String: Any]])
    #expect(rows.count == 8 && object["trials"] as? Int == 5)
    #expect(
      Set(rows[0].keys).isSuperset(of: [
        "rule", "calibration_size", "epsilon", "risk_mean", "risk_std", "violation_rate", "cost_mean",
      ]))
    let figure = try String(contentsOfFile: folder + "/f.svg", encoding: .utf8)
    #expect(
      figure.hasPrefix("<svg") && figure.contains("test risk") && figure.contains("cost")
        && figure.contains("ltt/hb"))
    #expect(
      try run(
        "study", "t.csv", "--trials", "5", "--calibration-size", "100", "--epsilons", "0.1", "--seed", "1"
      ).output
        != run(
          "study", "t.csv", "--trials", "5", "--calibration-size", "100", "--epsilons", "0.1", "--seed", "2"
        ).output)
  }
}
