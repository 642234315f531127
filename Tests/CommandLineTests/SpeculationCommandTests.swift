import Foundation
import TestSupport
import Testing

@Suite struct SpeculationCommandTests {
  let egress: CommandRunner
  let large: String
  let small: String

  init() throws {
    egress = try CommandRunner()
    large = try Self.write(egress, "large.gguf") { $0.layerCount = 3 }
    small = try Self.write(egress, "small.gguf") {
      $0.layerCount = 1
      $0.seed = 7
    }
  }

  private static func write(
    _ egress: CommandRunner, _ name: String, edit: (inout GGUFBuilder) -> Void = { _ in },
    _ change: (inout TinyDecoder) -> Void
  ) throws -> String {
    var decoder = TinyDecoder()
    change(&decoder)
    var builder = decoder.gguf()
    builder.set("general.name", .string(String(name.prefix { $0 != "." })))
    builder.set("tokenizer.chat_template", .string(CommandRunner.chatTemplate))
    edit(&builder)
    return try egress.folder.write(name, builder.build())
  }

  private static let prompt = "the in the on the in the on the in"

  /// A raw prompt, unless a certificate is to apply.
  private func run(
    _ options: [String], format: String = "json", tokens: Int = 24, isRaw: Bool = true
  ) throws -> CommandRunner.Result {
    // In the model's template it is a document: what a certificate is made on.
    let common = ["--model", large, "--max-tokens", "\(tokens)", "--format", format] + options
    return isRaw
      ? try egress.run(["generate", "--raw"] + common + [Self.prompt])
      : try egress.run(["summarize"] + common, input: Self.prompt)
  }

  private func json(_ options: String...) throws -> [String: Any] {
    let result = try run(options)
    #expect(result.status == 0, "\(result.errors)")
    return try result.json()
  }

  private func statistics(_ options: String...) throws -> [String: Any] {
    let result = try run(options)
    #expect(result.status == 0, "\(result.errors)")
    return try #require(try result.json()["speculation"] as? [String: Any])
  }

  private func count(_ key: String, _ statistics: [String: Any]) throws -> Int {
    try #require(statistics[key] as? Int)
  }

  @Test func `exact drafting of every kind changes nothing in the output`() throws {
    let plain = try json()
    #expect(plain["speculation"] == nil)
    let ways = [
      ["--drafter", "prompt-lookup"], ["--drafter", "prompt-lookup", "--rollback", "0"],
      ["--drafter", "early-exit"], ["--drafter", "early-exit", "--draft-layer", "2", "--fallback", "0"],
      ["--draft", small, "--exact"], ["--draft", small, "--rollback", "0", "--fallback", "0"],
      ["--drafter", "auto"],
      ["--drafter", "auto", "--draft", small, "--draft-layer", "1", "--fallback", "0", "--exact"],
    ]
    for way in ways {
      let result = try run(way)
      #expect(result.status == 0, "\(result.errors)")
      let found = try result.json()
      #expect(found["token_ids"] as? [Int] == plain["token_ids"] as? [Int], "\(way)")
      #expect(found["text"] as? String == plain["text"] as? String)
      #expect(found["speculation"] != nil)
    }
  }

