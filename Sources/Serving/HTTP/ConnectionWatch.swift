import NIOCore
import NIOHTTPTypes
import Synchronization

/// Tells whoever answers a connection's request that the client has left.
final class CloseSignal: Sendable {
  private struct State {
    var isClosed = false
    var handlers: [Int: @Sendable () -> Void] = [:]
    var next = 0
  }

  private let state = Mutex(State())

  /// Calls `handler` when the client leaves, at once where it has left already.
  ///
  /// - Returns: What ``forget(_:)`` takes.
  func onClose(_ handler: @escaping @Sendable () -> Void) -> Int {
    let (id, isClosed) = state.withLock { state in
      defer { state.next += 1 }
      if !state.isClosed { state.handlers[state.next] = handler }
      return (state.next, state.isClosed)
    }
    if isClosed { handler() }
    return id
  }

  func forget(_ id: Int) { state.withLock { _ = $0.handlers.removeValue(forKey: id) } }

  func close() {
    let handlers = state.withLock { state in
      state.isClosed = true
      defer { state.handlers = [:] }
      return Array(state.handlers.values)
    }
    for handler in handlers { handler() }
  }
}

/// Sees a connection's end, also while a request on it is answered: a client that closes its side of a connection has
/// no use for the answer.
final class ConnectionWatch: ChannelInboundHandler, RemovableChannelHandler, Sendable {
  typealias InboundIn = HTTPRequestPart
  typealias InboundOut = HTTPRequestPart

  let signal = CloseSignal()

  func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
    if case .inputClosed? = event as? ChannelEvent { signal.close() }
    context.fireUserInboundEventTriggered(event)
  }

  func channelInactive(context: ChannelHandlerContext) {
    signal.close()
    context.fireChannelInactive()
  }
}
