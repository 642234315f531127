import ArgumentParser
import Certification
import Dispatch
import Foundation
import Generation
import Logging
import Serving
import Synchronization

struct ServeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "serve",
    abstract: "Serve a model over OpenAI's protocol.",
    discussion: """
      Requests are decoded together, and each output is the one that its request gets alone. SIGTERM and Ctrl-C end \
      the server when the requests under way are answered.

      EXAMPLES
        egress serve
        egress serve --port 8000 --slots 16 --api-key-file keys.txt
        curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
          -d '{"messages": [{"role": "user", "content": "Name three rivers."}]}'
      """)

  @OptionGroup(title: "Model Options") var models: ModelOptions

  @Option(
    help: ArgumentHelp(
      """
      Decode documents as a certificate that calibrate wrote says; may be given again, for other tasks. Requests that \
      it does not hold for are decoded at full depth.
      """, valueName: "cert.json"))
  var certificate: [String] = []

  @Option(
    help: ArgumentHelp(
      "What drafts, for a certificate of drafts: head for the draft head that comes with the model, a file, or a "
        + "small model.",
      valueName: "draft"))
  var draft = "head"

  @Option(
    help: ArgumentHelp(
      "Exit heads, for a certificate of early exits; none for the model's own head. (default: those that come with "
        + "the program)",
      valueName: "file"))
  var exitHeads: String?

  @OptionGroup var auditing: AuditOptions

  @Option(
    help: "Address to listen at; 0.0.0.0 for every address of this machine, which wants an --api-key-file.")
  var host = "127.0.0.1"

  @Option(parsing: .unconditional, help: "Port to listen at; 0 for one that the system chooses.")
  var port = 8080

  @Option(parsing: .unconditional, help: "Outputs to decode at a time, 1 to 32.")
  var slots = 8

  @Option(
    parsing: .unconditional,
    help: "Outputs that may wait for a slot; further requests are refused for a while.")
  var queue = 64

  @Option(
    parsing: .unconditional,
    help: "Tokens that prompt and output may have together. (default: as many as the model can)")
  var context: Int?

  @Option(
    help: ArgumentHelp(
      "Keys that let in, one a line; without it everybody who reaches the address is let in.",
      valueName: "file"))
  var apiKeyFile: String?

  @Option(
    parsing: .unconditional,
    help: "Megabytes of keys and values to keep for prompts that begin alike; 0 for none.")
  var prefixCache = 256

  @Option(
    help: ArgumentHelp(
      "Let web pages of this origin use the server; * for all. May be given again.", valueName: "origin"))
  var cors: [String] = []

  @Option(help: "How much to log on standard error: debug, info, warning or error.")
  var logLevel = Logger.Level.info

  func validate() throws {
    func check(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws {
      guard range.contains(value) else {
        throw ValidationError("--\(name) must be in \(range), but is \(value).")
      }
    }
    if auditing.audit != nil, certificate.isEmpty { throw ValidationError("--audit needs a --certificate.") }
    if auditing.auditLog != nil, certificate.count > 1 {
      throw ValidationError("--audit-log is of one certificate, but \(certificate.count) are given.")
    }
    try check("port", port, 0...65_535)
    try check("slots", slots, 1...32)
    try check("queue", queue, 0...100_000)
    try check("prefix-cache", prefixCache, 0...1_000_000)
    for origin in cors where origin != "*" {
      let parts = origin.components(separatedBy: "://")
      guard parts.count == 2, ["http", "https"].contains(parts[0]), !parts[1].isEmpty,
        !parts[1].contains(where: { "/ ,?#".contains($0) })
      else {
        throw ValidationError("--cors must be an origin such as https://example.org, or *, but is \(origin).")
      }
    }
    if let context, context < 2 { throw ValidationError("--context must be at least 2, but is \(context).") }
  }

  func run() throws {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    var logger = Logger(label: "egress")
    logger.logLevel = logLevel
    var configuration = ServerConfiguration()
    (configuration.host, configuration.port) = (host, port)
    (configuration.slots, configuration.queue) = (slots, queue)
    configuration.context = context
    configuration.prefixBytes = prefixCache << 20
    configuration.keys = try keys()
    configuration.origins = cors
    let server = try Server(configuration: configuration, logger: logger) { try load() }
    let host = host.contains(":") ? "[\(host)]" : host
    let file = URL(fileURLWithPath: models.model).lastPathComponent
    let model = file.hasSuffix(".gguf") ? String(file.dropLast(5)) : file
    try Blocking.run {
      try await server.run(
        onListening: { Console.note("listening at http://\(host):\($0); loading \(model)") },
        onReady: { Console.note("\(model) is served at http://\(host):\($0)") })
    }
  }

  private func load() throws -> ServedModel {
    let loaded = try models.load()
    let name =
      loaded.entry?.name ?? URL(fileURLWithPath: loaded.path).deletingPathExtension().lastPathComponent
    return ServedModel(
      name: name, subject: try loaded.subject(), certificates: try certificates(loaded))
  }

  private func certificates(_ loaded: LoadedModel) throws -> [ServedCertificate] {
    var found: [ServedCertificate] = []
    for path in certificate {
      let subject =
        try ServedCertificate.needsDraft(path)
        ? loaded.subject(draft: LoadedDraft(draft, for: loaded, threads: models.threads))
        : loaded.subject(ExitPolicyOptions.parse(exitHeads.map { ["--exit-heads", $0] } ?? []))
      let served = try ServedCertificate(path: path, for: subject)
      Console.note("\(path): \(served.statement)")
      found += try audited(served, path: path, subject)
    }
    if auditing.audit != nil, !found.contains(where: \.isAudited) {
      throw CommandError("--audit: none of these certificates can be audited; they are of answers")
    }
    return found
  }

  /// A certificate, and after it the safer ones that go on in its place after its monitor's alarm.
  private func audited(
    _ served: ServedCertificate, path: String, _ subject: DecodingSubject
  ) throws -> [ServedCertificate] {
    guard let share = auditing.audit else { return [served] }
    guard case .decoding = served.subject else {
      Console.note("\(path): not audited, since it is of answers")
      return [served]
    }
    var chain = [try served.audited(share: share, log: auditing.auditLog)]
    // As for other commands: one log is of one certificate.
    let safer =
      auditing.auditLog == nil
      ? try CertifiedPolicy.safer(than: path).filter { try !CertificateAudit.isAlarmed($0) } : []
    for path in safer {
      chain.append(try ServedCertificate(path: path, for: subject).audited(share: share))
    }
    if chain[0].isAlarmed {
      Console.warning(
        "the monitor of \(path) raised its alarm: decoding "
          + (safer.first.map { "with \($0), which is safer" } ?? "at full depth"))
    }
    return chain
  }

  private func keys() throws -> [String] {
    guard let apiKeyFile else { return [] }
    let keys = try TextInput(path: apiKeyFile).text.split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    guard !keys.isEmpty else { throw CommandError("\(apiKeyFile) holds no key") }
    return keys
  }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}

/// Waits for asynchronous work on the thread of a command that has nothing else to do.
enum Blocking {
  private final class Outcome: Sendable {
    let error = Mutex<(any Error)?>(nil)
  }

  static func run(_ body: @escaping @Sendable () async throws -> Void) throws {
    let outcome = Outcome()
    let done = DispatchSemaphore(value: 0)
    Task {
      do {
        try await body()
      } catch {
        outcome.error.withLock { $0 = error }
      }
      done.signal()
    }
    done.wait()
    if let error = outcome.error.withLock({ $0 }) { throw error }
  }
}
