import Foundation
import Generation
import HTTPTypes
import Hummingbird
import Logging
import NIOCore
import RiskControl

/// A request whose outputs are under way: given up when its client leaves or its time is over.
struct ServedRequest: Sendable {
  private let stream: EngineStream
  private let signal: CloseSignal?
  private let registration: Int?
  private let deadline: Scheduled<Void>
  private let logger: Logger
  private let start = ContinuousClock.now
  private let count: Int

  init(
    _ stream: EngineStream, signal: CloseSignal?, context: ServingContext, configuration: ServerConfiguration,
    count: Int
  ) {
    self.stream = stream
    self.signal = signal
    self.count = count
    logger = context.logger
    registration = signal?.onClose { stream.cancel() }
    let channel = context.channel
    let (seconds, rest) = (configuration.requestSeconds, configuration.lastWordSeconds)
    deadline = channel.eventLoop.scheduleTask(in: .seconds(Int64(seconds))) {
      stream.cancel(throwing: APIError.timeout(seconds: seconds))
      // A client that does not read its answer would hold the connection for ever.
      channel.eventLoop.scheduleTask(in: .seconds(Int64(rest))) { channel.close(promise: nil) }
    }
  }

  var events: AsyncThrowingStream<EngineEvent, any Error> { stream.events }

  /// All outputs, when they are complete.
  ///
  /// - Parameter observe: Told of every token.
  func outputs(_ observe: (TokenStep) -> Void = { _ in }) async throws -> [Generation] {
    defer { end() }
    var outputs = [Generation?](repeating: nil, count: count)
    do {
      for try await event in events {
        switch event {
        case .token(_, let step): observe(step)
        case .finished(let index, let generation): outputs[index] = generation
        }
      }
    } catch is CancellationError {
      throw stream.reason
    }
    let complete = outputs.compactMap { $0 }
    // The stream of a task that was cancelled ends without an error.
    guard complete.count == count else { throw stream.reason }
    note(complete.reduce(0) { $0 + $1.tokenIDs.count })
    return complete
  }

  /// A response of server-sent events; an error after the first is an event, too.
  ///
  /// - Parameter body: Writes all events but the last, `[DONE]`.
  func stream(
    _ body: @escaping @Sendable (_ write: (JSONValue) async throws -> Void) async throws -> Void
  ) -> Response {
    Response(
      status: .ok,
      headers: [
        .contentType: "text/event-stream; charset=utf-8", .cacheControl: "no-cache", .accelBuffering: "no",
      ],
      body: .init { writer in
        defer { end() }
        var written = 0
        do {
          try await body { value in
            written += 1
            try await writer.write(ByteBuffer(string: "data: " + value.line + "\n\n"))
          }
          try await writer.write(ByteBuffer(string: "data: [DONE]\n\n"))
        } catch is CancellationError {
          throw CancellationError()
        } catch let error as ChannelError {
          throw error
        } catch {
          let answer = APIError.from(error, prompt: "prompt")
          if answer.status == 500 { logger.error("stream failed", metadata: ["error": "\(error)"]) }
          try await writer.write(ByteBuffer(string: "data: " + answer.json.line + "\n\n"))
        }
        try await writer.finish(nil)
        note(written)
      })
  }

  private func note(_ pieces: Int) {
    logger.info(
      "answered",
      metadata: [
        "outputs": "\(count)", "pieces": "\(pieces)",
        "milliseconds": "\(Int((ContinuousClock.now - start).seconds * 1000))",
      ])
  }

  private func end() {
    deadline.cancel()
    if let registration { signal?.forget(registration) }
  }
}

extension Routes {
  /// Gives a request to the engine.
  func begin(_ works: [EngineWork], _ context: ServingContext, isPart: Bool = false) async throws
    -> ServedRequest
  {
    let signal = await context.closeSignal()
    return ServedRequest(
      try engine.submit(works, isPart: isPart), signal: signal, context: context,
      configuration: configuration, count: works.count)
  }
}
