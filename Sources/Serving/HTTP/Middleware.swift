import Foundation
import HTTPTypes
import Hummingbird
import NIOCore
import RiskControl

/// Makes answers of errors, counts requests and logs them, without anything that they say.
struct ErrorMiddleware: RouterMiddleware {
  let metrics: ServerMetrics

  func handle(
    _ request: Request, context: ServingContext,
    next: (Request, ServingContext) async throws -> Response
  ) async throws -> Response {
    let start = ContinuousClock.now
    var response: Response
    do {
      response = try await next(request, context)
    } catch let error as HTTPError where error.status == .notFound {
      let path = request.uri.path
      if let allow = Routes.method(of: path), allow != request.method.rawValue {
        response = APIError.wrongMethod("\(path.prefix(200))", allow: allow).response
      } else {
        response = APIError.notFound("\(request.method) \(path.prefix(200))").response
      }
    } catch {
      let answer = APIError.from(error, prompt: "body")
      if answer.status == 500 {
        context.logger.error("request failed", metadata: ["error": "\(error)"])
      }
      response = answer.response
    }
    response.headers[.requestID] = context.id
    let (route, status) = (context.endpointPath ?? "other", response.status.code)
    metrics.noteRequest(route: route, status: status)
    context.logger.info(
      "request",
      metadata: [
        "method": "\(request.method)", "route": "\(route)", "status": "\(status)",
        "milliseconds": "\(Int((ContinuousClock.now - start).seconds * 1000))",
      ])
    return response
  }
}

/// Lets nobody in without the key, where there is one.
struct KeyMiddleware: RouterMiddleware {
  let keys: [String]
  /// Whether only this machine reaches the server. A web page somewhere else may then still make a browser here ask.
  let isLoopback: Bool

  func handle(
    _ request: Request, context: ServingContext,
    next: (Request, ServingContext) async throws -> Response
  ) async throws -> Response {
    guard request.uri.path != "/health" else { return try await next(request, context) }
    if keys.isEmpty {
      if isLoopback, let host = request.head.authority, !Self.isLocal(host) {
        throw APIError.forbidden("a server without a key answers to localhost, 127.0.0.1 and [::1] only")
      }
      return try await next(request, context)
    }
    guard let given = Self.key(request.headers[.authorization]),
      keys.contains(where: { Self.equal($0, given) })
    else {
      var response = APIError.unauthorized.response
      // A browser asks for a name and the key.
      response.headers[.wwwAuthenticate] =
        request.uri.path == "/" ? "Basic realm=\"egress\", charset=\"UTF-8\"" : "Bearer"
      return response
    }
    return try await next(request, context)
  }

  /// The key of `Bearer KEY`, or the password of a browser.
  static func key(_ header: String?) -> String? {
    guard let header else { return nil }
    let parts = header.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
    guard parts.count == 2 else { return nil }
    switch parts[0].lowercased() {
    case "bearer": return String(parts[1]).trimmingCharacters(in: .whitespaces)
    case "basic":
      guard let data = Data(base64Encoded: String(parts[1])),
        let text = String(validating: data, as: UTF8.self), let colon = text.firstIndex(of: ":")
      else { return nil }
      return String(text[text.index(after: colon)...])
    default: return nil
    }
  }

  /// Takes as long for a wrong key as for the right one of that length.
  static func equal(_ first: String, _ second: String) -> Bool {
    let (first, second) = (Array(first.utf8), Array(second.utf8))
    guard first.count == second.count else { return false }
    return zip(first, second).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
  }

  static func isLocal(_ authority: String) -> Bool {
    var host = Substring(authority.lowercased())
    if host.hasPrefix("[") {
      host = host.prefix { $0 != "]" }.dropFirst()
    } else if let colon = host.lastIndex(of: ":") {
      host = host[..<colon]
    }
    return host == "localhost" || host == "::1"
      || host.hasPrefix("127.") && host.allSatisfy { $0.isNumber || $0 == "." }
  }
}

extension APIError {
  var response: Response {
    var headers: HTTPFields = [.contentType: "application/json"]
    if let retryAfter { headers[.retryAfter] = "\(retryAfter)" }
    if let allow { headers[.allow] = allow }
    // The rest of the body is not read: clients must not go on with such a connection.
    if status == 413 { headers[.connection] = "close" }
    return Response(
      status: .init(code: status), headers: headers,
      body: .init(byteBuffer: ByteBuffer(string: json.line + "\n")))
  }
}

extension HTTPField.Name {
  static let requestID = Self.known("x-request-id")
  static let retryAfter = Self.known("retry-after")
  static let accelBuffering = Self.known("x-accel-buffering")

  private static func known(_ name: String) -> HTTPField.Name { HTTPField.Name(name) ?? .server }
}
