import Foundation
import TestSupport
import Testing

@Suite struct ExitCommandTests {
  let egress: CommandRunner
  let model: String
  /// The same with four layers.
  let deep: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
    var tiny = TinyDecoder()
    tiny.layerCount = 4
    deep = try egress.folder.write("deep.gguf", tiny.gguf().build())
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
    (["--certificate", "c.json", "--decay", "4"], "decay"), (["--exit-threshold", "-0.1"], "exit-threshold"),
    (["--exit-threshold", "nan"], "0...1"), (["--show-exits"], "show-exits"),
    (["--exit-threshold", "0.5", "--min-exit-layer", "0"], "min-exit-layer"),
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

  @Test func `each option of an exit policy changes what is decoded`() throws {
    func trace(_ options: String...) throws -> [[String: Any]] {
      let path = egress.folder.path + "/t.jsonl"
      let result = try egress.run(
        ["generate", "--model", deep, "--raw", "--max-tokens", "16", "--trace", path] + options + ["abc"])
      #expect(result.status == 0, "\(result.errors)")
      return try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n").map {
        try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
      }
    }
    func values<Value>(_ lines: [[String: Any]], _ key: String) -> [Value] {
      lines.dropFirst().compactMap { $0[key] as? Value }
    }
    let early: [Int] = values(try trace("--exit-threshold", "0"), "layer")
    #expect(early.allSatisfy { $0 == 1 } && early.count > 3)
    let later: [Int] = values(try trace("--exit-threshold", "0", "--min-exit-layer", "2"), "layer")
    #expect(later.allSatisfy { $0 == 2 })

    // A cache that was projected reads part of every skipped layer, and is another one.
    let deferred = try trace("--exit-threshold", "0", "--exit-layers", "1")
    let propagated = try trace("--exit-threshold", "0", "--exit-layers", "1", "--exit-cache", "propagate")
    let (bytes, more): ([Int], [Int]) = (values(deferred, "bytes"), values(propagated, "bytes"))
    #expect(bytes.count > 3 && (more.first ?? 0) > (bytes.first ?? 0))

