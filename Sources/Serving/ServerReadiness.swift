import Synchronization

/// Whether a server has its model, and what answers requests once it has.
final class ServerReadiness: Sendable {
  private struct State {
    var routes: Routes?
    var isStopping = false
  }

  let metrics = ServerMetrics()
  private let configuration: ServerConfiguration
  private let state = Mutex(State())

  init(_ configuration: ServerConfiguration) { self.configuration = configuration }

  /// Begins to answer with a model.
  ///
  /// - Returns: Whether it does; not where the server was told to stop in the meantime.
  /// - Throws: ``ServerError`` for a context that it does not have.
  @discardableResult
  func serve(_ served: ServedModel) throws -> Bool {
    if let context = configuration.context, !(2...max(2, served.model.contextLength)).contains(context) {
      throw ServerError("context must be in 2...\(served.model.contextLength), but is \(context)")
    }
    var limits = ModelEngine.Limits()
    limits.slots = configuration.slots
    limits.queue = configuration.queue
    limits.prefixBytes = configuration.prefixBytes
    return state.withLock { state in
      guard !state.isStopping else { return false }
      let engine = ModelEngine(model: served.model, limits: limits, metrics: metrics)
      for certificate in served.certificates { certificate.watch?.tell(metrics) }
      state.routes = Routes(served: served, configuration: configuration, engine: engine)
      return true
    }
  }

  var engine: ModelEngine? { state.withLock { $0.routes?.engine } }

  /// - Throws: ``APIError`` while there is no model.
  func routes() throws -> Routes {
    try state.withLock { state in
      if let routes = state.routes { return routes }
      throw state.isStopping ? APIError.stopping : APIError.loading
    }
  }

  private func stop() -> ModelEngine? {
    state.withLock { state in
      state.isStopping = true
      return state.routes?.engine
    }
  }

  /// Answers what was taken, and nothing more.
  func drain() async { await stop()?.drain() }

  /// Gives up what is under way.
  func abort() async {
    let engine = stop()
    engine?.abort()
    await engine?.drain()
  }
}

/// Why there is no model, and whom to tell.
package final class LoadFailure: Sendable {
  private struct State {
    var error: (any Error)?
    var tell: (@Sendable () -> Void)?
  }

  private let state = Mutex(State())

  package init() {}

  var error: (any Error)? { state.withLock(\.error) }

  func onFailure(_ tell: @escaping @Sendable () -> Void) {
    let isKnown = state.withLock { state in
      state.tell = tell
      return state.error != nil
    }
    if isKnown { tell() }
  }

  func note(_ error: any Error) {
    let tell = state.withLock { state in
      state.error = error
      return state.tell
    }
    tell?()
  }
}
