import Foundation
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Nobody listens, or whoever did has left without an answer.
struct NoConnection: Error {
  var port: Int
  var place = "connect"
}

/// A connection that tests speak HTTP over byte by byte, so that they can break every rule of it.
///
/// Its calls block, so they run on threads of their own: see ``onThread(_:)``.
final class HTTPConnection {
  struct Response: Sendable {
    var status: Int
    var headers: [String: String]
    var body: [UInt8]

    var text: String { String(decoding: body, as: UTF8.self) }

    func json() throws -> [String: Any] {
      try #require(try JSONSerialization.jsonObject(with: Data(body)) as? [String: Any], "\(text)")
    }

    /// The values of server-sent events.
    var events: [String] {
      text.components(separatedBy: "\n\n").filter { !$0.isEmpty }.map {
        $0.hasPrefix("data: ") ? String($0.dropFirst(6)) : "not an event: \($0)"
      }
    }
  }

  private let port: Int
  private let descriptor: Int32
  private var received: [UInt8] = []
  private var isOpen = true

  init(port: Int) throws {
    self.port = port
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    // Long: other tests that compute can keep the server's tasks from running for minutes.
    var limit = timeval(tv_sec: 600, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = in_port_t(port).bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = descriptor
    let status = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, size) }
    }
    guard status == 0 else { throw NoConnection(port: port) }
  }

  deinit { close() }

  func close() {
    guard isOpen else { return }
    isOpen = false
    #if canImport(Glibc)
      _ = Glibc.close(descriptor)
    #elseif canImport(Musl)
      _ = Musl.close(descriptor)
    #else
      _ = Darwin.close(descriptor)
    #endif
  }

  /// Closes this side of the connection and goes on reading.
  func finishSending() { shutdown(descriptor, Int32(SHUT_WR)) }

  /// - Returns: Whether all of it was taken.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }

  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  func send(
    _ method: String, _ path: String, body: [UInt8]? = nil, headers: [String: String] = [:]
  ) {
    var head = "\(method) \(path) HTTP/1.1\r\n"
    var fields = ["host": "127.0.0.1", "content-type": "application/json"]
    if let body { fields["content-length"] = "\(body.count)" }
    for (name, value) in fields.merging(headers, uniquingKeysWith: { $1 }) { head += "\(name): \(value)\r\n" }
    send(Array((head + "\r\n").utf8) + (body ?? []))
  }

  /// More bytes; `false` at the end, and when nothing came for too long.
  private func receive() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    guard count > 0 else { return false }
    received += buffer[..<count]
    return true
  }

  /// Waits until that text has come.
  func waitFor(_ text: String) -> Bool {
    while received.firstRange(of: Array(text.utf8)) == nil {
      guard receive() else { return false }
    }
    return true
  }

  /// Whether the other side closes the connection, whatever it says before.
  func waitForEnd() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count > 0 { continue }
      return count == 0 || errno == ECONNRESET
    }
  }

  /// All that comes until the other side closes the connection.
  func rest() -> String {
    while receive() {}
    return String(decoding: received, as: UTF8.self)
  }

  private func line() throws -> String {
    while true {
      if let end = received.firstRange(of: [13, 10]) {
        defer { received.removeSubrange(..<end.upperBound) }
        return String(decoding: received[..<end.lowerBound], as: UTF8.self)
      }
      guard receive() else { throw NoConnection(port: port, place: "line") }
    }
  }

  private func bytes(_ count: Int) throws -> [UInt8] {
    while received.count < count {
      guard receive() else { throw NoConnection(port: port, place: "body") }
    }
    defer { received.removeSubrange(..<count) }
    return Array(received[..<count])
  }

  func response() throws -> Response {
    let parts = try line().split(separator: " ")
    try #require(parts.count >= 2 && parts[0] == "HTTP/1.1")
    var response = Response(status: Int(parts[1]) ?? 0, headers: [:], body: [])
    while true {
      let line = try line()
      if line.isEmpty { break }
      let colon = try #require(line.firstIndex(of: ":"))
      response.headers[line[..<colon].lowercased()] =
        line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    if response.headers["transfer-encoding"] == "chunked" {
      while true {
        let count = try #require(Int(try line(), radix: 16))
        response.body += try bytes(count)
        _ = try line()
        if count == 0 { break }
      }
    } else {
      response.body = try bytes(Int(response.headers["content-length"] ?? "0") ?? 0)
    }
    return response
  }
}

/// Runs what blocks on a thread of its own: the threads of tasks are few, and the server needs them.
func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
  }
}
