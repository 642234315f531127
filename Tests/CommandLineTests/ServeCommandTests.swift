import Foundation
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct ServeCommandTests {
  let egress: CommandRunner
  let model: String

  init() throws {
    egress = try CommandRunner()
    model = try egress.writeModel()
  }

  /// One request and its answer, over a connection of its own.
  private static func ask(_ port: Int, _ request: String) throws -> String {
    #if canImport(Glibc)
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(status == 0)
    let bytes = Array(request.utf8)
    try #require(write(descriptor, bytes, bytes.count) == bytes.count)
    var answer: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(descriptor, &buffer, buffer.count)
      guard count > 0 else { break }
      answer += buffer[..<count]
    }
    return String(decoding: answer, as: UTF8.self)
  }

  private static func get(_ port: Int, _ path: String) throws -> String {
    try ask(port, "GET \(path) HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
  }

  private static func post(_ port: Int, _ path: String, _ body: String) throws -> String {
    try ask(
      port,
      "POST \(path) HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-type: application/json\r\n"
        + "content-length: \(body.utf8.count)\r\n\r\n\(body)")
  }

  /// Runs a server until `body` is through with it.
  ///
  /// - Returns: What it says on standard error.
  @discardableResult
  private func serving(_ options: [String] = [], _ body: (Int) throws -> Void) throws -> String {
    let log = try egress.folder.write("log", "")
    let result = try egress.run(
      ["serve", "--model", model, "--port", "0", "--threads", "1", "--log-level", "error"] + options,
      errors: FileHandle(forWritingTo: URL(fileURLWithPath: log))
    ) { process in
      var port: Int?
      for _ in 0..<60_000 where port == nil && process.isRunning {
        let text = try String(contentsOfFile: log, encoding: .utf8)
        if let line = text.split(separator: "\n").last(where: { $0.contains("is served at") }) {
          port = line.split(separator: ":").last.flatMap { Int($0) }
        }
        usleep(10_000)
      }
      defer { process.terminate() }
      guard let port else {
        Issue.record("no port")
        return
      }
      try body(port)
    }
    let said = try String(contentsOfFile: log, encoding: .utf8)
    #expect(result.status == 0, "\(said)")
    #expect(result.output.isEmpty)
    return said
  }

  @Test func `the program serves until it is told to stop`() throws {
    try serving { port in
      #expect(try Self.get(port, "/health").hasPrefix("HTTP/1.1 200"))
      let answer = try Self.post(
        port, "/v1/completions", #"{"model": "tiny", "prompt": "abc", "max_tokens": 5, "temperature": 0}"#)
      #expect(answer.hasPrefix("HTTP/1.1 200") && answer.contains("text_completion"), "\(answer)")
    }
  }

  @Test func `audits go to the log of egress monitor, and its alarm is told at the start`() throws {
    let lines = (0..<24).map { #"{"id": \#($0), "document": "text \#($0 * 7919)"}"# }
    let data = try egress.folder.write("docs.jsonl", lines.joined(separator: "\n") + "\n")
    let made = try egress.run([
      "calibrate", "--model", model, "--data", data, "--max-tokens", "6", "--exit-layers", "1", "--no-guard",
      "--rule",
      "empirical", "--epsilon", "0.99", "--risk", "consistency",
    ])
    #expect(made.status == 0, "\(made.errors)")
    let certificate = egress.path("docs.certificate.json")
    let log = egress.path("docs.audit.jsonl")
    let body = #"{"document": "text 123", "max_tokens": 6}"#
    let said = try serving(["--certificate", certificate, "--audit", "1"]) { port in
      #expect(try Self.post(port, "/v1/egress/summarize", body).contains("\"applied\":true"))
      for _ in 0..<6000
      where try String(contentsOfFile: log, encoding: .utf8).split(separator: "\n").count < 2 {
        usleep(10_000)
      }
      #expect(try Self.get(port, "/metrics").contains("egress_audits_total"))
    }
    // As people read it, and not as the file has it.
    #expect(said.contains("docs.certificate.json: Calibrated on 24 documents."), "\(said)")
    let state = try egress.run(["monitor", log, "--certificate", certificate, "--format", "json"])
    #expect(try state.status == 0 && state.json()["audits"] as? Int == 1, "\(state.errors)")

    let header = try String(contentsOfFile: log, encoding: .utf8).prefix { $0 != "\n" }
    try egress.folder.write(
      "docs.audit.jsonl", header + "\n" + String(repeating: "{\"loss\":1}\n", count: 1000))
    let alarmed = try serving(["--certificate", certificate, "--audit", "1"]) { port in
      let answer = try Self.post(port, "/v1/egress/summarize", body)
      #expect(answer.contains("\"applied\":false") && answer.contains("alarm"), "\(answer)")
    }
    #expect(alarmed.contains("raised its alarm: decoding at full depth"), "\(alarmed)")
    for wrong in [
      ["--audit", "1"], ["--certificate", "a", "--audit", "0"], ["--certificate", "a", "--audit-log", "b"],
      ["--certificate", "a", "--certificate", "b", "--audit", "1", "--audit-log", "c"],
    ] {
      let refused = try egress.run(["serve"] + wrong)
      #expect(refused.status == 64 && refused.errors.contains("--audit"), "\(refused.errors)")
    }
  }

  @Test func `what cannot be served is said in a sentence`() throws {
    let missing = try egress.run(["serve", "--model", "none.gguf", "--port", "0", "--log-level", "critical"])
    #expect(missing.status == 1 && missing.errors.contains("none.gguf"), "\(missing.errors)")
    let origin = try egress.run(["serve", "--cors", "example.org"])
    #expect(origin.status == 64 && origin.errors.contains("--cors must be an origin"))
  }

  @Test func `generate holds its output to a schema`() throws {
    let schema = try egress.folder.write(
      "schema.json", #"{"properties": {"n": {"type": "integer", "maximum": 99}}, "required": ["n"]}"#)
    let result = try egress.run(
      ["generate", "--model", model, "--raw", "--json-schema", schema, "--max-tokens", "40", "abc"])
    #expect(result.status == 0, "\(result.errors)")
    let value = try #require(
      try JSONSerialization.jsonObject(with: Data(result.text.utf8)) as? [String: Any])
    #expect(value["n"] is Int, "\(result.text)")
    let bad = try egress.folder.write("bad.json", #"{"not": {}}"#)
    expectRefusal(
      try egress.run(["generate", "--model", model, "--raw", "--json-schema", bad, "abc"]), status: 1,
      saying: "not: the keyword is not supported")
    let broken = try egress.folder.write("broken.json", "{nope")
    expectRefusal(
      try egress.run(["generate", "--model", model, "--raw", "--json-schema", broken, "abc"]), status: 1,
      saying: "broken.json")
    for option in ["--stop", "--no-repeat-ngram"] {
      let both = try egress.run(["generate", "--json-schema", schema, option, "3", "abc"])
      #expect(both.status == 64 && both.errors.contains("--json-schema"))
    }
  }
}

/// Other people's clients, where EGRESS_PYTHON names a Python that has them: see the scripts.
@Suite struct ServeClientTests {
  private static let python = ProcessInfo.processInfo.environment["EGRESS_PYTHON"]

  @Test(.enabled(if: python != nil), arguments: ["check_clients.py", "check_openapi.py"])
  func `clients of others find what they expect`(script: String) throws {
    let tests = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    let folder = try TemporaryDirectory()
    let log = try folder.write("log", "")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(Self.python))
    process.arguments = [
      tests.appendingPathComponent("Scripts/" + script).path, CommandRunner.program.path,
    ]
    let output = try FileHandle(forWritingTo: URL(fileURLWithPath: log))
    process.standardOutput = output
    process.standardError = output
    try process.run()
    process.waitUntilExit()
    let said = try String(contentsOfFile: log, encoding: .utf8)
    #expect(process.terminationStatus == 0, "\(said.suffix(4000))")
  }
}
