import Generation
import RiskControl

/// Why a request is refused, as OpenAI's clients read it.
package struct APIError: Error, Sendable, Equatable {
  package var status: Int
  package var type: String
  package var message: String
  /// The field at fault.
  package var param: String?
  package var code: String?
  /// Seconds after which to try again.
  package var retryAfter: Int?
  /// The method that the place is asked with.
  package var allow: String?

  /// A request that cannot be carried out as it is.
  static func invalid(_ message: String, param: String? = nil, code: String? = nil) -> APIError {
    APIError(status: 400, type: "invalid_request_error", message: message, param: param, code: code)
  }

  /// A field of something that is not offered here.
  static func unsupported(_ what: String, param: String) -> APIError {
    .invalid("\(param): \(what)", param: param, code: "unsupported_value")
  }

  static let unauthorized = APIError(
    status: 401, type: "invalid_request_error",
    message: "a key is needed: Authorization: Bearer KEY", code: "invalid_api_key")

  static func forbidden(_ message: String) -> APIError {
    APIError(status: 403, type: "invalid_request_error", message: message, code: "forbidden")
  }

  static func modelNotFound(_ name: String, served: String) -> APIError {
    APIError(
      status: 404, type: "invalid_request_error",
      message: "the model \(name) is not served here; \(served) is", param: "model", code: "model_not_found")
  }

  static func notFound(_ what: String) -> APIError {
    APIError(
      status: 404, type: "invalid_request_error", message: "there is nothing at \(what)", code: "not_found")
  }

  static func wrongMethod(_ what: String, allow: String) -> APIError {
    APIError(
      status: 405, type: "invalid_request_error", message: "\(what) is asked with \(allow)",
      code: "method_not_allowed", allow: allow)
  }

  static func tooLarge(limit: Int) -> APIError {
    APIError(
      status: 413, type: "invalid_request_error",
      message: "the body has more than \(limit) bytes, the most that is read", code: "request_too_large")
  }

  static func full(retryAfter: Int) -> APIError {
    APIError(
      status: 429, type: "rate_limit_error",
      message: "as many requests wait as may; try again in \(retryAfter) s", code: "queue_full",
      retryAfter: retryAfter)
  }

  static let stopping = APIError(
    status: 503, type: "server_error", message: "the server is about to stop", code: "stopping", retryAfter: 5
  )

  static let loading = APIError(
    status: 503, type: "server_error", message: "the model is being loaded", code: "loading", retryAfter: 2)

  /// Counted and logged; nobody reads it. The status is nginx's.
  static let clientLeft = APIError(
    status: 499, type: "invalid_request_error", message: "the client left", code: "client_left")

  static func timeout(seconds: Int) -> APIError {
    APIError(
      status: 503, type: "server_error", message: "the output was not complete after \(seconds) s",
      code: "timeout")
  }

  /// Whatever was thrown, as something to answer with. What is not the client's fault says nothing of the inside.
  ///
  /// - Parameter prompt: The field that the prompt came from.
  static func from(_ error: any Error, prompt: String) -> APIError {
    switch error {
    case let error as APIError: return error
    case EngineError.full(let seconds): return .full(retryAfter: seconds)
    case EngineError.stopping: return .stopping
    case is CancellationError: return .clientLeft
    case let error as GenerationError:
      switch error {
      case .promptTooLong, .sourceTooLong:
        return .invalid("\(error)", param: prompt, code: "context_length_exceeded")
      case .option(let field, _, _):
        return .invalid("\(error)", param: field.replacing("-", with: "_"))
      case .schema(let place, let problem):
        let path = ResponseFormat.schemaPath + (place.isEmpty ? "" : "." + place)
        return .unsupported(problem, param: path)
      case .emptyText(let field): return .invalid("\(error)", param: field)
      default: return .invalid("\(error)", param: prompt)
      }
    default:
      return APIError(
        status: 500, type: "server_error", message: "the request could not be carried out", code: "internal")
    }
  }

  /// `{"error": {"message", "type", "param", "code"}}`
  var json: JSONValue {
    .object([
      "error": .object([
        "message": .text(message), "type": .text(type), "param": param.map { .text($0) } ?? .null,
        "code": code.map { .text($0) } ?? .null,
      ])
    ])
  }
}
