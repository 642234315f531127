import Hummingbird
import Logging
import NIOCore

/// What is known of a request beside its head and body.
struct ServingContext: RequestContext {
  var coreContext: CoreRequestContextStorage
  let channel: any Channel

  init(source: ApplicationRequestContextSource) {
    coreContext = .init(source: source)
    channel = source.channel
  }

  /// Says when the client leaves; `nil` where the connection has gone already.
  func closeSignal() async -> CloseSignal? {
    try? await channel.pipeline.handler(type: ConnectionWatch.self).map(\.signal).get()
  }
}