  @Test func `a document is drafted from by look-up unless something else is asked for`() throws {
    func found(_ options: [String]) throws -> [String: Any] {
      let result = try run(options, isRaw: false)
      #expect(result.status == 0, "\(result.errors)")
      return try result.json()
    }
    let (usual, plain) = (try found([]), try found(["--drafter", "none"]))
    #expect(usual["token_ids"] as? [Int] == plain["token_ids"] as? [Int])
    #expect(usual["text"] as? String == plain["text"] as? String)
    let drafts = try #require(usual["speculation"] as? [String: Any])
    let sources = try #require(drafts["tokens_by_source"] as? [String: Int])
    #expect(Set(sources.keys).isSubset(of: ["target", "lookup"]))
    #expect(plain["speculation"] == nil)
    for options in [["--full-depth"], ["--beams", "2"]] {
      #expect(try found(options)["speculation"] == nil)
    }
    let exits = ["--exit-threshold", "0.3", "--exit-layers", "1,2"]
    let leaving = try found(exits + ["--drafter", "none"])
    for (cache, drafts) in [("defer", true), ("propagate", false)] {
      let both = try found(exits + ["--exit-cache", cache])
      #expect((both["speculation"] != nil) == drafts)
      guard drafts else { continue }
      #expect(both["token_ids"] as? [Int] == leaving["token_ids"] as? [Int])
      #expect(both["average_exit_layer"] as? Double == leaving["average_exit_layer"] as? Double)
    }
    let random = ["--temperature", "2", "--seed", "4"]
    #expect(
      try found(random)["token_ids"] as? [Int] == found(random + ["--drafter", "none"])["token_ids"] as? [Int]
    )
  }

  @Test func `exact drafting gives the draws of plain decoding`() throws {
    let random = ["--temperature", "2", "--seed", "4"]
    let plain = try run(random).json()["token_ids"] as? [Int]
    #expect(try run(random + ["--draft", small, "--exact"]).json()["token_ids"] as? [Int] == plain)
    #expect(try run(random + ["--drafter", "prompt-lookup"]).json()["token_ids"] as? [Int] == plain)
    let refused = try run(random + ["--draft", small, "--rollback", "1"])
    expectRefusal(refused, status: 1, saying: "rollback must be used with greedy decoding")
  }

  @Test func `exact drafting for a model with early exits gives what its exits give alone`() throws {
    let exits = ["--exit-threshold", "0.3", "--exit-layers", "1,2"]
    let plain = try run(exits).json()
    for way in [["--draft", small, "--exact", "--fallback", "0"], ["--drafter", "prompt-lookup"]] {
      let found = try run(exits + way).json()
      #expect(found["token_ids"] as? [Int] == plain["token_ids"] as? [Int])
      #expect(found["average_exit_layer"] as? Double == plain["average_exit_layer"] as? Double)
      #expect(found["speculation"] != nil)
    }
  }

  @Test func `JSON has the documented statistics`() throws {
    let found = try statistics("--draft", small, "--fallback", "0", "--rollback", "3")
    #expect(
      Set(found.keys).subtracting(["nearest_refusal"]) == [
        "steps", "shortlist_steps", "drafted", "accepted", "substituted", "rollbacks", "drafted_by_position",
        "accepted_by_position", "tokens_by_source", "draft_seconds", "verify_seconds", "cache_seconds",
        "sampling_seconds", "bytes_read",
      ])
    let sources = try #require(found["tokens_by_source"] as? [String: Int])
    #expect(sources.values.reduce(0, +) == (try json()["token_ids"] as? [Int])?.count ?? 24)
    #expect(try sources["draft"] ?? 0 == count("accepted", found))
    let drafted = try #require(found["drafted_by_position"] as? [Int])
    let accepted = try #require(found["accepted_by_position"] as? [Int])
    #expect(try drafted.reduce(0, +) == count("drafted", found))
    #expect(zip(drafted, accepted).allSatisfy { $0 >= $1 })
  }

  @Test func `every option changes something`() throws {
    let base = ["--draft", small, "--fallback", "0", "--rollback", "inf"]
    func found(_ options: [String]) throws -> [String: Any] {
      try #require(try run(options).json()["speculation"] as? [String: Any])
    }
    let never = try found(base)
    #expect(try count("rollbacks", never) == 0 && count("substituted", never) > 0)
    let exact = try found(["--draft", small, "--fallback", "0", "--exact"])
    #expect(try count("substituted", exact) == 0)
    #expect(try count("drafted", found(["--draft", small, "--fallback", "1", "--rollback", "inf"])) == 0)
    #expect((try found(base + ["--draft-length", "2"])["drafted_by_position"] as? [Int])?.count == 2)
    #expect((try found(base)["drafted_by_position"] as? [Int])?.count == 10)
    // Two tokens less probable than BiLD's usual 0.6 are not drafted by a random model.
    #expect(try count("drafted", found(["--draft", small])) < count("drafted", never))
    // Fewer layers are fewer bytes; a threshold above 0 keeps all lengths fixed.
    let itself = ["--draft", large, "--fallback", "0", "--rollback", "0.5"]
    let leaving = try found(itself + ["--draft-exit-threshold", "0"])
    #expect(try count("bytes_read", leaving) < count("bytes_read", found(itself)))
    let early = ["--drafter", "early-exit", "--fallback", "0", "--rollback", "0.5"]
    let second = try found(early + ["--draft-layer", "2"])
    #expect(try count("bytes_read", found(early)) != count("bytes_read", second))
  }

  @Test func `a trace tells who wrote each token and what was rolled back`() throws {
    let path = egress.folder.path + "/t.jsonl"
    let found = try json("--draft", small, "--fallback", "0", "--rollback", "4", "--trace", path)
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(lines.map { $0["id"] as? Int } == (found["token_ids"] as? [Int])?.map { $0 })
    let statistics = try #require(found["speculation"] as? [String: Any])
    let sources = lines.compactMap { $0["source"] as? String }
    #expect(sources.count == lines.count && sources[0] == "target")
    let counts = try #require(statistics["tokens_by_source"] as? [String: Int])
    for (source, count) in counts { #expect(sources.count { $0 == source } == count) }
    let discarded = lines.compactMap { $0["discarded"] as? Int }.reduce(0, +)
    #expect(try discarded == count("drafted", statistics) - count("accepted", statistics))
    #expect(lines.allSatisfy { ($0["source"] as? String == "corrected") == ($0["discarded"] as? Int != 0) })

    _ = try json("--trace", path)
    #expect(try !String(contentsOfFile: path, encoding: .utf8).contains("source"))
  }

  @Test func `show-drafts adds up who wrote the text`() throws {
    let plain = try run([], format: "text")
    let shown = try run(["--drafter", "prompt-lookup", "--show-drafts"], format: "text")
    // No colours where the output is a file.
    #expect(shown.output == plain.output)
    #expect(shown.errors.contains("target") && shown.errors.contains("passes"))
  }

  @Test(arguments: [
    (["--drafter", "draft"], "--draft"), (["--drafter", "wizard"], "drafter"),
    (["--fallback", "0.5"], "--fallback"), (["--rollback", "1"], "--rollback"),
    (["--draft-length", "3"], "--draft-length"), (["--exact"], "--exact"),
    (["--draft-layer", "1"], "--draft-layer"), (["--show-drafts"], "--show-drafts"),
    (["--drafter", "prompt-lookup", "--draft", "x"], "--draft"),
    (["--drafter", "none", "--draft", "x"], "--draft"), (["--drafter", "none", "--exact"], "--exact"),
    (["--drafter", "prompt-lookup", "--fallback", "0.5"], "--fallback"),
    (["--drafter", "prompt-lookup", "--draft-layer", "1"], "--draft-layer"),
    (["--drafter", "early-exit", "--draft", "x"], "--draft"),
    (["--drafter", "early-exit", "--draft-layer", "0"], "--draft-layer"),
    (["--drafter", "auto", "--rollback", "2"], "--rollback"),
    (["--draft", "x", "--draft-layer", "1"], "--draft-layer"),
    (["--draft", "x", "--exact", "--rollback", "1"], "--exact"),
    (["--draft", "x", "--fallback", "1.1"], "0...1"), (["--draft", "x", "--fallback=-0.1"], "0...1"),
    (["--draft", "x", "--fallback", "nan"], "0...1"), (["--draft", "x", "--rollback=-1"], "0 or above"),
    (["--draft", "x", "--rollback", "nan"], "0 or above"),
    (["--draft", "x", "--draft-length", "0"], "1...64"),
    (["--draft", "x", "--draft-length", "65"], "1...64"),
    (["--draft-exit-threshold", "0.5"], "--draft-exit-threshold"),
    (["--drafter", "auto", "--draft-exit-threshold", "0.5"], "--draft"),
    (["--draft", "x", "--draft-exit-threshold", "2"], "0...1"),
    (["--drafter", "early-exit", "--exit-threshold", "0.5"], "--drafter early-exit"),
    (["--drafter", "auto", "--draft-layer", "1", "--exit-threshold", "0.5"], "--draft-layer"),
    (["--draft", "x", "--exit-threshold", "0.5", "--exit-cache", "propagate"], "--exit-cache"),
    (["--draft", "x", "--exit-heads", "y"], "--exit-heads"), (["--exit-heads", "y"], "--exit-heads"),
  ])
  func `settings that make no sense are usage errors`(options: [String], part: String) throws {
    expectRefusal(try run(options), status: 64, saying: part)
  }

  @Test func `pairs that do not fit are refused with both names and the first difference`() throws {
    func refusal(
      _ name: String, saying parts: String..., edit: (inout GGUFBuilder) -> Void = { _ in },
      _ change: (inout TinyDecoder) -> Void
    ) throws {
      let other = try Self.write(egress, name + ".gguf", edit: edit) {
        $0.layerCount = 1
        change(&$0)
      }
      for part in parts + [name, "large"] {
        expectRefusal(try run(["--draft", other]), status: 1, saying: part)
      }
    }
    try refusal("wider", saying: "the number of tokens is 280 in the draft and 272 in the target") {
      $0.vocabularySize = 280
    }
    try refusal("bigger", saying: "reads", "more than the") { $0.layerCount = 4 }
    try refusal(
      "ending", saying: "the set of end tokens",
      edit: { $0.set("tokenizer.ggml.eos_token_id", .uint32(70)) }
    ) { _ in }
    var types = [Int32](repeating: 1, count: 272)
    for index in 0..<3 { types[index] = 3 }
    for index in 266..<272 { types[index] = 5 }
    // The byte of "~", which the prompts here do not have.
    types[129] = 3
    try refusal(
      "special", saying: "token 129 is a control token in the draft and text in the target",
      edit: { $0.set("tokenizer.ggml.token_type", .int32s(types)) }
    ) { _ in }
    let long = try egress.run(
      [
        "generate", "--model", large, "--raw", "--draft",
        try Self.write(egress, "short.gguf") {
          $0.layerCount = 1
          $0.contextLength = 8
        }, Self.prompt,
      ])
    expectRefusal(long, status: 1, saying: "the context of the draft short holds 8")
    expectRefusal(
      try run(["--drafter", "early-exit", "--draft-layer", "3"]), status: 1, saying: "draft-layer must be")
    expectRefusal(try run(["--draft", "no-such-model"]), status: 1, saying: "no-such-model")
  }

  /// Calibrates the pair on a few documents, as if a pass took a millisecond whatever its tokens, and the small model's
  /// `draft`.
  private func calibrate(draft: Double = 0.001, _ options: String...) throws -> CommandRunner.Result {
    let documents = (0..<12).map {
      #"{"id": \#($0), "document": "the in on \#($0 * 7919)", "references": ["some words"]}"#
    }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let command =
      [
        "calibrate", "--model", large, "--draft", small, "--data", data, "--max-tokens", "8", "--fallback",
        "0", "--draft-length", "3", "--risk", "consistency", "--epsilon", "0.99", "--bound", "wsr",
      ] + options
    let runs = egress.folder.path + "/docs.runs.jsonl"
    guard !FileManager.default.fileExists(atPath: runs) else { return try egress.run(command) }
    // Costs are measured once, into the first line; here they are made up.
    let measured = try egress.run(command)
    guard measured.status == 0 else { return measured }
    let header = try String(contentsOfFile: runs, encoding: .utf8).prefix { $0 != "\n" }
    var json = try #require(try JSONSerialization.jsonObject(with: Data(header.utf8)) as? [String: Any])
    let costs = try #require(json["milliseconds"] as? [String: Any])
    #expect(try #require(costs["pass"] as? [Double]).allSatisfy { $0 > 0 })
    json["milliseconds"] = ["pass": Array(repeating: 1.0, count: 16), "draft": draft]
    let edited = String(decoding: try JSONSerialization.data(withJSONObject: json), as: UTF8.self) + "\n"
    try egress.folder.write("docs.runs.jsonl", edited)
    return try egress.run(command + ["--force"])
  }

  @Test(arguments: ["empirical", "crc", "ucb", "ltt"])
  func `a rollback threshold is certified and applied to that pair only`(rule: String) throws {
    let made = try calibrate("--rule", rule)
    #expect(made.status == 0, "\(made.errors)")
    let path = egress.folder.path + "/docs.certificate.json"
    let text = try String(contentsOfFile: path, encoding: .utf8)
    #expect(text.contains(#""draft" : "small""#) && text.contains(#""model" : "large""#))
    #expect(made.text.contains("small drafting for large"))
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
    let threshold = try #require(json["threshold"] as? Double)
    #expect(threshold > 0)

    let certified = try run(["--draft", small, "--certificate", path], tokens: 8, isRaw: false)
    #expect(certified.status == 0, "\(certified.errors)")
    let same = try run(
      ["--draft", small, "--fallback", "0", "--draft-length", "3", "--rollback", "\(threshold)"], tokens: 8,
      isRaw: false)
    #expect(try certified.json()["token_ids"] as? [Int] == same.json()["token_ids"] as? [Int])
    let found = try certified.json()["speculation"] as? [String: Any]
    #expect(
      found?["substituted"] as? Int == (try same.json()["speculation"] as? [String: Any])?["substituted"]
        as? Int)

    // What an interruption leaves is gone on with, to the same bytes.
    guard rule == "ucb" else { return }
    let runs = try String(contentsOfFile: egress.folder.path + "/docs.runs.jsonl", encoding: .utf8)
    try egress.folder.write("docs.runs.jsonl", String(runs.dropLast(runs.count / 3)))
    #expect(try calibrate("--rule", rule).status == 0)
    #expect(try String(contentsOfFile: egress.folder.path + "/docs.runs.jsonl", encoding: .utf8) == runs)
    #expect(try String(contentsOfFile: path, encoding: .utf8) == text)

    let other = try Self.write(egress, "other.gguf") {
      $0.layerCount = 1
      $0.seed = 9
    }
    expectRefusal(
      try run(["--draft", other, "--certificate", path], tokens: 8, isRaw: false), status: 1,
      saying: "the certificate is for the draft small and the model large, not for this draft")
    let wrongModel = try egress.run([
      "generate", "--model", other, "--draft", small, "--certificate", path, "a",
    ])
    expectRefusal(wrongModel, status: 1, saying: "not for this model")
    expectRefusal(
      try run(["--draft", small, "--certificate", path, "--rollback", "1"], tokens: 8, isRaw: false),
      status: 64,
      saying: "--rollback")
    expectRefusal(
      try run(["--draft", small, "--certificate", path, "--fallback", "0"], isRaw: false), status: 64,
      saying: "--fallback")
    // Alone it is no certificate of exits.
    #expect(try run(["--certificate", path], isRaw: false).status == 1)

    let evaluated = try egress.run([
      "evaluate", "--model", large, "--draft", small, "--certificate", path, "--data",
      egress.folder.path + "/docs.jsonl", "--max-tokens", "8", "--format", "json",
    ])
    #expect(evaluated.status == 0, "\(evaluated.errors)")
    let result = try evaluated.json()
    #expect(result["threshold"] as? Double == threshold)
    #expect((result["exits"] as? [String: Any])?["samples_per_second"] as? Double ?? 0 > 0)
    #expect((result["exits"] as? [String: Any])?["speculation"] != nil)
  }

  @Test func `drafts that take longer than none are certified but not made to change the output`() throws {
    let made = try calibrate(draft: 1000, "--rule", "empirical")
    #expect(made.status == 0 && made.text.contains("no: use the safest threshold"), "\(made.errors)")
    let applied = try run(
      ["--draft", small, "--certificate", egress.folder.path + "/docs.certificate.json"], tokens: 8,
      isRaw: false)
    #expect(applied.errors.contains("drafts are exact"), "\(applied.errors)")
    #expect(
      try applied.json()["token_ids"] as? [Int] == run([], tokens: 8, isRaw: false).json()["token_ids"]
        as? [Int])
  }

  @Test func `of several fallback thresholds the cheapest certified is taken, with it its own policy`() throws
  {
    let documents = (0..<12).map { #"{"id": \#($0), "document": "the in on \#($0 * 7919)"}"# }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    func calibrate(_ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "calibrate", "--model", large, "--draft", small, "--data", data, "--max-tokens", "8",
          "--draft-length", "3", "--risk", "consistency", "--epsilon", "0.99",
        ] + options)
    }
    let made = try calibrate("--fallback", "0,0.9", "--rule", "ucb")
    #expect(made.status == 0 || made.status == 3, "\(made.errors)")
    let path = egress.folder.path + "/docs.certificate.json"
    let json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: URL(fileURLWithPath: path))) as? [String: Any])
    #expect(json["policies_compared"] as? Int == 2)
    let policy = try #require((json["subject"] as? [String: Any] ?? json)["policy"] as? [String: Any])
    let fallback = try #require(policy["fallback"] as? Double)
    #expect(fallback == 0 || fallback == 0.9)
    #expect(made.text.contains("fallback 0.0: ") && made.text.contains("fallback 0.9: "))
    #expect(try run(["--draft", small, "--certificate", path], tokens: 8, isRaw: false).status == 0)
    let losses = "\(egress.folder.path)/docs.fallback-\(fallback).losses.jsonl"
    let verified = try egress.run(["verify", path, losses])
    #expect(verified.status == 0, "\(verified.errors)")
    expectRefusal(
      try calibrate("--fallback", "0,0.9", "--rule", "crc", "--force"), status: 64, saying: "crc controls")
    expectRefusal(try calibrate("--fallback", "0.5,0.5"), status: 64, saying: "--fallback")
    expectRefusal(try calibrate("--fallback", "0.5,1.5"), status: 64, saying: "1.5")
  }

  @Test func `exact drafting evaluates to the same outputs`() throws {
    let data = try egress.folder.write(
      "d.jsonl", #"{"id": 1, "document": "the in on the in", "references": ["x"]}"# + "\n")
    let result = try egress.run([
      "evaluate", "--model", large, "--drafter", "auto", "--data", data, "--max-tokens", "8", "--format",
      "json",
    ])
    #expect(result.status == 0, "\(result.errors)")
    #expect(try result.json()["identical_outputs"] as? Int == 1)
    #expect(try result.json()["test_risk"] as? Double == 0)
  }

  @Test(arguments: [
    (["--exit-layers", "1"], "--exit-layers"), (["--lowest", "0.5"], "--lowest"),
    (["--metric", "brier"], "brier"), (["--grid", "1,-2"], "--grid"),
  ])
  func `calibration refuses what means nothing for drafts`(options: [String], part: String) throws {
    expectRefusal(
      try egress.run(
        ["calibrate", "--model", large, "--draft", small, "--data", "d.jsonl", "--epsilon", "0.1"] + options),
      status: 64, saying: part)
  }

  @Test func `calibration of drafts needs a draft model`() throws {
    expectRefusal(
      try egress.run(["calibrate", "--data", "d.jsonl", "--epsilon", "0.1", "--fallback", "0.5"]),
      status: 64, saying: "--fallback needs a --draft")
  }
}