    // Alone the threshold 0.05 is too much for later tokens; decayed it is not.
    let confidences: [Double] = values(
      try trace("--exit-threshold", "0.9999", "--exit-layers", "1"), "confidence")
    let threshold = "\((confidences.max() ?? 0) + 0.001)"
    let constant: [Int] = values(try trace("--exit-threshold", threshold, "--exit-layers", "1"), "layer")
    #expect(constant.allSatisfy { $0 == 4 })
    let decayed: [Int] = values(
      try trace("--exit-threshold", threshold, "--exit-layers", "1", "--decay", "50"), "layer")
    #expect(decayed.contains(1) || confidences.allSatisfy { $0 < 0.9 * (confidences.max() ?? 0) })
  }

  @Test func `fitted heads change what an exit says, and belong to their model`() throws {
    let documents = (0..<12).map { #"{"id": \#($0), "document": "text \#($0 * 7919)"}"# }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    let heads = egress.folder.path + "/heads.safetensors"
    let fit = try egress.run([
      "fit-exits", "--model", model, "--data", data, "--exit-layers", "1", "--max-tokens", "12", "--output",
      heads,
    ])
    #expect(fit.status == 0, "\(fit.errors)")
    let refined = try egress.run([
      "fit-exits", "--model", model, "--data", data, "--exit-layers", "1", "--max-tokens", "12", "--refine",
      "8", "--output", heads,
    ])
    #expect(refined.status == 0 && refined.text.contains("before refinement"), "\(refined.errors)")
    #expect(!fit.text.contains("before refinement"))
    let shared = try generate("--exit-threshold", "0", "--exit-layers", "1")
    let fitted = try generate("--exit-threshold", "0", "--exit-heads", heads)
    #expect(shared["token_ids"] as? [Int] != fitted["token_ids"] as? [Int])
    let classified = try generate(
      "--exit-threshold", "0", "--exit-heads", heads, "--confidence", "classifier")
    #expect(classified["token_ids"] as? [Int] == fitted["token_ids"] as? [Int])
    let other = try egress.writeModel("other.gguf") { $0.set("general.name", .string("Other")) }
    let refused = try egress.run([
      "generate", "--model", other, "--raw", "--exit-threshold", "0.5", "--exit-heads", heads, "abc",
    ])
    expectRefusal(refused, status: 1, saying: "are for the model Tiny")
  }

  @Test func `a plan is made, applied in place of options, and refused for another model or head`() throws {
    let documents = (0..<12).map {
      #"{"id": \#($0), "document": "text \#($0 * 7919)", "references": ["x"]}"#
    }
    let data = try egress.folder.write("docs.jsonl", documents.joined(separator: "\n") + "\n")
    var tiny = TinyDecoder()
    tiny.layerCount = 4
    var builder = tiny.gguf()
    builder.set("tokenizer.chat_template", .string(CommandRunner.chatTemplate))
    let deep = try egress.folder.write("deep.gguf", builder.build())
    func fit(_ name: String, _ layers: String) throws -> String {
      let fit = try egress.run([
        "fit-exits", "--model", deep, "--data", data, "--exit-layers", layers, "--max-tokens", "12",
        "--shortlist", "100", "--output", egress.path(name),
      ])
      #expect(fit.status == 0, "\(fit.errors)")
      return egress.path(name)
    }
    let heads = try fit("heads.safetensors", "1,2")
    func plan(_ name: String, _ options: String...) throws -> CommandRunner.Result {
      try egress.run(
        [
          "plan-exits", "--model", deep, "--data", data, "--exit-heads", heads, "--max-tokens", "12",
          "--output",
          egress.path(name),
        ] + options)
    }
    func run(_ model: String, _ heads: String, _ plan: String, _ options: String...) throws
      -> CommandRunner.Result
    {
      try egress.run(
        [
          "generate", "--model", model, "--raw", "--max-tokens", "12", "--format", "json", "--exit-heads",
          heads,
          "--exit-plan", egress.path(plan),
        ] + options + ["abc"])
    }
    let early = try plan("early.json", "--agreement", "0", "--unit", "bytes", "--format", "json")
    #expect(early.status == 0, "\(early.errors)")
    let found = try early.json()
    #expect((found["layers"] as? [Int])?.isEmpty == false && found["unit"] as? String == "bytes")
    #expect(try #require(found["cost"] as? Double) < found["full_depth_cost"] as? Double ?? 0)
    let applied = try run(deep, heads, "early.json", "--exit-threshold", "0")
    #expect(applied.status == 0, "\(applied.errors)")
    #expect(try #require(applied.json()["average_exit_layer"] as? Double) < 4)

    // Measured here, with what it comes to elsewhere. A plan without exits is full depth, whatever the threshold.
    let text = try plan("ms.json", "--paper")
    #expect(text.status == 0 && text.text.contains("chosen for 0.95") && text.text.contains("(7B)"))
    let none = try String(contentsOfFile: egress.path("early.json"), encoding: .utf8).replacing(
      /"layers" : \[[^\]]*\]/, with: "\"layers\" : []")
    try egress.folder.write("none.json", none)
    let full = try run(deep, heads, "none.json", "--exit-threshold", "0")
    #expect(try full.status == 0 && full.json()["average_exit_layer"] as? Double == 4)
    let nothing = try egress.run([
      "calibrate", "--model", deep, "--data", data, "--exit-heads", heads, "--exit-plan",
      egress.path("none.json"),
      "--epsilon", "0.5",
    ])
    expectRefusal(nothing, status: 1, saying: "no exits")

    let threshold = ["--exit-threshold", "0.5"]
    expectRefusal(
      try run(model, heads, "early.json", threshold[0], threshold[1]), status: 1, saying: "another model")
    let others = try fit("others.safetensors", "1,3")
    expectRefusal(
      try run(deep, others, "early.json", threshold[0], threshold[1]), status: 1, saying: "other exit heads")
    for options in [["--exit-layers", "1"], ["--confidence", "softmax"], ["--exit-cache", "defer"]] {
      let result = try run(deep, heads, "early.json", threshold[0], threshold[1], options[0], options[1])
      expectRefusal(result, status: 64, saying: "fixed by --exit-plan")
    }
    try egress.folder.write("cut.json", String(none.prefix(none.count / 2)))
    expectRefusal(
      try run(deep, heads, "cut.json", threshold[0], threshold[1]), status: 1, saying: "exit plan")
    expectRefusal(
      try run(deep, heads, "nowhere.json", threshold[0], threshold[1]), status: 1, saying: "nowhere.json")
    for options in [["--agreement", "1.1"], ["--limit", "0"], ["--max-tokens", "1"], ["--unit", "miles"]] {
      #expect(try plan("bad.json", options[0], options[1]).status == 64)
    }
    let headless = try egress.run([
      "plan-exits", "--model", deep, "--data", data, "--output", egress.path("x.json"),
    ])
    #expect(headless.status == 64 && headless.errors.contains("--exit-heads"))
    #expect(!FileManager.default.fileExists(atPath: egress.path("bad.json")))
  }

  @Test func `showing exits says the average layer and colours nothing but a terminal`() throws {
    let options = [
      "generate", "--model", model, "--raw", "--max-tokens", "12", "--exit-threshold", "0", "abc",
    ]
    let plain = try egress.run(options)
    let shown = try egress.run(options + ["--show-exits"])
    #expect(shown.output == plain.output && shown.errors.contains("average exit layer"))
    #expect(!plain.errors.contains("average exit layer"))
  }
}
