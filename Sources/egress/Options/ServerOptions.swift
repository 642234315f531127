import ArgumentParser
import Foundation
import Logging
import Serving

/// Where a server listens, and how much it takes on.
struct ServerOptions: ParsableArguments {
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

  func configuration() throws -> ServerConfiguration {
    var configuration = ServerConfiguration()
    (configuration.host, configuration.port) = (host, port)
    (configuration.slots, configuration.queue) = (slots, queue)
    configuration.context = context
    configuration.prefixBytes = prefixCache << 20
    configuration.keys = try keys()
    configuration.origins = cors
    return configuration
  }

  /// A logger on standard error.
  func makeLogger() -> Logger {
    LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
    var logger = Logger(label: "egress")
    logger.logLevel = logLevel
    return logger
  }

  /// The host as it stands in addresses.
  var printedHost: String { host.contains(":") ? "[\(host)]" : host }

  private func keys() throws -> [String] {
    guard let apiKeyFile else { return [] }
    let keys = try TextInput(path: apiKeyFile).text.split(whereSeparator: \.isNewline)
      .map { $0.trimmingCharacters(in: .whitespaces) }.filter { !$0.isEmpty }
    guard !keys.isEmpty else { throw CommandError("\(apiKeyFile) holds no key") }
    return keys
  }
}

extension Logger.Level: @retroactive ExpressibleByArgument {}
