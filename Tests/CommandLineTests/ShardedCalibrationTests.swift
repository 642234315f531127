import Foundation
import TestSupport
import Testing

/// Shards of calibrations of prompts, of drafts and of answers, and of an adaptation.
@Suite struct ShardedCalibrationTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
    for folder in ["one", "many"] {
      try FileManager.default.createDirectory(atPath: egress.path(folder), withIntermediateDirectories: true)
    }
  }

  private func bytes(_ name: String) throws -> Data {
    try Data(contentsOf: URL(fileURLWithPath: egress.path(name)))
  }

  private func names(_ stem: String, _ count: Int, _ suffix: String) -> [String] {
    (1...count).map { "\(stem).\($0)-of-\(count).\(suffix).jsonl" }
  }

  private func merge(_ shards: [String], _ options: String...) throws -> CommandRunner.Result {
    try egress.run(["merge"] + shards.map(egress.path) + options)
  }

  /// Leaves half of a shard, as a kill in the middle of a line does.
  private func cut(_ shard: String) throws {
    let whole = try bytes(shard)
    try FileManager.default.removeItem(atPath: egress.path(shard))
    try egress.folder.write(shard + ".partial", Array(whole.prefix(whole.count * 2 / 3)))
  }

  /// Runs a command whole and in shards, merges these without the model, and compares the files that both leave.
  ///
  /// - Parameters:
  ///   - prices: What the whole and the merge price by.
  ///   - candidates: What stands in the names of shards' files, one for each policy that is compared.
  /// - Returns: The status that both have.
  @discardableResult
  private func expectSame(
    _ command: [String], prices: [String] = [], count: Int, suffix: String, candidates: [String] = [""],
    files: [String], sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> Int32 {
    let single = try egress.run(command + prices + ["--output", egress.path("one/docs")])
    #expect([0, 2, 3].contains(single.status), "\(single.errors)", sourceLocation: sourceLocation)
    let shards = candidates.flatMap { names("many/docs\($0)", count, suffix) }
    func run(_ index: Int) throws -> CommandRunner.Result {
      try egress.run(command + ["--output", egress.path("many/docs"), "--shard", "\(index)/\(count)"])
    }
    for index in 1...count {
      let result = try run(index)
      #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)", sourceLocation: sourceLocation)
    }
    let last = try bytes(shards[shards.count - 1])
    try cut(shards[0])
    #expect(try merge(shards).status == 75, sourceLocation: sourceLocation)
    #expect(try run(1).status == 0, sourceLocation: sourceLocation)
    if shards.count > 1 {
      #expect(try bytes(shards[shards.count - 1]) == last, sourceLocation: sourceLocation)
    }
    let done = try run(1)
    #expect(
      done.status == 0 && done.errors.contains("is done"), "\(done.errors)", sourceLocation: sourceLocation)
    try FileManager.default.moveItem(atPath: model, toPath: model + ".away")
    let merged = try egress.run(["merge"] + shards.reversed().map(egress.path) + prices)
    try FileManager.default.moveItem(atPath: model + ".away", toPath: model)
    #expect(merged.status == single.status, "\(merged.errors)", sourceLocation: sourceLocation)
    func withoutPath(_ text: String) -> [Substring] {
      text.split(separator: "\n").filter { !$0.hasPrefix("certificate") }
    }
    #expect(withoutPath(merged.text) == withoutPath(single.text), sourceLocation: sourceLocation)
    for file in files {
      #expect(
        try bytes("many/docs.\(file)") == bytes("one/docs.\(file)"), "\(file)", sourceLocation: sourceLocation
      )
    }
    return single.status
  }

  // MARK: Prompts

  private func writeDocuments(_ count: Int) throws -> String {
    let lines = (0..<count).map { index in
      let words = (0..<7).map { "\((index * 7919 + $0 * 104_729) % 9973)" }.joined(separator: " ")
      return #"{"id": "d\#(index)", "document": "\#(words)", "references": ["some words \#(index)"]}"#
    }
    return try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
  }

  private func bench(_ options: String...) throws -> CommandRunner.Result {
    try egress.run(["bench", "--model", model, "--prices", egress.path("prices.json")] + options)
  }

  private func prompts(_ data: String) -> [String] {
    [
      "calibrate", "--model", model, "--data", data, "--prompt-depth", "--grid", "1", "--max-tokens", "6",
      "--risk",
      "consistency", "--rule", "empirical", "--epsilon", "0.99", "--guard-documents", "16",
    ]
  }

  private var prices: [String] { ["--prices", egress.path("prices.json")] }

  @Test(arguments: [1, 2, 3, 7]) func `shards of a calibration of prompts are the calibration`(count: Int)
    throws
  {
    let data = try writeDocuments(32)
    let priced = try bench("--prompt-depth")
    #expect(priced.status == 0 && priced.text.contains("at full depth takes"), "\(priced.errors)")
    #expect(try egress.text("prices.json").contains("prompt_propagated_layer"))
    let status = try expectSame(
      prompts(data), prices: prices, count: count, suffix: "runs",
      files: ["runs.jsonl", "losses.jsonl", "certificate.json", "guard.safetensors"])
    #expect(status == 0)
  }

  @Test(arguments: [1, 2, 3, 7]) func `shards of exits after prompts that stop are the calibration`(
    count: Int
  )
    throws
  {
    let data = try writeDocuments(32)
    let priced = try bench("--prompt-depth")
    #expect(priced.status == 0, "\(priced.errors)")
    let command = [
      "calibrate", "--model", model, "--data", data, "--prompt-depth", "2,1", "--exit-layers", "1", "--grid",
      "0.3,0.01,0", "--max-tokens", "6", "--risk", "consistency", "--bound", "hoeffding", "--epsilon", "0.9",
      "--delta", "0.4", "--guard-documents", "16",
    ]
    let candidates = [".prompt-depth-2", ".prompt-depth-1"]
    try expectSame(
      command, prices: prices, count: count, suffix: "runs", candidates: candidates,
      files: candidates.flatMap { ["\($0.dropFirst()).runs.jsonl", "\($0.dropFirst()).losses.jsonl"] } + [
        "certificate.json", "guard.safetensors",
      ])
    let half = try merge(
      names("many/docs.prompt-depth-1", count, "runs"), "--prices", egress.path("prices.json"))
    #expect(
      half.status == 75 && half.errors.contains("the shards of prompts to layer 2 are missing"),
      "\(half.errors)")
  }

  @Test func `prices are of what is calibrated`() throws {
    let data = try writeDocuments(32)
    #expect(try bench().status == 0)
    expectRefusal(
      try egress.run(prompts(data) + prices), status: 1,
      saying: "has the prices of something else than prompts")
    let exits = [
      "calibrate", "--model", model, "--data", data, "--exit-layers", "1", "--epsilon", "0.5", "--rule",
      "empirical", "--max-tokens", "6", "--risk", "consistency",
    ]
    expectRefusal(
      try egress.run(exits + ["--prompt-depth", "1"] + prices), status: 1,
      saying: "has the prices of something else than exits after prompts that stop")
    // With the prompt's depth, prices are those of exits as well.
    #expect(try bench("--prompt-depth").status == 0)
    let repriced = try egress.run(exits + prices)
    #expect([0, 3].contains(repriced.status), "\(repriced.errors)")
    let draft = try egress.writeModel("draft.gguf")
    #expect(try bench("--draft", draft).status == 0)
    expectRefusal(
      try egress.run(exits + prices + ["--output", egress.path("one/docs")]), status: 1,
      saying: "has the prices of something else than exits")
    expectRefusal(
      try egress.run(["bench", "--model", model, "--prompt-depth"]), status: 64,
      saying: "--prompt-depth has no effect without --prices")
    let drafts = [
      "calibrate", "--model", model, "--draft", draft, "--data", data, "--epsilon", "0.5", "--rule",
      "empirical", "--max-tokens", "6", "--risk", "consistency", "--output", egress.path("many/docs"),
    ]
    expectRefusal(
      try egress.run(drafts + ["--prompt-depth", "1"] + prices), status: 1,
      saying: "has the prices of something else than drafts after prompts that stop")
    #expect(try bench("--draft", draft, "--prompt-depth").status == 0)
    let drafted = try egress.run(drafts + prices)
    #expect([0, 3].contains(drafted.status), "\(drafted.errors)")
  }

  @Test func `what prices of shards are not of is said`() throws {
    let data = try writeDocuments(32)
    let output = ["--output", egress.path("many/docs")]
    let shards = names("many/docs", 2, "runs")
    for index in 1...2 {
      #expect(try egress.run(prompts(data) + output + ["--shard", "\(index)/2"]).status == 0)
    }
    expectRefusal(
      try egress.run(prompts(data) + output + prices + ["--shard", "1/2"]), status: 64,
      saying: "--prices has no effect with --shard: shards count, and egress merge prices them")
    expectRefusal(
      try merge(shards), status: 64, saying: "shards of a calibration need --prices")
    func expectRefused(_ words: String) throws {
      expectRefusal(
        try egress.run(["merge"] + shards.map(egress.path) + prices), status: 65, saying: words)
    }
    try expectRefused("cannot read the prices")
    #expect(try bench().status == 0)
    try expectRefused("has the prices of something else than prompts")
    #expect(try bench("--prompt-depth", "--compute", "float32").status == 0)
    try expectRefused("has the prices of another --compute")
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("another")) }
    let priced = try egress.run(["bench", "--model", other, "--prompt-depth"] + prices)
    #expect(priced.status == 0, "\(priced.errors)")
    try expectRefused("has the prices of another model")
    #expect(try bench("--prompt-depth").status == 0)
    let whole = try egress.text("prices.json")
    try egress.folder.write("prices.json", String(whole.prefix(whole.count / 2)))
    try expectRefused("has no prices that egress bench --prices wrote")
    // None of that has left anything.
    for file in ["runs.jsonl", "losses.jsonl", "certificate.json"] {
      #expect(!FileManager.default.fileExists(atPath: egress.path("many/docs.\(file)")))
    }
    try egress.folder.write("prices.json", whole)
    let merged = try egress.run(["merge"] + shards.map(egress.path) + prices)
    #expect(merged.status == 0, "\(merged.errors)")
    // The same shards by other prices.
    let layer = try #require(whole.range(of: "\"prompt_layer\" : "))
    try egress.folder.write("prices.json", whole.replacingCharacters(in: layer, with: "\"prompt_layer\" : 1"))
    try expectRefused("is there already and holds something else")
    let again = try egress.run(
      ["merge"] + shards.map(egress.path) + prices + ["--output", egress.path("one/docs")])
    #expect(again.status == 0, "\(again.errors)")
    func lines(_ path: String) throws -> [Substring] { try egress.text(path).split(separator: "\n") }
    #expect(try lines("one/docs.runs.jsonl").dropFirst() == lines("many/docs.runs.jsonl").dropFirst())
    #expect(try bytes("one/docs.losses.jsonl") != bytes("many/docs.losses.jsonl"))
  }

  // MARK: Drafts

  @Test(arguments: [1, 2, 3, 7]) func `shards of a calibration choose among values of --fallback`(count: Int)
    throws
  {
    let data = try writeDocuments(32)
    let draft = try egress.writeModel("draft.gguf")
    #expect(try bench("--draft", draft).status == 0)
    let command = [
      "calibrate", "--model", model, "--draft", draft, "--data", data, "--fallback", "0.001,0.6",
      "--max-tokens",
      "6", "--risk", "consistency", "--rule", "ucb", "--bound", "hoeffding", "--epsilon", "0.9", "--delta",
      "0.4",
      "--guard-documents", "16",
    ]
    let candidates = [".fallback-0.001", ".fallback-0.6"]
    let kinds = ["runs.jsonl", "losses.jsonl"]
    try expectSame(
      command, prices: prices, count: count, suffix: "runs", candidates: candidates,
      files: candidates.flatMap { way in kinds.map { "\(way.dropFirst()).\($0)" } } + [
        "certificate.json", "guard.safetensors",
      ])
    // The values differ in what is drafted.
    func lines(_ candidate: String) throws -> [Substring] {
      try egress.text("one/docs\(candidate).runs.jsonl").split(separator: "\n").dropFirst().map(\.self)
    }
    #expect(try lines(candidates[0]) != lines(candidates[1]))
    // By a pattern, as it is given where there is one value; and not without one of the values.
    let pattern = try egress.run(
      ["merge", egress.path("many/docs.*-of-\(count).runs.jsonl"), "--output", egress.path("docs")] + prices)
    #expect([0, 2, 3].contains(pattern.status), "\(pattern.errors)")
    #expect(try bytes("docs.certificate.json") == bytes("one/docs.certificate.json"))
    let some = names("many/docs.fallback-0.001", count, "runs")
    let half = try egress.run(["merge"] + some.map(egress.path) + prices)
    #expect(
      half.status == 75 && half.errors.contains("the shards of fallback 0.6 are missing"), "\(half.errors)")
    guard count > 1 else { return }
    let all = some + names("many/docs.fallback-0.6", count, "runs").dropLast()
    let cut = try egress.run(["merge"] + all.map(egress.path) + prices)
    #expect(
      cut.status == 75 && cut.errors.contains("of \(count) shards of fallback 0.6 this is missing: \(count)"),
      "\(cut.errors)")
  }

  @Test(arguments: [1, 3]) func `shards of drafts after prompts that stop are the calibration`(count: Int)
    throws
  {
    let data = try writeDocuments(32)
    let draft = try egress.writeModel("draft.gguf")
    let priced = try bench("--draft", draft, "--prompt-depth")
    #expect(priced.status == 0 && priced.text.contains("at full depth takes"), "\(priced.errors)")
    let command = [
      "calibrate", "--model", model, "--draft", draft, "--data", data, "--fallback", "0.001,0.6",
      "--prompt-depth", "2,1", "--grid", "1,5,20", "--max-tokens", "6", "--risk", "consistency", "--bound",
      "hoeffding", "--epsilon", "0.9", "--delta", "0.4", "--guard-documents", "16",
    ]
    let candidates = ["0.001", "0.6"].flatMap { fallback in
      [2, 1].map { ".fallback-\(fallback).prompt-depth-\($0)" }
    }
    try expectSame(
      command, prices: prices, count: count, suffix: "runs", candidates: candidates,
      files: candidates.flatMap { ["\($0.dropFirst()).runs.jsonl", "\($0.dropFirst()).losses.jsonl"] } + [
        "certificate.json", "guard.safetensors",
      ])
    #expect(try egress.text("many/docs.certificate.json").contains("\"policies_compared\" : 4"))
    let half = try merge(
      names("many/docs.fallback-0.6.prompt-depth-1", count, "runs"), "--prices", egress.path("prices.json"))
    #expect(
      half.status == 75
        && half.errors.contains("the shards of fallback 0.001, prompts to layer 2 are missing"),
      "\(half.errors)")
  }

  // MARK: Answers

  /// Questions, some about one document, of which the model answers three quarters as the references have it.
  private func writeQuestions(_ count: Int) throws -> String {
    func line(_ index: Int, _ references: [String]? = nil) throws -> String {
      var fields: [String: Any] = [
        "id": index, "document": "text \(index / 3 * 7919)", "question": "what \(index)?",
      ]
      fields["references"] = references
      return String(decoding: try JSONSerialization.data(withJSONObject: fields), as: UTF8.self) + "\n"
    }
    let plain = try egress.folder.write("plain.jsonl", try (0..<count).map { try line($0) }.joined())
    let run = try egress.run([
      "answer", "--model", model, "--max-tokens", "6", "--input", plain, "--output", egress.path("plain.out"),
    ])
    #expect(run.status == 0, "\(run.errors)")
    let lines = try egress.text("plain.out").split(separator: "\n").enumerated().map { index, result in
      let json = try JSONSerialization.jsonObject(with: Data(result.utf8)) as? [String: Any]
      let text = (json?["text"] as? String ?? "").trimmingCharacters(in: .whitespacesAndNewlines)
      return try line(index, [index % 4 == 3 || text.isEmpty ? "some other words" : text])
    }
    return try egress.folder.write("docs.jsonl", lines.joined())
  }

  private func answers(_ data: String, _ options: [String]) -> [String] {
    [
      "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--risk", "selective", "--metric",
      "exact-match", "--epsilon", "0.5",
    ] + options
  }

  private static let made = ["answers.jsonl", "certificate.json"]

  @Test(arguments: [1, 2, 3, 7]) func `shards of a calibration of answers are the calibration`(count: Int)
    throws
  {
    let status = try expectSame(
      answers(try writeQuestions(64), ["--guard-documents", "16"]), count: count, suffix: "answers",
      files: Self.made + ["guard.safetensors"])
    #expect(status == 0)
  }

  @Test(arguments: ["exits", "draft"]) func `answers that come about in several ways are sharded`(way: String)
    throws
  {
    let draft = way == "draft" ? try egress.writeModel("draft.gguf") : ""
    let options =
      way == "draft" ? ["--grid", "0,2,20", "--draft", draft] : ["--grid", "0,0.5,1", "--exit-layers", "1"]
    try expectSame(
      answers(try writeQuestions(40), ["--no-guard"] + options), count: 3, suffix: "answers", files: Self.made
    )
    #expect(try egress.text("many/docs.answers.jsonl").contains("\"layers\":"))
  }

  @Test func `shards of answers that do not go together are refused`() throws {
    let data = try writeQuestions(20)
    func run(_ shard: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        answers(data, ["--no-guard", "--output", egress.path("many/docs"), "--shard", shard]) + options)
    }
    #expect(try run("1/2").status == 0)
    expectRefusal(
      try run("2/2", "--prices", egress.path("p.json")), status: 64,
      saying: "--prices has no effect with --risk selective")
    #expect(try run("2/2", "--metric", "token-f1").status == 0)
    let shards = names("many/docs", 2, "answers")
    expectRefusal(try merge(shards), status: 65, saying: "it is of other options")
    expectRefusal(try run("2/2"), status: 65, saying: "is a shard of other options")
    try FileManager.default.removeItem(atPath: egress.path(shards[1]))
    #expect(try run("2/2").status == 0)
    expectRefusal(
      try merge(shards, "--prices", "p.json"), status: 64,
      saying: "--prices has no effect with --risk selective")
    // Nothing is certified of so few: that is the merge's to say.
    let merged = try merge(shards)
    #expect([0, 2].contains(merged.status), "\(merged.errors)")
    let line = try egress.text(shards[1]).replacingOccurrences(of: "\"confidence\"", with: "\"x\"")
    try egress.folder.write(shards[1], line)
    expectRefusal(try merge(shards), status: 65, saying: "is damaged")
  }

  // MARK: An adaptation

  /// A model with layers to leave before the last, in a folder of its own.
  private func adapt(_ folder: String, _ data: String, _ options: String...) throws -> CommandRunner.Result {
    try egress.run(
      [
        "adapt", egress.path("\(folder)/tiny.gguf"), "--data", data, "--max-tokens", "8", "--risk",
        "consistency",
        "--epsilon", "0.6",
      ] + options)
  }

  private func writeDeepModel(_ folder: String) throws {
    var decoder = TinyDecoder()
    decoder.layerCount = 6
    var builder = decoder.gguf()
    builder.set("tokenizer.chat_template", .string(CommandRunner.chatTemplate))
    try egress.folder.write("\(folder)/tiny.gguf", builder.build())
  }

  @Test(arguments: [1, 3]) func `machines share the thresholds of an adaptation`(count: Int) throws {
    // One document is too long for the model, and belongs to no shard.
    var text = try String(contentsOfFile: writeDocuments(70), encoding: .utf8)
    let long = (0..<3000).map { "\($0)" }.joined(separator: " ")
    text += #"{"id": "long", "document": "\#(long)", "references": ["x"]}"# + "\n"
    let data = try egress.folder.write("docs.jsonl", text)
    try writeDeepModel("one")
    let early = try adapt("one", data, "--shard", "1/\(count)")
    #expect(early.status == 75 && early.output.isEmpty)
    #expect(
      early.errors.contains("is not there: prepare the folder on one machine, with adapt --prepare"),
      "\(early.errors)")
    let prepared = try adapt("one", data, "--prepare")
    #expect(prepared.status == 0 && prepared.errors.contains("is prepared"), "\(prepared.errors)")
    #expect(!FileManager.default.fileExists(atPath: egress.path("one/tiny.gguf.egress/adaptation.json")))
    try FileManager.default.removeItem(atPath: egress.path("many"))
    try FileManager.default.copyItem(atPath: egress.path("one"), toPath: egress.path("many"))

    let single = try adapt("one", data)
    #expect([0, 3].contains(single.status), "\(single.errors)")
    for index in Array(1...count) + [1] {
      let result = try adapt("many", data, "--shard", "\(index)/\(count)")
      #expect(result.status == 0 && result.output.isEmpty, "\(result.errors)")
    }
    #expect(try adapt("many", data, "--shard", "1/\(count)", "--threads", "1").errors.contains("is done"))
    let ways = ["exits", "prompts"].filter {
      FileManager.default.fileExists(atPath: egress.path("one/tiny.gguf.egress/\($0).runs.jsonl"))
    }
    #expect(ways.contains("prompts"))
    for way in ways {
      let shards = names("many/tiny.gguf.egress/\(way)", count, "runs")
      try cut(shards[0])
      #expect(try merge(shards).status == 75)
      #expect(try adapt("many", data, "--shard", "1/\(count)").status == 0)
      let merged = try merge(shards)
      #expect(merged.status == 0 && merged.errors.contains("has 49 documents"), "\(merged.errors)")
      expectRefusal(
        try merge(shards, "--prices", "p.json"), status: 64, saying: "--prices is for shards of a calibration"
      )
    }
    let whole = try adapt("many", data)
    #expect([0, 3].contains(whole.status), "\(whole.errors)")
    for way in ways {
      for file in ["runs.jsonl", "losses.jsonl", "certificate.json", "guard.safetensors"] {
        let (own, other) = ("one/tiny.gguf.egress/\(way).\(file)", "many/tiny.gguf.egress/\(way).\(file)")
        let isThere = FileManager.default.fileExists(atPath: egress.path(own))
        #expect(FileManager.default.fileExists(atPath: egress.path(other)) == isThere, "\(way).\(file)")
        if isThere { #expect(try bytes(own) == bytes(other), "\(way).\(file)") }
      }
    }
    expectRefusal(
      try adapt("many", data, "--prepare", "--shard", "1/2"), status: 64,
      saying: "either --prepare or --shard")
  }
}
