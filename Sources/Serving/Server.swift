import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import ServiceLifecycle

/// Serves a model over OpenAI's protocol.
///
/// ```swift
/// let subject = try DecodingSubject(path: "model.gguf")
/// try await Server(ServedModel(name: "model", subject: subject), configuration: ServerConfiguration()).run()
/// ```
public struct Server: Sendable {
  private let configuration: ServerConfiguration
  private let readiness: ServerReadiness
  private let logger: Logger
  /// What is done once there is an address; `nil` where the model is there already.
  private let load: (@Sendable () throws -> ServedModel)?

  /// - Parameters:
  ///   - served: The model.
  ///   - configuration: Where to listen, and how much to take on.
  ///   - logger: Told of requests, never of what they say.
  /// - Throws: ``ServerError`` for a configuration that cannot be.
  public init(
    _ served: ServedModel, configuration: ServerConfiguration, logger: Logger = Logger(label: "egress.serve")
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    self.logger = logger
    load = nil
    readiness = ServerReadiness(configuration)
    try readiness.serve(served)
  }

  /// A server that listens before its model is there: until then requests are answered with 503 and `Retry-After`.
  ///
  /// - Parameters:
  ///   - configuration: Where to listen, and how much to take on.
  ///   - logger: Told of requests, never of what they say.
  ///   - load: Makes the model, on a thread of its own. ``run(onListening:onReady:)`` throws what it throws.
  /// - Throws: ``ServerError`` for a configuration that cannot be.
  public init(
    configuration: ServerConfiguration, logger: Logger = Logger(label: "egress.serve"),
    load: @escaping @Sendable () throws -> ServedModel
  ) throws {
    try configuration.validate()
    self.configuration = configuration
    self.logger = logger
    self.load = load
    readiness = ServerReadiness(configuration)
  }

  /// What runs the model; `nil` until that is there.
  package var engine: ModelEngine? { readiness.engine }

  /// Serves until the process is told to stop (SIGTERM or SIGINT): no new connections then, requests under way are
  /// answered, and this returns.
  ///
  /// - Parameters:
  ///   - onListening: Told the port when there is one.
  ///   - onReady: Told the port when requests are answered.
  /// - Throws: What the system says where it does not let the address be used, and why there is no model.
  public func run(
    onListening: @escaping @Sendable (Int) -> Void = { _ in },
    onReady: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws {
    let failure = LoadFailure()
    let service = application { port in
      onListening(port)
      start(failure) { onReady(port) }
    }
    var configuration = ServiceGroupConfiguration(
      services: [service], gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet(logger))
    configuration.maximumGracefulShutdownDuration = .seconds(self.configuration.drainSeconds)
    let group = ServiceGroup(configuration: configuration)
    failure.onFailure { Task { await group.triggerGracefulShutdown() } }
    do {
      try await group.run()
    } catch {
      await readiness.abort()
      throw failure.error ?? error
    }
    if let error = failure.error { throw error }
  }

  /// Loads the model on a thread that may block.
  package func start(_ failure: LoadFailure = LoadFailure(), onReady: @escaping @Sendable () -> Void = {}) {
    guard let load else { return onReady() }
    let thread = Thread { [readiness] in
      do {
        if try readiness.serve(load()) { onReady() }
      } catch {
        failure.note(error)
      }
    }
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// The server as a service of a program that has more of them.
  package func application(onListening: @escaping @Sendable (Int) -> Void) -> some Service {
    var application = ApplicationConfiguration(
      address: .hostname(configuration.host, port: configuration.port), serverName: "egress")
    application.availableConnectionsDelegate = MaximumAvailableConnections(
      configuration.connectionLimit, logger: quiet(logger))
    return Application(
      responder: router().buildResponder(),
      server: .http1(
        configuration: .init(
          additionalChannelHandlers: [ConnectionWatch()],
          idleTimeout: .seconds(Int64(configuration.idleSeconds)))),
      configuration: application,
      services: [EngineService(readiness: readiness)],
      onServerRunning: { channel in onListening(channel.localAddress?.port ?? configuration.port) },
      logger: logger)
  }

  /// What the libraries below have to say of every start and stop is of no use to whoever serves a model.
  private func quiet(_ logger: Logger) -> Logger {
    var logger = logger
    logger.logLevel = max(logger.logLevel, .error)
    return logger
  }

  private func router() -> Router<ServingContext> {
    let router = Router(context: ServingContext.self)
    if !configuration.origins.isEmpty {
      router.add(middleware: CrossOriginMiddleware(origins: configuration.origins))
    }
    router.add(middleware: ErrorMiddleware(metrics: readiness.metrics))
    router.add(middleware: KeyMiddleware(keys: configuration.keys, isLoopback: configuration.isLoopback))
    let readiness = readiness
    router.get("health") { try await readiness.routes().health($0, $1) }
    router.get("v1/models") { try await readiness.routes().models($0, $1) }
    router.get("v1/models/:id") { try await readiness.routes().model($0, $1) }
    router.post("v1/chat/completions") { try await readiness.routes().chat($0, $1) }
    router.post("v1/completions") { try await readiness.routes().completions($0, $1) }
    router.post("v1/egress/summarize") { try await readiness.routes().summarize($0, $1) }
    router.post("v1/egress/answer") { try await readiness.routes().answer($0, $1) }
    router.get("metrics") { _, _ in Routes.metrics(readiness.metrics) }
    router.get("") { _, _ in Routes.page }
    return router
  }
}

/// Ends the engine after the server that asks it: services stop in the reverse of the order in which they began.
struct EngineService: Service {
  let readiness: ServerReadiness

  func run() async throws {
    do {
      try await gracefulShutdown()
    } catch {
      // Not graceful: time is up.
      await readiness.abort()
    }
    await readiness.drain()
  }
}
