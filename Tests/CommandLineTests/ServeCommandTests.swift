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

  @Test func `the program serves until it is told to stop`() throws {
    let log = try egress.folder.write("log", "")
    let result = try egress.run(
      ["serve", "--model", model, "--port", "0", "--threads", "1", "--log-level", "error"],
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
      guard let port else {
        process.terminate()
        Issue.record("no port")
        return
      }
      defer { process.terminate() }
      #expect(try Self.get(port, "/health").hasPrefix("HTTP/1.1 200"))
      let body = #"{"model": "tiny", "prompt": "abc", "max_tokens": 5, "temperature": 0}"#
      let answer = try Self.ask(
        port,
        "POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
          + "content-type: application/json\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
      #expect(answer.hasPrefix("HTTP/1.1 200") && answer.contains("text_completion"), "\(answer)")
    }
    let said = try String(contentsOfFile: log, encoding: .utf8)
    #expect(result.status == 0, "\(said)")
    #expect(result.output.isEmpty)
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
    for option in ["--stop", "--no-repeat-ngram"] {
      let both = try egress.run(["generate", "--json-schema", schema, option, "3", "abc"])
      #expect(both.status == 64 && both.errors.contains("--json-schema"))
    }
  }
}
