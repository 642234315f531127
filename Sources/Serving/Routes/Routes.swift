import Generation
import HTTPTypes
import Hummingbird
import NIOCore
import RiskControl
import Synchronization
import Transformers

/// What answers requests.
struct Routes: Sendable {
  let served: ServedModel
  let configuration: ServerConfiguration
  let engine: ModelEngine

  // MARK: - What there is

  @Sendable func health(_ request: Request, _ context: ServingContext) async throws -> Response {
    guard !engine.isStopping else { throw APIError.stopping }
    return Self.respond(.object(["status": .text("ok")]))
  }

  @Sendable func models(_ request: Request, _ context: ServingContext) async throws -> Response {
    Self.respond(.object(["object": .text("list"), "data": .array([description])]))
  }

  @Sendable func model(_ request: Request, _ context: ServingContext) async throws -> Response {
    let name = context.parameters.get("id")?.removingPercentEncoding ?? ""
    guard name == served.name else { throw APIError.modelNotFound(printable(name), served: served.name) }
    return Self.respond(description)
  }

  private var description: JSONValue {
    .object([
      "id": .text(served.name), "object": .text("model"), "created": .integer(served.created),
      "owned_by": .text("egress"), "context_length": .integer(contextLength),
    ])
  }

  /// Tokens that prompt and output may have together.
  var contextLength: Int { configuration.context ?? served.model.contextLength }

  /// What a path is asked with; `nil` for one that nothing is at.
  static func method(of path: String) -> String? {
    switch path {
    case "/", "/health", "/metrics", "/v1/models": return "GET"
    case "/v1/chat/completions", "/v1/completions", "/v1/egress/summarize", "/v1/egress/answer": return "POST"
    default:
      let parts = path.split(separator: "/")
      return parts.count == 3 && parts[0] == "v1" && parts[1] == "models" ? "GET" : nil
    }
  }

  static func metrics(_ counts: ServerMetrics) -> Response {
    Response(
      status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
      body: .init(byteBuffer: ByteBuffer(string: counts.prometheus)))
  }

  static var page: Response {
    var headers: HTTPFields = [.contentType: "text/html; charset=utf-8", .cacheControl: "no-cache"]
    // The page has all it needs in it, and speaks to this server alone.
    headers[.contentSecurityPolicy] =
      "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
      + "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    headers[.xContentTypeOptions] = "nosniff"
    return Response(
      status: .ok, headers: headers, body: .init(byteBuffer: ByteBuffer(bytes: PackageResources.page_html)))
  }

  static func respond(_ value: JSONValue) -> Response {
    Response(
      status: .ok, headers: [.contentType: "application/json"],
      body: .init(byteBuffer: ByteBuffer(string: value.line + "\n")))
  }

  // MARK: - Reading

  /// The fields of a request's body.
  func fields(_ request: Request, _ context: ServingContext) async throws -> RequestFields {
    // Other types a web page may send anywhere without asking first.
    let type = request.headers[.contentType]?.split(separator: ";").first?.trimmingCharacters(
      in: .whitespaces)
    guard type?.lowercased() == "application/json" else {
      throw APIError.invalid("the header Content-Type must be application/json", code: "invalid_content_type")
    }
    let limit = configuration.bodyLimit
    if let length = request.headers[.contentLength].flatMap({ Int($0) }), length > limit {
      hangUp(context)
      throw APIError.tooLarge(limit: limit)
    }
    let body: ByteBuffer
    do {
      body = try await request.body.collect(upTo: limit)
    } catch is NIOTooManyBytesError {
      hangUp(context)
      throw APIError.tooLarge(limit: limit)
    } catch let error as HTTPError where error.status == .contentTooLarge {
      hangUp(context)
      throw APIError.tooLarge(limit: limit)
    } catch let error where !(error is CancellationError) {
      // The client left in the middle of it, or its chunks are none.
      hangUp(context)
      throw APIError.invalid("the body could not be read to its end", code: "invalid_body")
    }
    return try RequestFields(body: Array(body.readableBytesView))
  }

  /// Closes a connection whose request is not read to its end, when the client has had time to read why.
  private func hangUp(_ context: ServingContext) {
    let channel = context.channel
    channel.eventLoop.scheduleTask(in: .seconds(1)) { channel.close(promise: nil) }
  }

  func check(_ name: String?) throws {
    guard let name, name != served.name else { return }
    throw APIError.modelNotFound(printable(name), served: served.name)
  }

  private func printable(_ name: String) -> String {
    String(
      name.unicodeScalars.prefix(80).filter { !$0.properties.isDefaultIgnorableCodePoint && $0.value >= 32 }
        .map(Character.init))
  }

  /// - Throws: ``APIError`` for a prompt that leaves no room, and options out of range.
  func validate(_ prompt: [TokenID], _ options: GenerationOptions, param: String) throws {
    do {
      let context = try options.validatedContext(contextLength: served.model.contextLength)
      guard !prompt.isEmpty else { throw GenerationError.emptyText(field: param) }
      if served.model.hasEncoder {
        guard prompt.count <= context else {
          throw GenerationError.sourceTooLong(tokens: prompt.count, limit: context)
        }
      } else {
        guard prompt.count < context else {
          throw GenerationError.promptTooLong(tokens: prompt.count, context: context)
        }
      }
    } catch {
      throw APIError.from(error, prompt: param)
    }
  }

  /// Tokens of an output where the request names no number.
  func usualMaxTokens(after prompt: [TokenID]) -> Int {
    let room = served.model.hasEncoder ? contextLength : contextLength - prompt.count
    return max(1, min(configuration.usualMaxTokens, room))
  }
}
