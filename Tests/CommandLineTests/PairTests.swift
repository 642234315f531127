import Foundation
import TestSupport
import Testing

/// The pair of encoder–decoders that comes with the program, through every command that takes a model: nothing is
/// downloaded, and the weights are real ones.
@Suite struct PairTests {
  let egress: CommandRunner
  private let model = ["--model", "debian-synopsis", "--threads", "1"]

  /// Written for this purpose, in the manner of package descriptions.
  private static let documents = [
    "This package contains the documentation of a library that reads and writes image files.",
    "libpng is a library that implements an interface for reading and writing PNG image files. This "
      + "package contains the header files needed to compile programs that use it.",
    "A simple game in which the player moves coloured blocks until three of them stand in a row. It has forty levels "
      + "and can be played over the network.",
    "A text editor for the terminal. It colours source code, folds functions and can be extended with plugins that "
      + "are written in Lua.",
    "This module provides a Perl interface to the system's clock. It can read the time with a resolution of one "
      + "nanosecond.",
    "A command-line tool that compares two directories and shows which files are missing, newer or different "
      + "in one of them.",
    "Fonts for the Tamil script. They cover all characters of the Unicode block and are meant for use on the screen.",
    "A web server written in Python. It is small, needs no configuration and is used to test programs on the "
      + "local machine.",
    "This package provides the debugging symbols of the sound server.",
    "The R package estimates the parameters of mixed models by maximum likelihood and draws diagnostic plots.",
  ]

  init() throws {
    egress = try CommandRunner()
  }

  private func writeDocuments() throws -> String {
    let lines = try Self.documents.enumerated().map { index, text in
      let row: [String: Any] = ["id": index, "document": text, "references": [text.prefix(40)]]
      return String(decoding: try JSONSerialization.data(withJSONObject: row), as: UTF8.self)
    }
    return try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
  }

  private func succeed(_ arguments: [String], input: String = "") throws -> CommandRunner.Result {
    let result = try egress.run(arguments, input: input)
    #expect(result.status == 0, "\(arguments.joined(separator: " ")): \(result.errors)")
    return result
  }

  private func summary(of text: String, _ options: String...) throws -> [String: Any] {
    try succeed(["summarize"] + model + ["--format", "json"] + options, input: text).json()
  }

