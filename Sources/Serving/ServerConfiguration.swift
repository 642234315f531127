/// Where a server listens, and how much it takes on.
public struct ServerConfiguration: Sendable {
  /// The address to listen at; only this machine unless told otherwise.
  public var host = "127.0.0.1"
  /// 0 for one that the system chooses.
  public var port = 8080
  /// Outputs decoded at a time.
  public var slots = 8
  /// Outputs that may wait for a slot; further requests are answered with 429.
  public var queue = 64
  /// Tokens that prompt and output may have together; `nil` for as many as the model can.
  public var context: Int?
  /// Tokens of an output where the request names no number.
  public var usualMaxTokens = 1024
  /// Bytes of keys and values that are kept for prompts that begin alike; 0 for none.
  public var prefixBytes = 256 << 20
  /// Keys that let in; none lets everyone in.
  public var keys: [String] = []
  /// Origins of web pages that may use the server, such as `https://example.org`; `*` for all.
  public var origins: [String] = []
  /// Bytes that a body may have.
  public var bodyLimit = 4 << 20
  /// Connections at a time; further ones wait to be accepted.
  public var connectionLimit = 256
  /// Seconds after which a connection is closed on which nothing is asked, or half a request has come.
  public var idleSeconds = 60
  /// Seconds that a request may take in all.
  public var requestSeconds = 600
  /// Seconds that a client then has to read the error before its connection is closed.
  package var lastWordSeconds = 5
  /// Seconds that requests under way are given to end when the server is told to stop.
  public var drainSeconds = 60

  /// Loopback, port 8080, eight slots.
  public init() {}

  /// - Throws: ``ServerError`` for what cannot be.
  func validate() throws {
    guard slots >= 1, queue >= 0 else {
      throw ServerError("a server needs at least one slot, and a queue of 0 or more")
    }
    guard keys.allSatisfy({ !$0.isEmpty }) else { throw ServerError("a key must not be empty") }
  }

  /// Whether only this machine reaches the server.
  var isLoopback: Bool {
    host == "localhost" || host == "::1" || host.hasPrefix("127.")
  }
}

/// Why a server cannot be made, as a sentence for a person.
public struct ServerError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The sentence.
  public let description: String

  /// Makes an error with its sentence.
  public init(_ description: String) {
    self.description = description
  }
}
