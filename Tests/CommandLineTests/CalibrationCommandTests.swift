import Foundation
import TestSupport
import Testing

/// Calibration with a model: run, interrupted, resumed, applied, refused.
@Suite struct CalibrationCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  /// Documents of different kinds and lengths.
  private func writeDocuments(_ name: String = "docs.jsonl", count: Int = 12, references: Bool = true) throws
    -> String
  {
    let lines = (0..<count).map { index in
      let question = index % 3 == 2 ? #""question": "what?", "# : ""
      let reference = references ? #", "references": ["some words \#(index)"]"# : ""
      return #"{"id": \#(index), \#(question)"document": "text \#(index * 7919)"\#(reference)}"#
    }
    return try egress.folder.write(name, lines.joined(separator: "\n") + "\n")
  }

  private func calibrate(_ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--risk",
        "consistency", "--rule", "empirical", "--epsilon", "0.99",
      ] + options)
  }

  @Test func `documents become a certificate that decoding applies without another file`() throws {
    let data = try writeDocuments()
    let result = try calibrate(data)
    #expect(result.status == 0, "\(result.errors)")
    #expect(result.text.contains("certified") && result.text.contains("of 2 layers on average"))
    let early = try egress.run(
      [
        "summarize", "--model", model, "--max-tokens", "6", "--format", "json", "--certificate",
        egress.path("docs.certificate.json"),
      ], input: "abc")
    #expect(early.status == 0, "\(early.errors)")
    #expect(early.errors.contains("Nothing is guaranteed"))
    #expect(try #require(try early.json()["average_exit_layer"] as? Double) < 2)

    let other = try egress.run(
      [
        "summarize", "--model", model, "--compute", "4-bit", "--certificate",
        egress.path("docs.certificate.json"),
      ], input: "abc")
    #expect(
      other.status == 1
        && other.errors.contains("the certificate is for --compute quantized, found --compute 4-bit"),
      "\(other.errors)")

    // The table is one that the other commands read.
    let verified = try egress.run([
      "verify", egress.path("docs.certificate.json"), egress.path("docs.losses.jsonl"),
    ])
    #expect(verified.status == 0, "\(verified.errors)")
    let study = try egress.run([
      "study", egress.path("docs.losses.jsonl"), "--trials", "2", "--calibration-size", "6", "--epsilons",
      "0.5",
    ])
    #expect(study.status == 0, "\(study.errors)")
  }

  @Test func `an interrupted run goes on to the same bytes`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let names = ["docs.runs.jsonl", "docs.losses.jsonl", "docs.certificate.json"]
    let whole = try names.map(egress.text)
    #expect(whole[0].split(separator: "\n").count == 13)
    // The cuts: at a line's end, within a line, within the last one.
    let length = whole[0].utf8.count
    let lineEnd = try #require(whole[0].firstIndex(of: "\n")?.utf16Offset(in: whole[0]))
    for cut in [lineEnd + 1, length / 2, length - 3] {
      try egress.folder.write("docs.runs.jsonl", Array(whole[0].utf8.prefix(cut)))
      try FileManager.default.removeItem(atPath: egress.path("docs.losses.jsonl"))
      let result = try calibrate(data)
      #expect(result.status == 0, "\(result.errors)")
      #expect(try names.map(egress.text) == whole, "cut at \(cut)")
    }
    // Of a cut first line nothing is known: costs are measured again, the outputs are the same.
    try egress.folder.write("cut.runs.jsonl", Array(whole[0].utf8.prefix(5)))
    #expect(try calibrate(data, "--output", egress.path("cut")).status == 0)
    func outputs(_ name: String) throws -> [String?] {
      try egress.text(name).split(separator: "\n").dropFirst().map {
        "\((try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["texts"] ?? [])"
      }
    }
    #expect(try outputs("cut.runs.jsonl") == outputs("docs.runs.jsonl"))
    // Nothing is run again for another risk and metric.
    let other = try calibrate(data, "--metric", "token-f1", "--certificate", egress.path("f1.json"))
    #expect(other.status == 0 && other.errors.contains("12 of 12"), "\(other.errors)")
    #expect(try egress.text("docs.runs.jsonl") == whole[0])
    // More documents of the same file go on from there, fewer take the first.
    let few = try calibrate(data, "--limit", "5", "--certificate", egress.path("few.json"))
    #expect(few.status == 0)
    #expect(try egress.text("docs.runs.jsonl") == whole[0])
    #expect(try egress.text("few.json").contains("\"sample_count\" : 5"))
  }

  @Test func `an interruption ends with 130 and keeps what was done`() throws {
    let data = try writeDocuments(count: 400)
    let result = try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "16", "--risk", "consistency",
        "--epsilon", "0.5", "--threads", "1",
      ]
    ) { process in
      // Some documents are done, and not all of them.
      for _ in 0..<20_000 {
        let found = (try? egress.text("docs.runs.jsonl")) ?? ""
        if found.split(separator: "\n").count > 2 { break }
        usleep(2_000)
      }
      process.interrupt()
    }
    #expect(result.status == 130, "\(result.errors)")
    #expect(result.errors.contains("goes on from there"))
    let lines = try egress.text("docs.runs.jsonl")
    #expect(lines.hasSuffix("\n") && lines.split(separator: "\n").count > 2)
    #expect(!FileManager.default.fileExists(atPath: egress.path("docs.certificate.json")))
  }

  @Test func `runs of other settings are left as they are`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let runs = try egress.text("docs.runs.jsonl")
    for options in [
      ["--grid", "0.5,0.1"], ["--lowest", "0.2"], ["--exit-cache", "propagate"], ["--decay", "4"],
      ["--metric", "hellinger"], ["--confidence", "saturation"],
    ] {
      let result = try egress.run(
        [
          "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--risk",
          "consistency", "--epsilon", "0.99", "--force",
        ] + options)
      expectRefusal(result, status: 1, saying: "choose another --output")
    }
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("Other")) }
    let refused = try egress.run([
      "calibrate", "--model", other, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--epsilon",
      "0.5",
      "--force",
    ])
    expectRefusal(refused, status: 1, saying: "another model")
    #expect(try egress.text("docs.runs.jsonl") == runs)

    try egress.folder.write("docs.runs.jsonl", runs.replacing("\"costs\":[", with: "\"costs\":[7,"))
    expectRefusal(try calibrate(data), status: 1, saying: "line 2 is damaged")
    try egress.folder.write("docs.runs.jsonl", "notes of mine\n")
    expectRefusal(try calibrate(data), status: 1, saying: "choose another --output")
    #expect(try egress.text("docs.runs.jsonl") == "notes of mine\n")
  }

  @Test func `a certificate of other settings is replaced only by force`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let first = try egress.text("docs.certificate.json")
    let other = ["--delta", "0.2"]
    expectRefusal(try calibrate(data, other[0], other[1]), status: 1, saying: "other settings (epsilon 0.99")
    expectRefusal(try calibrate(data, "--limit", "6"), status: 1, saying: "12 samples")
    expectRefusal(try calibrate(data, "--metric", "bleu"), status: 1, saying: "another risk, metric")
    #expect(try egress.text("docs.certificate.json") == first)
    #expect(try calibrate(data, "--delta", "0.2", "--force").status == 0)
    #expect(try egress.text("docs.certificate.json") != first)
    try egress.folder.write("docs.certificate.json", "mine")
    let notOurs = try calibrate(data)
    #expect(notOurs.status == 1)
    #expect(try egress.text("docs.certificate.json") == "mine")
  }

  @Test func `options of a calibration change what is run`() throws {
    let data = try writeDocuments()
    func runs(_ name: String, _ options: String...) throws -> [String] {
      let result = try egress.run(
        [
          "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--risk", "consistency",
          "--epsilon", "0.9", "--output", egress.path(name),
        ] + options)
      #expect([0, 3].contains(result.status), "\(result.errors)")
      return try egress.text(name + ".runs.jsonl").split(separator: "\n").dropFirst().map(String.init)
    }
    let plain = try runs("plain")
    #expect(try runs("grid", "--grid", "0.2,0.01") != plain)
    #expect(try runs("saturation", "--confidence", "saturation", "--exit-layers", "1") != plain)
    #expect(try runs("propagate", "--exit-cache", "propagate") != plain)
    #expect(try runs("decay", "--decay", "4") != plain)
    #expect(try runs("brier", "--metric", "brier") != plain)
    #expect(try runs("hellinger", "--metric", "hellinger") != runs("again", "--metric", "brier"))
    let lowest = try runs("lowest", "--lowest", "0.99")
    #expect(lowest.joined().count < plain.joined().count)
  }

  @Test func `distributions are compared with a bound of their own`() throws {
    let data = try writeDocuments(references: false)
    let result = try egress.run([
      "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--metric",
      "brier", "--epsilon", "0.9", "--rule", "empirical", "--format", "json",
    ])
    #expect(result.status == 0, "\(result.errors)")
    let certificate = try result.json()
    #expect(certificate["loss_bound"] as? Double == 2 && certificate["risk"] as? String == "consistency")
    #expect(try #require(certificate["empirical_risk"] as? Double) > 0)
    #expect(
      try egress.run(["verify", egress.path("docs.certificate.json"), egress.path("docs.losses.jsonl")])
        .status == 0)
  }

  @Test(arguments: [
    (["--metric", "nonsense"], "--metric"), (["--risk", "nonsense"], "--risk"),
    (["--metric", "brier", "--risk", "gap"], "consistency"),
    (["--metric", "brier", "--exit-cache", "propagate"], "defer"), (["--grid", "1"], "--grid"),
    (["--lowest", "-1"], "--lowest"), (["--limit", "0"], "--limit"), (["--max-tokens", "0"], "--max-tokens"),
    (["--loss-bound", "2"], "--loss-bound"), (["table.csv"], "not both"), (["--policy", "p"], "--policy"),
    (["--confidence", "classifier"], "exit-heads"), (["--exit-layers", "2,1"], "exit-layers"),
    (["--epsilon", "1.5"], "epsilon"),
  ])
  func `settings that make no sense are usage errors`(options: [String], part: String) throws {
    let data = try writeDocuments()
    let epsilon = options[0] == "--epsilon" ? [] : ["--epsilon", "0.5"]
    let result = try egress.run(["calibrate", "--model", model, "--data", data] + epsilon + options)
    expectRefusal(result, status: 64, saying: part)
  }

  @Test(arguments: ["--output", "--grid", "--exit-layers", "--threads"])
  func `options of a model's runs have no effect on a table`(option: String) throws {
    let table = try egress.folder.write("t.csv", "1,0,0\n0.5,0,0\n")
    let result = try egress.run(["calibrate", table, "--epsilon", "0.5", option, "1"])
    #expect(result.status == 64 && result.errors.contains(option.dropFirst(2)), "\(result.errors)")
  }

  @Test func `data that cannot be used are refused before anything is run`() throws {
    let plain = try writeDocuments("plain.jsonl", references: false)
    let gap = ["calibrate", "--model", model, "--max-tokens", "6", "--epsilon", "0.5", "--data"]
    expectRefusal(try egress.run(gap + [plain]), status: 1, saying: "document 0 has no references")
    // As many as it takes to certify anything at all.
    let short = (0..<12).map { #"{"id": \#($0), "document": "short \#($0)", "references": ["x"]}"# + "\n" }
    let long = try egress.folder.write(
      "long.jsonl",
      short.joined()
        + #"{"id": "b", "document": "\#(String(repeating: "long ", count: 80))", "references": ["x"]}"# + "\n"
    )
    expectRefusal(try egress.run(gap + [long]), status: 1, saying: "document \"b\" has a prompt of")
    #expect(try egress.text("long.runs.jsonl").split(separator: "\n").count == 1)
    expectRefusal(
      try egress.run(gap + [try writeDocuments(), "--exit-layers", "1,7"]), status: 1, saying: "exit-layers")
    expectRefusal(try egress.run(gap + [egress.path("nowhere.jsonl")]), status: 1, saying: "nowhere.jsonl")
    #expect(!FileManager.default.fileExists(atPath: egress.path("docs.runs.jsonl")))
  }

  @Test func `what would certify nothing, or everything, is refused with the reason`() throws {
    let options = ["calibrate", "--model", model, "--max-tokens", "6", "--exit-layers", "1"]
    let cyrillic = (0..<40).map {
      #"{"id": \#($0), "document": "text \#($0)", "references": ["слово \u0434"]}"#
    }
    let data = try egress.folder.write("ru.jsonl", cyrillic.joined(separator: "\n") + "\n")
    let vacuous = try egress.run(options + ["--data", data, "--epsilon", "0.5"])
    expectRefusal(vacuous, status: 1, saying: "rouge-l sees no words in the references of 40 of 40 documents")
    #expect(!FileManager.default.fileExists(atPath: egress.path("ru.runs.jsonl")))
    // The tiny model writes none of these words, whatever its depth.
    let worst = try egress.run(
      options + ["--data", try writeDocuments(count: 20), "--epsilon", "0.5", "--metric", "exact-match"])
    expectRefusal(worst, status: 1, saying: "the worst possible on 20 of 20 documents")
    let few = try egress.run(
      options + ["--data", try writeDocuments("few.jsonl", count: 20), "--epsilon", "0.05"])
    expectRefusal(few, status: 1, saying: "with 20 samples no epsilon below")
    #expect(!FileManager.default.fileExists(atPath: egress.path("few.runs.jsonl")))
  }

  @Test func `bets that hold at every look are the rule for documents, which may then be added`() throws {
    let data = try writeDocuments(count: 20)
    func made(_ limit: Int, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1",
          "--metric",
          "repetition", "--epsilon", "0.6", "--format", "json", "--limit", "\(limit)",
        ] + options)
    }
    let first = try made(12)
    #expect([0, 3].contains(first.status), "\(first.errors)")
    #expect(try first.json()["bound"] as? String == "anytime" && first.json()["order"] as? String == "given")
    let more = try made(20)
    #expect(
      [0, 3].contains(more.status) && more.errors.contains("12 of 20 documents already"), "\(more.errors)")
    #expect(try more.json()["sample_count"] as? Int == 20)
    // Fewer than were looked at, or bets for a fixed number, are another certificate.
    expectRefusal(try made(12), status: 1, saying: "20 samples")
    expectRefusal(try made(20, "--bound", "wsr"), status: 1, saying: "other settings")
    let property = try made(20, "--risk", "consistency")
    #expect(property.status == 64 && property.errors.contains("is a property of one text"))
  }

  @Test func `a certificate is refused for another model, head, template or outcome`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let certificate = egress.path("docs.certificate.json")
    func apply(_ model: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6", "--certificate", certificate] + options,
        input: "abc")
    }
    #expect(try apply(model).status == 0)
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("Other")) }
    expectRefusal(try apply(other), status: 1, saying: "another model")
    let heads = try fitHeads()
    expectRefusal(try apply(model, "--exit-heads", heads), status: 1, saying: "another exit head")
    for option in [["--exit-layers", "1"], ["--confidence", "softmax"], ["--exit-cache", "defer"]] {
      expectRefusal(try apply(model, option[0], option[1]), status: 64, saying: "fixed by --certificate")
    }
    expectRefusal(try apply(model, "--exit-threshold", "0.5"), status: 64, saying: "either")
    expectRefusal(try apply(model, "--raw"), status: 64, saying: "prompts in the model's template")
    expectRefusal(
      try egress.run(["generate", "--model", model, "--certificate", egress.folder.path, "abc"]), status: 1,
      saying: "is a folder, expected a file")

    let edited = try egress.text("docs.certificate.json").replacing("\"defer\"", with: "\"propagate\"")
    try egress.folder.write("docs.certificate.json", edited)
    expectRefusal(try apply(model), status: 1, saying: "the certificate was edited")
    try egress.folder.write("t.csv", "1,0,0,0,0,0,0\n0.5,0,0,0,0,0,0\n")
    #expect(
      try egress.run([
        "calibrate", egress.path("t.csv"), "--epsilon", "0.9", "--certificate", certificate, "--force",
      ]).status == 0)
    expectRefusal(try apply(model), status: 1, saying: "names no exit policy")
  }

  @Test func `a certificate is refused where documents are decoded otherwise than it was made`() throws {
    #expect(try calibrate(try writeDocuments()).status == 0)
    func apply(_ command: [String], _ more: [String] = []) throws -> CommandRunner.Result {
      try egress.run(
        command + ["--model", model, "--certificate", egress.path("docs.certificate.json")] + more,
        input: "abc")
    }
    let summarize = ["summarize", "--max-tokens", "6"]
    #expect(try apply(summarize).status == 0)
    #expect(try apply(["answer", "--question", "what?", "--max-tokens", "6"]).status == 0)
    for (command, more, field) in [
      (
        summarize, ["--temperature", "0.8", "--seed", "1"],
        "sampling was greedy when it was made, and is random"
      ),
      (["summarize", "--max-tokens", "7"], [], "max-tokens was 6"), (["summarize"], [], "is the usual here"),
      (summarize, ["--stop", "x"], "stop was []"),
      (summarize, ["--context", "64"], "context was the model's"),
      (summarize, ["--no-repeat-ngram", "3"], "no-repeat-ngram was none"),
      (summarize, ["--sentences", "2"], "length was the usual when it was made, and is 2 sentences"),
      (
        ["answer", "--question", "what?", "--extractive", "--max-tokens", "6"], [], "extractive was the usual"
      ),
      (["generate", "--max-tokens", "6"], [], "task was answer and summarize"),
    ] {
      expectRefusal(try apply(command, more), status: 1, saying: field)
    }
    // Of one task, it is none for the other.
    let summaries = try egress.folder.write("s.jsonl", #"{"id": 1, "document": "a text"}"# + "\n")
    #expect(
      try calibrate(summaries, "--certificate", egress.path("docs.certificate.json"), "--force").status == 0)
    expectRefusal(
      try apply(["answer", "--question", "what?", "--max-tokens", "6"]), status: 1,
      saying: "task was summarize")
  }

  @Test func `a document that does not fit is not covered and is decoded at full depth`() throws {
    #expect(try calibrate(try writeDocuments()).status == 0)
    let long = (0..<400).map { "word \($0)." }.joined(separator: " ")
    let options = [
      "--model", model, "--max-tokens", "6", "--certificate", egress.path("docs.certificate.json"),
    ]
    for rule in ["split", "truncate"] {
      let one = try egress.run(["summarize", "--format", "json", "--long", rule] + options, input: long)
      #expect(one.status == 0 && one.errors.contains("not covered by the certificate"), "\(one.errors)")
      #expect(try one.json()["average_exit_layer"] as? Double == 2)
      let data = try egress.folder.write(
        "\(rule).jsonl",
        #"{"id": "long", "document": "\#(long)"}"# + "\n" + #"{"id": "short", "document": "abc"}"# + "\n")
      let many = try egress.run(
        ["summarize", "--long", rule, "--input", data, "--output", egress.path("\(rule).out.jsonl")] + options
      )
      #expect(many.status == 0 && many.errors.contains("document \"long\": not covered"), "\(many.errors)")
      let lines = try egress.text("\(rule).out.jsonl").split(separator: "\n").map {
        try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
      }
      #expect(lines.first??["text"] as? String == (try one.json()["text"] as? String))
      #expect(try #require(lines.last??["average_exit_layer"] as? Double) < 2)
    }
  }

  /// Heads and classifiers for the first layer.
  private func fitHeads() throws -> String {
    let heads = egress.path("heads.safetensors")
    let result = try egress.run([
      "fit-exits", "--model", model, "--data", try writeDocuments("fit.jsonl"), "--exit-layers", "1",
      "--max-tokens", "12", "--output", heads,
    ])
    #expect(result.status == 0, "\(result.errors)")
    return heads
  }

  @Test func `a certificate of fitted heads needs those heads`() throws {
    let heads = try fitHeads()
    let data = try writeDocuments()
    let result = try egress.run([
      "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-heads", heads,
      "--confidence",
      "classifier", "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99",
    ])
    #expect([0, 3].contains(result.status), "\(result.errors)")
    let apply = [
      "summarize", "--model", model, "--max-tokens", "6", "--certificate",
      egress.path("docs.certificate.json"),
    ]
    #expect(try egress.run(apply + ["--exit-heads", heads], input: "abc").status == 0)
    expectRefusal(try egress.run(apply, input: "abc"), status: 1, saying: "another exit head")
  }

  // MARK: - Evaluation

  @Test func `evaluate compares both ways of decoding`() throws {
    let data = try writeDocuments()
    #expect(try calibrate(data).status == 0)
    let options = ["evaluate", "--model", model, "--data", data, "--max-tokens", "6"]
    let certified = try egress.run(
      options + ["--certificate", egress.path("docs.certificate.json"), "--format", "json"])
    #expect(certified.status == 0, "\(certified.errors)")
    let json = try certified.json()
    #expect(json["documents"] as? Int == 12 && json["epsilon"] as? Double == 0.99)
    #expect(json["is_within_epsilon"] as? Bool == true && json["risk"] as? String == "consistency")
    let full = try #require(json["full"] as? [String: Any])
    let exits = try #require(json["exits"] as? [String: Any])
    #expect(full["average_layer"] as? Double == 2)
    #expect(try #require(exits["average_layer"] as? Double) < 2)
    // The risk on the calibration's own documents is the one that the certificate observed.
    let certificate = try #require(
      try JSONSerialization.jsonObject(
        with: Data(contentsOf: URL(fileURLWithPath: egress.path("docs.certificate.json"))))
        as? [String: Any])
    let observed = try #require(certificate["empirical_risk"] as? Double)
    #expect(abs(try #require(json["test_risk"] as? Double) - observed) < 1e-12)
    let megabytes = try #require(certificate["cost"] as? Double)
    #expect(megabytes > 0 && (exits["bytes_per_token"] as? Double ?? 0) > 0)
    let parts = try #require(exits["breakdown"] as? [String: Double])
    #expect(Set(parts.keys) == ["layers", "heads", "cache", "gates_and_sampling"])
    #expect(abs(parts.values.reduce(0, +) - (exits["milliseconds_per_token"] as? Double ?? 0)) < 1e-6)

    let depth = try egress.run(options + ["--exit-threshold", "1", "--metric", "token-f1"])
    #expect(depth.status == 0 && depth.text.contains("12 of 12 documents"), "\(depth.errors)")
    #expect(depth.text.contains("test risk    0.0000"))
    let some = try egress.run(
      options + ["--exit-threshold", "0", "--skip", "4", "--limit", "3", "--format", "json"])
    #expect(try some.json()["documents"] as? Int == 3)
  }

  @Test(arguments: [(exitHead: 1000.0, pays: false), (exitHead: 0.001, pays: true)])
  func `exits that take longer than full depth are certified but not taken`(exitHead: Double, pays: Bool)
    throws
  {
    let data = try writeDocuments()
    let options = ["--grid", "0", "--format", "json"]
    #expect(try calibrate(data, options[0], options[1]).status == 0)
    // What the parts of decoding cost is measured once, into the first line; here they are made up.
    let header = try #require(try egress.text("docs.runs.jsonl").split(separator: "\n").first)
    var json = try #require(try JSONSerialization.jsonObject(with: Data(header.utf8)) as? [String: Any])
    var costs = try #require(json["milliseconds"] as? [String: Any])
    #expect(try #require(costs["layer"] as? [Double]).allSatisfy { $0 > 0 })
    costs["layer"] = Array(repeating: 2.0, count: 16)
    costs["head"] = 3.0
    costs["exitHead"] = exitHead
    json["milliseconds"] = costs
    let edited = String(decoding: try JSONSerialization.data(withJSONObject: json), as: UTF8.self) + "\n"
    try egress.folder.write("docs.runs.jsonl", edited)
    let result = try egress.run(
      [
        "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--risk",
        "consistency", "--rule", "empirical", "--epsilon", "0.99", "--force",
      ] + options)
    #expect(result.status == 0, "\(result.errors)")
    #expect(try egress.text("docs.runs.jsonl").hasPrefix(edited))
    let certificate = try result.json()
    #expect(certificate["outcome"] as? String == "certified" && certificate["threshold"] as? Double == 0)
    // Two layers and the head, a token.
    #expect(certificate["safest_cost"] as? Double == 7 && certificate["pays"] as? Bool == pays)
    let limits = try #require(certificate["limits"] as? String)
    #expect(limits.contains("does not pay") == !pays)
    func generate(_ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        ["summarize", "--model", model, "--max-tokens", "6", "--format", "json"] + options, input: "abc")
    }
    let full = try generate().json()
    let applied = try generate("--certificate", egress.path("docs.certificate.json"))
    #expect(applied.errors.contains("tokens pass all layers") == !pays)
    let found = try applied.json()
    #expect((found["average_exit_layer"] as? Double == 2) == !pays)
    if !pays { #expect(found["token_ids"] as? [Int] == full["token_ids"] as? [Int]) }
    let verified = try egress.run([
      "verify", egress.path("docs.certificate.json"), egress.path("docs.losses.jsonl"),
    ])
    #expect(verified.status == 0, "\(verified.errors)")
  }

  @Test(arguments: ["brier", "hellinger"])
  func `evaluate measures distances as calibrate does, beside a metric of texts`(metric: String) throws {
    let data = try writeDocuments()
    let certified = try egress.run([
      "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--metric",
      metric, "--epsilon", "0.99", "--rule", "empirical", "--format", "json",
    ])
    #expect(certified.status == 0, "\(certified.errors)")
    let certificate = try certified.json()
    let threshold = try #require(certificate["threshold"] as? Double)
    let options = ["evaluate", "--model", model, "--data", data, "--max-tokens", "6", "--format", "json"]
    let early = try egress.run(
      options + ["--exit-threshold", "\(threshold)", "--exit-layers", "1", "--metric", metric])
    #expect(early.status == 0, "\(early.errors)")
    let json = try early.json()
    let observed = try #require(certificate["empirical_risk"] as? Double)
    #expect(observed > 0 && json["metric"] as? String == metric && json["risk"] as? String == "consistency")
    #expect(abs(try #require(json["test_risk"] as? Double) - observed) < 1e-12)
    #expect(json[metric] as? Double == json["test_risk"] as? Double)
    #expect(json["brier"] as? Double != json["hellinger"] as? Double)
    #expect(((json["exits"] as? [String: Any])?["quality"] as? Double ?? -1) >= 0)
    let texts = try egress.run(options + ["--exit-threshold", "\(threshold)", "--exit-layers", "1"]).json()
    #expect(texts["brier"] == nil && texts["metric"] as? String == "rouge-l")
    // The metric of the certificate, where none is given.
    let own = try egress.run(options + ["--certificate", egress.path("docs.certificate.json")])
    #expect(own.status == 0, "\(own.errors)")
    #expect(try own.json()["metric"] as? String == metric)
    let full = try egress.run(options + ["--exit-threshold", "1", "--metric", metric]).json()
    #expect(full["brier"] as? Double == 0 && full["hellinger"] as? Double == 0)
  }

  @Test func `evaluate refuses what it cannot measure`() throws {
    let plain = try writeDocuments("plain.jsonl", references: false)
    let options = ["evaluate", "--model", model, "--data", plain, "--max-tokens", "6"]
    let policies = "--certificate, an --exit-threshold or a --prompt-depth"
    expectRefusal(try egress.run(options), status: 64, saying: policies)
    let early = options + ["--exit-threshold", "0.5"]
    expectRefusal(try egress.run(early), status: 1, saying: "no references")
    for (options, part) in [
      (["--metric", "nonsense"], "--metric"), (["--metric", "brier", "--risk", "gap"], "consistency"),
      (["--metric", "brier", "--exit-cache", "propagate"], "defer"),
      (["--metric", "brier", "--drafter", "prompt-lookup"], "drafts"),
    ] {
      expectRefusal(try egress.run(early + options), status: 64, saying: part)
    }
    expectRefusal(try egress.run(early + ["--trace", "t.jsonl"]), status: 64, saying: "--trace")
    expectRefusal(try egress.run(early + ["--skip", "20"]), status: 1, saying: "no documents")
    #expect(try egress.run(early + ["--risk", "consistency"]).status == 0)
  }
}
