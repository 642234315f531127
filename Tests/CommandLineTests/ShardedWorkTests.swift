import Foundation
import TestSupport
import Testing

/// Shards of evaluations, of the outputs that exits are fitted on, and of hidden states.
@Suite struct ShardedWorkTests {
  let egress: CommandRunner
  let model: String
  let data: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
    let lines = (0..<20).map { index in
      let words = (0..<6).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
      return #"{"id": "d\#(index)", "document": "\#(words)", "references": ["some words \#(index)"]}"#
    }
    data = try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
  }

  private func exists(_ name: String) -> Bool { FileManager.default.fileExists(atPath: egress.path(name)) }

  private func bytes(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: egress.path(name)))
  }

  private func names(_ stem: String, _ count: Int, _ suffix: String = "jsonl") -> [String] {
    (1...count).map { "\(stem).\($0)-of-\(count).\(suffix)" }
  }

  private func merge(_ shards: [String], _ options: String...) throws -> CommandRunner.Result {
    try egress.run(["merge"] + shards.map(egress.path) + options)
  }

  /// Runs all shards of a command; the first one twice, the second time at no cost.
  private func runShards(_ command: [String], count: Int) throws {
    for index in Array(1...count) + [1] {
      let result = try egress.run(command + ["--shard", "\(index)/\(count)"])
      #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    }
    let again = try egress.run(command + ["--shard", "1/\(count)", "--threads", "1"])
    #expect(again.status == 0 && again.errors.contains("is done"), "\(again.errors)")
  }

  /// Leaves half of a shard, as a kill in the middle of a line does.
  private func cut(_ shard: String) throws {
    let whole = try bytes(shard)
    try FileManager.default.removeItem(atPath: egress.path(shard))
    try egress.folder.write(shard + ".partial", Array(whole.prefix(whole.count * 2 / 3)))
  }

  // MARK: Evaluations

  private func evaluate(_ options: String...) -> [String] {
    [
      "evaluate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-threshold", "0",
      "--exit-layers", "1", "--skip", "1", "--limit", "17",
    ] + options
  }

  /// A result without what is measured in seconds.
  private func timeless(_ result: CommandRunner.Result) throws -> NSDictionary {
    var json = try result.json()
    for key in json.keys where key.hasSuffix("time_ratio") { json[key] = nil }
    for way in ["full", "exits"] {
      var part = try #require(json[way] as? [String: Any])
      for key in ["milliseconds_per_token", "samples_per_second", "breakdown"] {
        #expect(part.removeValue(forKey: key) != nil)
      }
      if var drafts = part["speculation"] as? [String: Any] {
        for key in drafts.keys where key.hasSuffix("seconds") { drafts[key] = nil }
        part["speculation"] = drafts
      }
      json[way] = part
    }
    return json as NSDictionary
  }

  @Test(arguments: [1, 2, 3, 7]) func `shards of an evaluation are the evaluation`(count: Int) throws {
    let single = try egress.run(evaluate("--format", "json"))
    #expect(single.status == 0, "\(single.errors)")
    try runShards(evaluate(), count: count)
    let shards = names("docs.evaluation", count)
    // It is printed without the model.
    try FileManager.default.moveItem(atPath: model, toPath: model + ".away")
    let merged = try merge(shards.reversed(), "--format", "json")
    #expect(merged.status == 0, "\(merged.errors)")
    #expect(try timeless(merged) == timeless(single))
    #expect(try merged.json()["documents"] as? Int == 17)
    let full = try #require(try merged.json()["full"] as? [String: Any])
    #expect(full["milliseconds_per_token"] as? Double ?? 0 > 0)
    #expect(try merge(shards).text.contains("17, rouge-l, performance gap"))
    // Times are sums of the shards': told twice, they are the same.
    #expect(try merge(shards, "--format", "json").output == merged.output)
  }

  @Test(arguments: ["brier", "hellinger"])
  func `distances go through shards`(metric: String) throws {
    let command = evaluate("--metric", metric, "--output", egress.path("far.jsonl"))
    let single = try egress.run(Array(command.dropLast(2)) + ["--format", "json"])
    #expect(single.status == 0, "\(single.errors)")
    for index in 1...2 {
      let result = try egress.run(command + ["--shard", "\(index)/2"])
      #expect(result.status == 0, "\(result.errors)")
    }
    let merged = try merge(names("far", 2), "--format", "json")
    #expect(try timeless(merged) == timeless(single), "\(merged.errors)")
    #expect(try merged.json()["brier"] as? Double ?? 0 > 0)
  }

  @Test func `drafts are counted over shards`() throws {
    let command = [
      "evaluate", "--model", model, "--drafter", "prompt-lookup", "--data", data, "--max-tokens", "6",
    ]
    let single = try egress.run(command + ["--format", "json"])
    #expect(single.status == 0, "\(single.errors)")
    for index in 1...3 {
      let result = try egress.run(command + ["--shard", "\(index)/3"])
      #expect(result.status == 0, "\(result.errors)")
    }
    let merged = try merge(names("docs.evaluation", 3), "--format", "json").json()
    let (own, others) = (try single.json(), merged)
    for key in ["documents", "identical_outputs", "threshold", "test_risk"] {
      #expect(own[key] as? Double == others[key] as? Double, "\(key)")
    }
    let (a, b) = (
      try #require(own["exits"] as? [String: Any]), try #require(others["exits"] as? [String: Any])
    )
    #expect(a["tokens"] as? Int == b["tokens"] as? Int && b["speculation"] is [String: Any])
  }

  @Test func `an evaluation that was killed goes on, and other makings are refused`() throws {
    let single = try egress.run(evaluate("--format", "json"))
    try runShards(evaluate(), count: 2)
    let shards = names("docs.evaluation", 2)
    try cut(shards[0])
    #expect(try merge(shards).status == 75)
    let rest = try egress.run(evaluate("--shard", "1/2"))
    #expect(rest.status == 0 && rest.errors.contains("documents already"), "\(rest.errors)")
    #expect(try timeless(merge(shards, "--format", "json")) == timeless(single))

    try cut(shards[0])
    let other = evaluate("--metric", "token-f1", "--shard", "1/2")
    expectRefusal(try egress.run(other), status: 65, saying: "with other options")
    expectRefusal(try merge(shards, "--output", "x"), status: 75, saying: "cannot read")
    #expect(try egress.run(evaluate("--shard", "1/2")).status == 0)
    expectRefusal(try merge(shards, "--output", "x"), status: 64, saying: "an evaluation is printed")
    expectRefusal(try egress.run(evaluate("--output", "x")), status: 64, saying: "--output goes with --shard")
    expectRefusal(
      try egress.run(evaluate("--shard", "1/2", "--data", "-")), status: 64, saying: "--shard needs --data")
    let line = try egress.text(shards[1]).replacingOccurrences(of: "\"is_identical\"", with: "\"x\"")
    try egress.folder.write(shards[1], line)
    expectRefusal(try merge(shards), status: 65, saying: "is damaged")
  }

  @Test func `shards without documents are done`() throws {
    func command(_ options: String...) -> [String] { evaluate() + ["--limit", "2"] + options }
    for index in 1...7 {
      let result = try egress.run(command("--shard", "\(index)/7"))
      #expect(result.status == 0, "\(result.errors)")
    }
    let merged = try merge(names("docs.evaluation", 7), "--format", "json")
    let single = try egress.run(command("--format", "json"))
    #expect(try timeless(merged) == timeless(single), "\(merged.errors)\(single.errors)")
  }

  // MARK: Outputs to fit on

  @Test(arguments: [1, 2, 3, 7]) func `exits are fitted on the outputs of all shards`(count: Int) throws {
    func fit(_ name: String, _ options: String...) -> [String] {
      [
        "fit-exits", "--model", model, "--data", data, "--exit-layers", "1", "--max-tokens", "12", "--output",
        egress.path(name),
      ] + options
    }
    let single = try egress.run(fit("one.safetensors"))
    #expect(single.status == 0, "\(single.errors)")
    try runShards(fit("many.safetensors"), count: count)
    #expect(!exists("many.safetensors"))
    let shards = names("many.outputs", count)
    let merged = try merge(shards)
    #expect(merged.status == 0, "\(merged.errors)")
    #expect(try bytes("many.outputs.jsonl") == bytes("one.outputs.jsonl"))
    let fitted = try egress.run(fit("many.safetensors"))
    #expect(fitted.status == 0 && fitted.errors.contains("20 of 20 results already"), "\(fitted.errors)")
    #expect(try bytes("many.safetensors") == bytes("one.safetensors"))
    #expect(try bytes("many.json") == bytes("one.json"))
    // What cannot be fitted is refused before anything is decoded.
    let deep = [
      "fit-exits", "--model", model, "--data", data, "--exit-layers", "9", "--output",
      egress.path("deep.safetensors"), "--shard", "1/2",
    ]
    #expect(try egress.run(deep).status == 65)
    expectRefusal(
      try merge(shards, "--format", "json"), status: 64, saying: "--format is for shards of an evaluation")
  }

  // MARK: Hidden states

  private func states(_ folder: String, _ options: String...) -> [String] {
    [
      "export-states", "--model", model, "--data", egress.path("out.jsonl"), "--output", egress.path(folder),
      "--layers", "1,2",
    ] + options
  }

  private func writeOutputs() throws {
    let result = try egress.run([
      "summarize", "--model", model, "--raw", "--max-tokens", "6", "--input", data, "--output",
      egress.path("out.jsonl"),
    ])
    #expect(result.status == 0, "\(result.errors)")
  }

  @Test(arguments: [1, 2, 3, 7]) func `shards of hidden states are the hidden states`(count: Int) throws {
    try writeOutputs()
    #expect(try egress.run(states("one")).status == 0)
    try runShards(states("many/"), count: count)
    let shards = names("many", count)
    try FileManager.default.moveItem(atPath: model, toPath: model + ".away")
    let merged = try merge(shards)
    #expect(merged.status == 0, "\(merged.errors)")
    let file = "states-00000.safetensors"
    #expect(try FileManager.default.contentsOfDirectory(atPath: egress.path("many")) == [file])
    #expect(try bytes("many/\(file)") == bytes("one/\(file)"))
    #expect(try merge(shards, "--output", egress.path("elsewhere")).status == 0)
    #expect(try bytes("elsewhere/\(file)") == bytes("one/\(file)"))
    // Again, it is the same; something else is left as it is.
    #expect(try merge(shards).status == 0)
    try egress.folder.write("many/\(file)", "mine")
    expectRefusal(try merge(shards), status: 65, saying: "holds something else")
    #expect(try egress.text("many/\(file)") == "mine")
    #expect(try merge(shards, "--force").status == 0)
    #expect(try bytes("many/\(file)") == bytes("one/\(file)"))
  }

  @Test func `hidden states that are cut off, lost or damaged`() throws {
    try writeOutputs()
    #expect(try egress.run(states("one")).status == 0)
    try runShards(states("many"), count: 2)
    let shards = names("many", 2)
    let file = "states-00000.safetensors"
    // The list was cut off behind a whole file; then the file was never there.
    for isLost in [false, true] {
      try cut(shards[0])
      if isLost {
        try egress.folder.write(shards[0] + ".partial", "")
        try egress.folder.write("many.1-of-2/\(file)", "of another run")
      }
      #expect(try egress.run(states("many", "--shard", "1/2")).status == 0)
      #expect(try merge(shards, "--force").status == 0)
      #expect(try bytes("many/\(file)") == bytes("one/\(file)"))
    }
    let part = egress.path("many.2-of-2/\(file)")
    let whole = try bytes("many.2-of-2/\(file)")
    try FileManager.default.removeItem(atPath: part)
    expectRefusal(try merge(shards), status: 75, saying: "is not there")
    try egress.folder.write("many.2-of-2/\(file)", Array(whole.dropLast(100)))
    expectRefusal(try merge(shards), status: 65, saying: file)
    try egress.folder.write("many.2-of-2/\(file)", Array(whole))
    let line = try egress.text(shards[1]).replacingOccurrences(of: "\"row\":0,", with: "\"row\":100000,")
    try egress.folder.write(shards[1], line)
    expectRefusal(try merge(shards), status: 65, saying: "is damaged")
    // Texts of one name belong to no shard.
    try egress.folder.write("out.jsonl", try egress.text("out.jsonl") + egress.text("out.jsonl"))
    expectRefusal(
      try egress.run(states("twice", "--shard", "1/2")), status: 65, saying: "has the id \"d0\" twice")
  }

  // MARK: Questions about one document

  @Test(arguments: [[], ["--exit-threshold", "0", "--exit-layers", "1"], ["--drafter", "prompt-lookup"]])
  func `questions about one document are answered as one by one`(options: [String]) throws {
    let text = (0..<12).map { "\($0 * 7919 % 97)" }.joined(separator: " ")
    let lines = (0..<9).map {
      #"{"id": \#($0), "document": "\#(text)", "question": "\#($0) of \#($0 * 31)"}"#
    }
    let input = try egress.folder.write("asked.jsonl", lines.joined(separator: "\n") + "\n")
    func answer(_ output: String, _ more: String...) throws -> String {
      let result = try egress.run(
        [
          "answer", "--model", model, "--raw", "--max-tokens", "6", "--input", input, "--output",
          egress.path(output),
        ] + options + more)
      #expect(result.status == 0, "\(result.errors)")
      return try egress.text(output)
    }
    let alone = try answer("alone.jsonl", "--batch", "1")
    #expect(alone.split(separator: "\n").count == 9)
    #expect(try answer("together.jsonl") == alone)
    #expect(try answer("three.jsonl", "--batch", "3") == alone)
  }
}
