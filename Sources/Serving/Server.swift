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
  private let routes: Routes
  package let engine: ModelEngine
  private let logger: Logger

  /// - Parameters:
  ///   - served: The model.
  ///   - configuration: Where to listen, and how much to take on.
  ///   - logger: Told of requests, never of what they say.
  /// - Throws: ``ServerError`` for a configuration that cannot be.
  public init(
    _ served: ServedModel, configuration: ServerConfiguration, logger: Logger = Logger(label: "egress.serve")
  ) throws {
    guard configuration.slots >= 1, configuration.queue >= 0 else {
      throw ServerError("a server needs at least one slot, and a queue of 0 or more")
    }
    guard configuration.keys.allSatisfy({ !$0.isEmpty }) else { throw ServerError("a key must not be empty") }
    if let context = configuration.context, !(2...served.model.contextLength).contains(context) {
      throw ServerError("context must be in 2...\(served.model.contextLength), but is \(context)")
    }
    self.configuration = configuration
    self.logger = logger
    let metrics = ServerMetrics()
    var limits = ModelEngine.Limits()
    limits.slots = configuration.slots
    limits.queue = configuration.queue
    limits.prefixBytes = configuration.prefixBytes
    engine = ModelEngine(model: served.model, limits: limits, metrics: metrics)
    routes = Routes(served: served, configuration: configuration, engine: engine, counts: metrics)
  }

  /// Serves until the process is told to stop (SIGTERM or SIGINT): no new connections then, requests under way are
  /// answered, and this returns.
  ///
  /// - Parameter onListening: Told the port when there is one.
  /// - Throws: What the system says where it does not let the address be used.
  public func run(onListening: @escaping @Sendable (Int) -> Void = { _ in }) async throws {
    var group = ServiceGroupConfiguration(
      services: [application(onListening: onListening)], gracefulShutdownSignals: [.sigterm, .sigint],
      logger: quiet(logger))
    group.maximumGracefulShutdownDuration = .seconds(configuration.drainSeconds)
    do {
      try await ServiceGroup(configuration: group).run()
    } catch {
      engine.abort()
      await engine.drain()
      throw error
    }
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
      services: [EngineService(engine: engine)],
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
    router.add(middleware: ErrorMiddleware(metrics: routes.counts))
    router.add(middleware: KeyMiddleware(keys: configuration.keys, isLoopback: configuration.isLoopback))
    router.get("health", use: routes.health)
    router.get("v1/models", use: routes.models)
    router.get("v1/models/:id", use: routes.model)
    router.post("v1/chat/completions", use: routes.chat)
    router.post("v1/completions", use: routes.completions)
    router.post("v1/egress/summarize", use: routes.summarize)
    router.post("v1/egress/answer", use: routes.answer)
    router.get("metrics", use: routes.metrics)
    router.get("", use: routes.page)
    return router
  }
}

/// Ends the engine after the server that asks it: services stop in the reverse of the order in which they began.
struct EngineService: Service {
  let engine: ModelEngine

  func run() async throws {
    do {
      try await gracefulShutdown()
    } catch {
      // Not graceful: time is up.
      engine.abort()
    }
    await engine.drain()
  }
}
