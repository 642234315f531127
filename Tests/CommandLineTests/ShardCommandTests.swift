import Foundation
import TestSupport
import Testing

/// Shards of a batch and of a calibration, and what comes of them together.
@Suite struct ShardCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  private func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: egress.path(name)) }

  @discardableResult
  private func writeDocuments(_ name: String = "docs.jsonl", count: Int = 20) throws -> String {
    let lines = (0..<count).map { index in
      let words = (0..<6).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
      return #"{"id": "d\#(index)", "document": "\#(words)", "references": ["some words \#(index)"]}"#
    }
    return try egress.folder.write(name, lines.joined(separator: "\n") + "\n")
  }

  private func summarize(
    _ options: String..., output: String = "out.jsonl", environment: [String: String] = [:]
  ) throws -> CommandRunner.Result {
    try egress.run(
      [
        "summarize", "--model", model, "--raw", "--context", "128", "--max-tokens", "6", "--input",
        egress.path("docs.jsonl"), "--output", egress.path(output),
      ] + options, environment: environment)
  }

  private func merge(_ shards: [String], _ options: String...) throws -> CommandRunner.Result {
    try egress.run(["merge"] + shards.map(egress.path) + options)
  }

  private func names(_ count: Int, _ name: String = "out", _ suffix: String = "jsonl") -> [String] {
    (1...count).map { "\(name).\($0)-of-\(count).\(suffix)" }
  }

  @Test(arguments: [1, 2, 3, 7]) func `shards of a batch are the batch`(count: Int) throws {
    try writeDocuments()
    #expect(try summarize(output: "whole.jsonl").status == 0)
    for index in 1...count {
      let result = try summarize("--shard", "\(index)/\(count)")
      #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    }
    let files = names(count)
    #expect(files.allSatisfy(exists))
    let shards = try files.map(egress.text)
    // One that is done is left as it is, whatever the number of threads.
    let again = try summarize("--shard", "1/\(count)", "--threads", "1")
    #expect(again.status == 0 && again.errors.contains("is done"), "\(again.errors)")
    #expect(try files.map(egress.text) == shards)

    let merged = try merge(files.reversed(), "--output", egress.path("merged.jsonl"))
    #expect(merged.status == 0, "\(merged.errors)")
    #expect(try egress.text("merged.jsonl") == egress.text("whole.jsonl"))
    // By a pattern, and to where the shards were told.
    #expect(try merge(["out.*-of-\(count).jsonl"]).status == 0)
    #expect(try egress.text("out.jsonl") == egress.text("whole.jsonl"))
  }

  @Test func `a shard without documents is done, and goes to the whole`() throws {
    try writeDocuments(count: 2)
    #expect(try summarize(output: "whole.jsonl").status == 0)
    for index in 1...7 { #expect(try summarize("--shard", "\(index)/7").status == 0) }
    let shards = try names(7).map(egress.text)
    #expect(shards.contains { $0.split(separator: "\n").count == 1 })
    #expect(try merge(names(7), "--output", egress.path("merged.jsonl")).status == 0)
    #expect(try egress.text("merged.jsonl") == egress.text("whole.jsonl"))
  }

  @Test func `an added document moves no other`() throws {
    func ids(_ name: String) throws -> [String] {
      try egress.text(name).split(separator: "\n").dropFirst().compactMap {
        (try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["id"] as? String
      }
    }
    try writeDocuments(count: 10)
    for index in 1...3 { #expect(try summarize("--shard", "\(index)/3").status == 0) }
    let before = try names(3).map(ids)
    try writeDocuments(count: 20)
    for index in 1...3 { #expect(try summarize("--shard", "\(index)/3", output: "more.jsonl").status == 0) }
    let after = try names(3, "more").map(ids)
    for (few, many) in zip(before, after) { #expect(Set(few).isSubset(of: many)) }
    #expect(after.joined().count == 20)
  }

  @Test func `what does not go together is refused`() throws {
    try writeDocuments()
    for index in 1...3 { #expect(try summarize("--shard", "\(index)/3").status == 0) }
    let files = names(3)
    let output = ["--output", egress.path("merged.jsonl")]
    func refused(
      _ shards: [String], _ status: Int32, _ message: String,
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      expectRefusal(
        try egress.run(["merge"] + shards.map(egress.path) + output), status: status, saying: message,
        sourceLocation: sourceLocation)
      #expect(!exists("merged.jsonl"), sourceLocation: sourceLocation)
    }
    try refused([files[0], files[2]], 75, "of 3 shards this is missing: 2")
    try refused(["out.*-of-9.jsonl"], 75, "no file has a name like")
    try refused(["nothing.jsonl"], 75, "cannot read")
    try egress.folder.write("again.jsonl", try egress.text(files[1]))
    try refused(files + ["again.jsonl"], 65, "shard 2/3 is there twice")
    try refused(files + ["docs.jsonl"], 65, "is no shard of egress")
    // One that was copied while it was written.
    let whole = try egress.text(files[1])
    try egress.folder.write(files[1], Array(whole.utf8.dropLast(10)))
    try refused(files, 75, "is not whole")
    let lines = whole.split(separator: "\n")
    try egress.folder.write(files[1], lines.dropLast().joined(separator: "\n") + "\n")
    try refused(files, 75, "is not whole")
    // A line twice in place of another.
    try egress.folder.write(files[1], (lines.dropLast() + [lines[1]]).joined(separator: "\n") + "\n")
    try refused(files, 65, "is there twice")
    try egress.folder.write(files[1], whole)

    // Of another count, other options, another model, other documents.
    #expect(try summarize("--shard", "1/2").status == 0)
    try refused(files + ["out.1-of-2.jsonl"], 65, "one of 2 shards")
    #expect(try summarize("--shard", "2/3", "--stop", "x", output: "stop.jsonl").status == 0)
    try refused([files[0], "stop.2-of-3.jsonl", files[2]], 65, "other options")
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("another")) }
    let result = try egress.run([
      "summarize", "--model", other, "--raw", "--context", "128", "--max-tokens", "6", "--input",
      egress.path("docs.jsonl"), "--output", egress.path("other.jsonl"), "--shard", "2/3",
    ])
    #expect(result.status == 0, "\(result.errors)")
    try refused([files[0], "other.2-of-3.jsonl", files[2]], 65, "another model")
    // A shard that is there is not taken for one of other options or documents.
    expectRefusal(
      try summarize("--shard", "2/3", "--stop", "x"), status: 65, saying: "is a shard of other options")
    try writeDocuments(count: 21)
    expectRefusal(
      try summarize("--shard", "2/3"), status: 65, saying: "is a shard of another file of documents")
    try refused(files, 65, "is not the file that the shards are of")
    #expect(try summarize("--shard", "2/3", output: "more.jsonl").status == 0)
    try refused([files[0], "more.2-of-3.jsonl", files[2]], 65, "another file of documents")
    // Where the documents lie now.
    try writeDocuments("moved.jsonl")
    #expect(
      try egress.run(["merge"] + files.map(egress.path) + output + ["--data", egress.path("moved.jsonl")])
        .status
        == 0)
    // What is there already is left as it is.
    let merged = try egress.text("merged.jsonl")
    try egress.folder.write("merged.jsonl", "mine\n")
    let unforced = try egress.run(
      ["merge"] + files.map(egress.path) + output + ["--data", egress.path("moved.jsonl")])
    expectRefusal(unforced, status: 65, saying: "holds something else")
    #expect(try egress.text("merged.jsonl") == "mine\n")
    let forced = try egress.run(
      ["merge"] + files.map(egress.path) + output + ["--data", egress.path("moved.jsonl"), "--force"])
    #expect(forced.status == 0)
    #expect(try egress.text("merged.jsonl") == merged)
  }

  @Test func `a shard that was killed goes on to the same bytes`() throws {
    try writeDocuments()
    #expect(try summarize("--shard", "1/2").status == 0)
    let whole = try egress.text("out.1-of-2.jsonl")
    let lineEnd = try #require(whole.firstIndex(of: "\n")?.utf16Offset(in: whole))
    // In the header, at its end, in the middle, in the last line.
    for cut in [10, lineEnd + 1, whole.utf8.count / 2, whole.utf8.count - 3] {
      try FileManager.default.removeItem(atPath: egress.path("out.1-of-2.jsonl"))
      try egress.folder.write("out.1-of-2.jsonl.partial", Array(whole.utf8.prefix(cut)))
      let result = try summarize("--shard", "1/2")
      #expect(result.status == 0, "\(result.errors)")
      #expect(try egress.text("out.1-of-2.jsonl") == whole)
      #expect(!exists("out.1-of-2.jsonl.partial"))
    }
    // What another command left half done is not gone on with.
    try FileManager.default.removeItem(atPath: egress.path("out.1-of-2.jsonl"))
    let half = String(whole.prefix(whole.count / 2))
    try egress.folder.write("out.1-of-2.jsonl.partial", half)
    expectRefusal(
      try summarize("--shard", "1/2", "--stop", "x"), status: 65, saying: "with other options")
    #expect(try egress.text("out.1-of-2.jsonl.partial") == half)
    try egress.folder.write("out.1-of-2.jsonl.partial", "mine\n")
    expectRefusal(try summarize("--shard", "1/2"), status: 65, saying: "choose another --output")
    #expect(try egress.text("out.1-of-2.jsonl.partial") == "mine\n")
  }

  @Test func `SIGTERM ends a shard within seconds, and the same command goes on`() throws {
    try writeDocuments(count: 600)
    #expect(try summarize(output: "whole.jsonl").status == 0)
    let result = try egress.run(
      [
        "summarize", "--model", model, "--raw", "--context", "128", "--max-tokens", "6", "--input",
        egress.path("docs.jsonl"), "--output", egress.path("out.jsonl"), "--shard", "1/1", "--threads", "1",
      ]
    ) { process in
      for _ in 0..<20_000 {
        let found = (try? egress.text("out.1-of-1.jsonl.partial")) ?? ""
        if found.split(separator: "\n").count > 2 { break }
        usleep(2_000)
      }
      process.terminate()
    }
    #expect(result.status == 143, "\(result.errors)")
    #expect(!exists("out.1-of-1.jsonl"))
    #expect(try egress.text("out.1-of-1.jsonl.partial").hasSuffix("\n"))
    let rest = try summarize("--shard", "1/1")
    #expect(rest.status == 0 && rest.errors.contains("of 600 results already"), "\(rest.errors)")
    #expect(try merge(["out.1-of-1.jsonl"]).status == 0)
    #expect(try egress.text("out.jsonl") == egress.text("whole.jsonl"))
  }

  @Test func `a scheduler says which shard it is`() throws {
    try writeDocuments(count: 8)
    for task in 0..<2 {
      let result = try summarize(
        "--shard", "auto",
        environment: [
          "SLURM_ARRAY_TASK_ID": "\(task)", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "0",
        ])
      #expect(result.status == 0, "\(result.errors)")
    }
    #expect(try merge(names(2)).status == 0)
    for index in 0..<3 {
      let result = try summarize(
        "--shard", "auto", "--shards", "3", output: "k8s.jsonl",
        environment: ["JOB_COMPLETION_INDEX": "\(index)"])
      #expect(result.status == 0, "\(result.errors)")
    }
    #expect(try merge(names(3, "k8s")).status == 0)
    #expect(try egress.text("k8s.jsonl") == egress.text("out.jsonl"))
    expectRefusal(try summarize("--shard", "auto"), status: 64, saying: "neither SLURM_ARRAY_TASK_ID")
    expectRefusal(try summarize("--shard", "3/2"), status: 64, saying: "a shard is k/n")
    expectRefusal(try summarize("--shard", "1/2", "--shards", "2"), status: 64, saying: "--shard auto")
  }

  @Test func `what may work later has another status than what never will`() throws {
    try egress.folder.write("docs.jsonl", "not json\n")
    expectRefusal(try summarize("--shard", "1/2"), status: 65, saying: "line 1: it is not JSON")
    try writeDocuments()
    let result = try summarize("--shard", "1/2", output: "no/such/folder/out.jsonl")
    expectRefusal(result, status: 75, saying: "cannot write to")
    let held = open(egress.path("out.1-of-2.jsonl.partial"), O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
    try #require(held >= 0 && flock(held, LOCK_EX) == 0)
    defer { close(held) }
    expectRefusal(try summarize("--shard", "1/2"), status: 75, saying: "another egress is writing to")
  }

  // MARK: Calibration

  private func calibrate(_ options: String..., output: String) throws -> CommandRunner.Result {
    try egress.run(
      [
        "calibrate", "--model", model, "--data", egress.path("docs.jsonl"), "--max-tokens", "6",
        "--exit-layers",
        "1",
        "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99", "--output", egress.path(output),
      ] + options)
  }

  private var prices: [String] { ["--prices", egress.path("prices.json")] }

  private func mergePriced(_ shards: [String], _ options: String...) throws -> CommandRunner.Result {
    try egress.run(["merge"] + shards.map(egress.path) + prices + options)
  }

  private func bench(_ options: String...) throws -> CommandRunner.Result {
    try egress.run(["bench", "--model", model, "--prices", egress.path("prices.json")] + options)
  }

  private static let made = [
    "docs.runs.jsonl", "docs.losses.jsonl", "docs.certificate.json", "docs.guard.safetensors",
  ]

  /// Files that a calibration leaves in a folder.
  private func files(_ folder: String) throws -> [Data] {
    try Self.made.map { try Data(contentsOf: URL(fileURLWithPath: egress.path("\(folder)/\($0)"))) }
  }

  @Test(arguments: [1, 2, 3, 7]) func `shards of a calibration are the calibration`(count: Int) throws {
    try writeDocuments(count: 32)
    #expect(try bench().status == 0)
    for folder in ["one", "many", "elsewhere"] {
      try FileManager.default.createDirectory(atPath: egress.path(folder), withIntermediateDirectories: true)
    }
    let single = try calibrate(
      "--guard-documents", "16", "--prices", egress.path("prices.json"), output: "one/docs")
    #expect(single.status == 0, "\(single.errors)")
    for index in 1...count {
      let result = try calibrate(
        "--guard-documents", "16", "--shard", "\(index)/\(count)", output: "many/docs")
      #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    }
    let done = try calibrate("--guard-documents", "16", "--shard", "1/\(count)", output: "many/docs")
    #expect(done.status == 0 && done.errors.contains("is done"), "\(done.errors)")
    let shards = names(count, "many/docs", "runs.jsonl")
    #expect(shards.allSatisfy(exists) && !exists("many/docs.certificate.json"))
    // Whatever machine decoded them, and without the model.
    try FileManager.default.moveItem(atPath: model, toPath: model + ".away")
    let merged = try mergePriced(shards)
    #expect(merged.status == 0, "\(merged.errors)")
    func withoutPath(_ text: String) -> [Substring] {
      text.split(separator: "\n").filter { !$0.hasPrefix("certificate") }
    }
    #expect(withoutPath(merged.text) == withoutPath(single.text))
    let expected = try files("one")
    #expect(try files("many") == expected)
    #expect(try mergePriced(shards, "--output", egress.path("elsewhere/docs")).status == 0)
    #expect(try files("elsewhere") == expected)
    // The merged runs are those of one machine: more can be asked of them.
    try FileManager.default.moveItem(atPath: model + ".away", toPath: model)
    let asked = try calibrate(
      "--guard-documents", "16", "--metric", "token-f1", "--certificate", egress.path("f1.json"),
      output: "many/docs"
    )
    #expect(asked.status == 0 && asked.errors.contains("16 of 16"), "\(asked.errors)")
  }

  @Test func `a merge has the statuses of a calibration, and a shard has not`() throws {
    try writeDocuments(count: 6)
    #expect(try bench().status == 0)
    func run(_ shard: Int) throws -> CommandRunner.Result {
      try egress.run([
        "calibrate", "--model", model, "--data", egress.path("docs.jsonl"), "--max-tokens", "6", "--epsilon",
        "0.0001",
        "--rule", "empirical", "--risk", "consistency", "--output", egress.path("docs"), "--shard",
        "\(shard)/2",
      ])
    }
    for shard in 1...2 {
      let result = try run(shard)
      #expect(result.status == 0, "\(result.errors)")
    }
    let merged = try mergePriced(names(2, "docs", "runs.jsonl"))
    #expect(merged.status == 3, "\(merged.status) \(merged.errors)")
    #expect(exists("docs.certificate.json"))
  }

  @Test func `drafts are sharded as exits are`() throws {
    let draft = try egress.writeModel("draft.gguf")
    try writeDocuments(count: 8)
    let prices = try bench("--draft", draft)
    #expect(prices.status == 0 && prices.text.contains("at full depth takes"), "\(prices.errors)")
    func run(_ output: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", model, "--draft", draft, "--data", egress.path("docs.jsonl"),
          "--max-tokens", "6",
          "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.99", "--output",
          egress.path(output),
        ] + options)
    }
    let single = try run("one", "--prices", egress.path("prices.json"))
    #expect([0, 3].contains(single.status), "\(single.errors)")
    for index in 1...2 { #expect(try run("docs", "--shard", "\(index)/2").status == 0) }
    #expect(try mergePriced(names(2, "docs", "runs.jsonl")).status == single.status)
    for suffix in ["runs.jsonl", "losses.jsonl", "certificate.json"] {
      #expect(try egress.text("docs." + suffix) == egress.text("one." + suffix))
    }
  }

  @Test func `guards of drafts go through shards`() throws {
    try writeDocuments(count: 32)
    let way = ["--draft", try egress.writeModel("draft.gguf")]
    let priced = try egress.run(
      ["bench", "--model", model, "--prices", egress.path("prices.json")] + way)
    #expect(priced.status == 0, "\(priced.errors)")
    for folder in ["one", "many"] {
      try FileManager.default.createDirectory(atPath: egress.path(folder), withIntermediateDirectories: true)
    }
    func run(_ output: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", model, "--data", egress.path("docs.jsonl"), "--max-tokens", "6", "--risk",
          "consistency", "--rule", "empirical", "--epsilon", "0.99", "--output", egress.path(output),
          "--guard-documents", "16",
        ] + way + options)
    }
    let single = try run("one/docs", "--prices", egress.path("prices.json"))
    #expect([0, 3].contains(single.status), "\(single.errors)")
    for index in 1...3 {
      let result = try run("many/docs", "--shard", "\(index)/3")
      #expect(result.status == 0, "\(result.errors)")
    }
    let merged = try mergePriced(names(3, "many/docs", "runs.jsonl"))
    #expect(merged.status == single.status, "\(merged.errors)")
    #expect(try files("many") == files("one"))
    let certificate = try egress.text("many/docs.certificate.json")
    #expect(certificate.contains("docs.guard.safetensors") && certificate.contains("tripwire"))
  }
}