  @Test func `its outputs follow their documents and end`() throws {
    var outputs: Set<String> = []
    for text in Self.documents {
      let result = try summary(of: text)
      #expect(result["stop_reason"] as? String == "end_of_text", "\(result)")
      outputs.insert(try #require(result["text"] as? String))
    }
    #expect(outputs.count >= 8, "\(outputs)")
    // What the package is of stands in its document only.
    #expect(outputs.contains { $0.lowercased().contains("tamil") }, "\(outputs)")
  }

  @Test(arguments: ["softmax", "saturation"], ["defer", "propagate"])
  func `exits are calibrated, applied and evaluated`(_ measure: String, _ cache: String) throws {
    let data = try writeDocuments()
    _ = try succeed(
      ["calibrate"] + model + [
        "--data", data, "--confidence", measure, "--exit-cache", cache, "--exit-layers", "2,4,6",
        "--exit-heads", "none",
        "--grid", "0.95,0.8,0.5,0", "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.95",
      ])
    let certificate = egress.path("docs.certificate.json")
    // Whether leaving early pays depends on the machine; evaluate says which way was taken.
    let result = try succeed(
      ["evaluate"] + model + [
        "--exit-heads", "none", "--certificate", certificate, "--data", data, "--format", "json",
      ]
    ).json()
    let full = try #require(result["full"] as? [String: Any])
    #expect(full["average_layer"] as? Double == 8 && result["documents"] as? Int == Self.documents.count)
    let early = try succeed(
      ["evaluate"] + model + [
        "--exit-heads", "none", "--exit-threshold", "0", "--confidence", measure, "--exit-cache", cache,
        "--exit-layers", "2",
        "--data", data, "--risk", "consistency", "--format", "json",
      ]
    ).json()
    let exits = try #require(early["exits"] as? [String: Any])
    // The first token of an output passes all layers, the others two.
    #expect(try #require(exits["average_layer"] as? Double) < 3)
    _ = try summary(of: Self.documents[0], "--exit-heads", "none", "--certificate", certificate)
  }

  @Test(arguments: ["defer", "propagate"])
  func `what calibration sees is what decoding writes`(_ cache: String) throws {
    let data = try writeDocuments()
    let exits = ["--confidence", "classifier", "--exit-cache", cache, "--max-tokens", "24"]
    let calibrated = try egress.run(
      ["calibrate"] + model + exits + [
        "--data", data, "--grid", "0.3", "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.95",
      ])
    #expect(calibrated.status == 0, "\(calibrated.errors)")
    let runs = try String(contentsOfFile: egress.path("docs.runs.jsonl"), encoding: .utf8).split(
      separator: "\n"
    )
    .dropFirst()
    #expect(runs.count == Self.documents.count)
    for (run, text) in zip(runs, Self.documents) {
      let row = try #require(try JSONSerialization.jsonObject(with: Data(run.utf8)) as? [String: Any])
      let written = try succeed(
        ["summarize"] + model + exits + ["--exit-threshold", "0.3", "--format", "json"], input: text
      ).json()
      #expect((row["texts"] as? [String])?.last == written["text"] as? String)
    }
  }

  @Test func `exit heads are fitted, and their classifier decides`() throws {
    let data = try writeDocuments()
    _ = try succeed(
      ["fit-exits"] + model + [
        "--data", data, "--exit-layers", "2,4", "--output", egress.path("heads.safetensors"),
      ])
    let result = try summary(
      of: Self.documents[1], "--exit-heads", egress.path("heads.safetensors"), "--confidence", "classifier",
      "--exit-threshold",
      "0.05")
    #expect(try #require(result["average_exit_layer"] as? Double) < 8)
  }

  @Test func `the small model drafts, and exact drafts change nothing`() throws {
    let drafting = ["--draft", "debian-synopsis-small", "--draft-length", "4"]
    for text in Self.documents {
      let plain = try summary(of: text)
      let exact = try succeed(
        ["summarize"] + model + ["--format", "json", "--exact"] + drafting, input: text
      ).json()
      #expect(exact["text"] as? String == plain["text"] as? String)
    }
    let data = try writeDocuments()
    _ = try succeed(
      ["calibrate"] + model + drafting + [
        "--data", data, "--risk", "consistency", "--rule", "empirical", "--epsilon", "0.95", "--grid",
        "0.5,2,8",
      ])
    let certificate = egress.path("docs.certificate.json")
    let found = try succeed(
      ["summarize"] + model + ["--draft", "debian-synopsis-small", "--certificate", certificate],
      input: Self.documents[3])
    #expect(found.errors.contains("Nothing is guaranteed"))
    let evaluated = try succeed(
      ["evaluate"] + model + [
        "--draft", "debian-synopsis-small", "--certificate", certificate, "--data", data,
      ])
    #expect(evaluated.text.contains("documents"))
  }

  @Test func `many documents, beams and long texts work`() throws {
    let data = try writeDocuments()
    _ = try succeed(["summarize"] + model + ["--input", data, "--output", egress.path("out.jsonl")])
    let lines = try String(contentsOfFile: egress.path("out.jsonl"), encoding: .utf8).split(separator: "\n")
    #expect(lines.count == Self.documents.count)
    for (line, text) in zip(lines, Self.documents) {
      let row = try #require(
        try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      #expect(row["text"] as? String == (try summary(of: text)["text"] as? String))
    }
    _ = try summary(of: Self.documents[2], "--beams", "4")
    let long = Array(repeating: Self.documents, count: 8).joined().joined(separator: " ")
    let split = try egress.run(["summarize"] + model, input: long)
    #expect(split.status == 0 && split.errors.contains("more than fit"), "\(split.errors)")
  }
}
