import Certification
import Foundation
import Generation
import Logging
import ServiceLifecycle
import Serving
import SpeculativeDecoding
import Synchronization
import TestSupport
import Testing

/// A small model with random weights, and a server of it on a port that the system chose.
final class RunningServer: Sendable {
  let port: Int
  let model: LanguageModel
  let engine: ModelEngine
  private let group: ServiceGroup
  private let task: Task<Void, any Error>
  private let folder: TemporaryDirectory

  static let chatTemplate =
    #"{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"#
    + #"{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"#

  static func subject(
    in folder: TemporaryDirectory, contextLength: Int = 65_536, layers: Int = 2
  ) throws -> DecodingSubject {
    var tiny = TinyDecoder()
    tiny.contextLength = contextLength
    tiny.layerCount = layers
    var builder = tiny.gguf()
    builder.set("tokenizer.chat_template", .string(chatTemplate))
    return try DecodingSubject(path: folder.write("tiny.gguf", builder.build()), threads: 1)
  }

  init(
    _ configure: (inout ServerConfiguration) -> Void = { _ in }, layers: Int = 2,
    certificates: (DecodingSubject) throws -> [ServedCertificate] = { _ in [] }
  ) async throws {
    folder = try TemporaryDirectory()
    let subject = try Self.subject(in: folder, layers: layers)
    model = subject.model
    var configuration = ServerConfiguration()
    configuration.port = 0
    // A connection whose task gets no thread for a minute is not idle.
    configuration.idleSeconds = 600
    configuration.lastWordSeconds = 600
    configure(&configuration)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    let server = try Server(
      ServedModel(
        name: "tiny", subject: subject, certificates: certificates(subject),
        // As the command line serves a model.
        strategy: SpeculationStrategy([.promptLookup], for: subject.model, rule: .exact)),
      configuration: configuration, logger: logger)
    engine = try #require(server.engine)
    let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
    let group = ServiceGroup(
      configuration: .init(
        services: [server.application { continuation.yield($0) }], logger: logger))
    self.group = group
    task = Task { try await group.run() }
    var iterator = ports.makeAsyncIterator()
    port = try #require(await iterator.next())
  }

  /// As SIGTERM does.
  func triggerShutdown() async { await group.triggerGracefulShutdown() }

  func waitForEnd() async throws { try await task.value }

  func stop() async throws {
    await triggerShutdown()
    try await waitForEnd()
  }

  /// One request on a connection of its own.
  func ask(
    _ method: String, _ path: String, _ body: String? = nil, headers: [String: String] = [:]
  ) async throws -> HTTPConnection.Response {
    try await onThread { [port] in
      let connection = try HTTPConnection(port: port)
      connection.send(method, path, body: body.map { Array($0.utf8) }, headers: headers)
      return try connection.response()
    }
  }

  func post(_ path: String, _ body: String, headers: [String: String] = [:]) async throws
    -> HTTPConnection.Response
  { try await ask("POST", path, body, headers: headers) }

  /// What a prompt gives by itself.
  func alone(_ prompt: [Int], _ options: GenerationOptions) throws -> Generation {
    let session = try model.makeSession(prompt: prompt, options: options, shouldStop: { false })
    while try session.next() != nil {}
    return session.generation
  }

  /// Waits until it is so, or longer than other tests can keep this one from running.
  func eventually(_ condition: @Sendable () -> Bool) async -> Bool {
    for _ in 0..<20_000 {
      if condition() { return true }
      try? await Task.sleep(for: .milliseconds(5))
    }
    return condition()
  }
}

extension ModelEngine {
  /// Holds a thread until one request more than so many was taken, or long enough.
  func waitForRequest(after taken: Int) {
    for _ in 0..<20_000 where takenCount <= taken { usleep(5_000) }
  }
}

/// Runs a test with a server that is stopped in the end.
func withServer(
  _ configure: (inout ServerConfiguration) -> Void = { _ in }, layers: Int = 2,
  certificates: (DecodingSubject) throws -> [ServedCertificate] = { _ in [] },
  _ body: (RunningServer) async throws -> Void
) async throws {
  let server = try await RunningServer(configure, layers: layers, certificates: certificates)
  do {
    try await body(server)
  } catch {
    try? await server.stop()
    throw error
  }
  try await server.stop()
}

/// OpenAI's word for the end of an output.
func finishReason(_ reason: StopReason) -> String {
  reason == .maxTokens || reason == .contextFull ? "length" : "stop"
}

func text(_ value: Any?) -> String? { value as? String }

extension [String: Any] {
  func object(_ key: String) throws -> [String: Any] { try #require(self[key] as? [String: Any], "\(self)") }
  func list(_ key: String) throws -> [[String: Any]] {
    try #require(self[key] as? [[String: Any]], "\(self)")
  }
}
