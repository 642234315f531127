import HTTPTypes
import Hummingbird
import NIOCore

/// Lets pages of other origins use the server, those that are named (the Fetch standard, section 3.2).
struct CrossOriginMiddleware: RouterMiddleware {
  let origins: [String]

  func handle(
    _ request: Request, context: ServingContext,
    next: (Request, ServingContext) async throws -> Response
  ) async throws -> Response {
    guard let origin = request.headers[.origin], origins.contains(origin) || origins.contains("*") else {
      return try await next(request, context)
    }
    var response: Response
    let isQuestion = request.method == .options && request.headers[.accessControlRequestMethod] != nil
    if isQuestion {
      response = Response(status: .noContent)
      response.headers[.accessControlAllowMethods] = "GET, POST, OPTIONS"
      // Clients send headers of their own; none of them does anything here.
      response.headers[.accessControlAllowHeaders] = request.headers[.accessControlRequestHeaders]
      response.headers[.accessControlMaxAge] = "600"
    } else {
      response = try await next(request, context)
      response.headers[.accessControlExposeHeaders] = "x-request-id, retry-after"
    }
    response.headers[.accessControlAllowOrigin] = origin
    response.headers[.vary] = "Origin"
    return response
  }
}
