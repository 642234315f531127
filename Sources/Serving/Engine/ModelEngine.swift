import Dispatch
import Foundation
import Generation
import Synchronization
import Transformers

/// One output to decode.
package struct EngineWork: Sendable {
  package var prompt: [TokenID]
  package var options: GenerationOptions
  package var strategy: any DecodingStrategy

  package init(
    prompt: [TokenID], options: GenerationOptions, strategy: any DecodingStrategy = FullDepth()
  ) {
    self.prompt = prompt
    self.options = options
    self.strategy = strategy
  }
}

/// An output to decode once more while nobody waits.
package struct AuditWork: Sendable {
  /// `nil` where there is nothing to decode.
  package var work: EngineWork?
  /// Told the output, on the engine's thread. Not called for what is dropped.
  package var finish: @Sendable (Generation?) -> Void

  package init(work: EngineWork?, finish: @escaping @Sendable (Generation?) -> Void) {
    self.work = work
    self.finish = finish
  }
}

/// What happens to the outputs of a request; `sequence` is the output's place in it.
package enum EngineEvent: Sendable {
  /// An output's next token.
  case token(sequence: Int, TokenStep)
  /// An output is complete.
  case finished(sequence: Int, Generation)
}

/// Why a request is not taken.
package enum EngineError: Error, Equatable {
  /// As many wait as may; there may be room in so many seconds.
  case full(retryAfter: Int)
  /// The engine is about to stop.
  case stopping
}

/// Runs the model: one thread that owns a ``BatchDecoder`` and decodes all requests together.
///
/// Requests join and leave between passes. Each output is the one that its request gets alone, to the bit.
package final class ModelEngine: Sendable {
  package struct Limits: Sendable {
    /// Outputs decoded at a time.
    package var slots = 8
    /// Outputs that may wait for a slot.
    package var queue = 64
    /// Bytes of keys and values kept for prompts that begin alike; 0 for none.
    package var prefixBytes = 256 << 20
    /// Audits that may wait for an idle moment; further ones are dropped.
    package var audits = 64

    package init() {}
  }

  typealias Continuation = AsyncThrowingStream<EngineEvent, any Error>.Continuation

  /// A request that was taken.
  struct Group: Sendable {
    let id: Int
    let works: [EngineWork]
    let continuation: Continuation
    let arrival: ContinuousClock.Instant
  }

  private struct Shared {
    /// Taken, and not yet seen by the thread.
    var arriving: [Group] = []
    /// Requests that nobody waits for any more.
    var left: Set<Int> = []
    /// Outputs of requests taken that have not ended.
    var outstanding = 0
    var nextGroup = 0
    var isStopping = false
    var isOver = false
    var waitingForEnd: [CheckedContinuation<Void, Never>] = []
    var audits: [AuditWork] = []
  }

  let model: LanguageModel
  let limits: Limits
  package let metrics: ServerMetrics
  private let shared = Mutex(Shared())
  /// Signalled when there is something new in `shared`.
  private let wake = DispatchSemaphore(value: 0)

  /// - Parameters:
  ///   - model: What decodes.
  ///   - limits: How much at a time.
  ///   - metrics: Told what happens.
  package init(model: LanguageModel, limits: Limits = Limits(), metrics: ServerMetrics = ServerMetrics()) {
    self.model = model
    self.limits = limits
    self.metrics = metrics
    let thread = Thread { [self] in
      var loop = EngineLoop(self)
      loop.run()
      end()
    }
    thread.name = "egress.engine"
    thread.stackSize = 8 << 20
    thread.start()
  }

  /// Takes a request.
  ///
  /// - Parameters:
  ///   - works: Its outputs.
  ///   - isPart: Whether it belongs to a request that was taken before, and so waits whatever the queue's length.
  /// - Throws: ``EngineError`` where it cannot be taken.
  package func submit(_ works: [EngineWork], isPart: Bool = false) throws -> EngineStream {
    let (events, continuation) = AsyncThrowingStream.makeStream(
      of: EngineEvent.self, throwing: (any Error).self)
    let id = try shared.withLock { shared in
      guard !shared.isOver, isPart || !shared.isStopping else { throw EngineError.stopping }
      guard isPart || shared.outstanding + works.count <= limits.slots + limits.queue else {
        throw EngineError.full(
          retryAfter: metrics.expectedWait(outstanding: shared.outstanding, slots: limits.slots))
      }
      defer { shared.nextGroup += 1 }
      shared.outstanding += works.count
      shared.arriving.append(
        Group(id: shared.nextGroup, works: works, continuation: continuation, arrival: .now))
      return shared.nextGroup
    }
    continuation.onTermination = { [weak self] reason in
      if case .cancelled = reason { self?.leave(id) }
    }
    wake.signal()
    return EngineStream(id: id, events: events, engine: self, continuation: continuation)
  }

  /// Takes an audit: decoded pass by pass while there is no request, so that a request waits for one pass at most. It
  /// is dropped where too many wait, and when the engine stops.
  package func audit(_ audit: AuditWork) {
    let isTaken = shared.withLock { shared in
      guard !shared.isStopping, shared.audits.count < limits.audits else { return false }
      shared.audits.append(audit)
      return true
    }
    if !isTaken { metrics.noteAuditDropped() }
    wake.signal()
  }

  /// Gives a request up: its slots are free before the next pass.
  func leave(_ id: Int) {
    shared.withLock { _ = $0.left.insert(id) }
    wake.signal()
  }

  /// Takes no more requests, and returns when those that were taken are through.
  package func drain() async {
    await withCheckedContinuation { continuation in
      let isOver = shared.withLock { shared in
        shared.isStopping = true
        if !shared.isOver { shared.waitingForEnd.append(continuation) }
        return shared.isOver
      }
      if isOver { continuation.resume() }
      wake.signal()
    }
  }

  /// Takes no more requests, and gives up those under way.
  package func abort() {
    shared.withLock { shared in
      shared.isStopping = true
      shared.left.formUnion(0..<shared.nextGroup)
    }
    wake.signal()
  }

  /// Outputs that wait or are decoded.
  package var outstanding: Int { shared.withLock(\.outstanding) }
  /// Requests that were taken, ended ones too.
  package var takenCount: Int { shared.withLock(\.nextGroup) }
  /// Whether no more requests are taken.
  package var isStopping: Bool { shared.withLock(\.isStopping) }

  // MARK: - For the thread

  /// What is new since the last call.
  func takeNews() -> (arrived: [Group], left: Set<Int>, isStopping: Bool) {
    shared.withLock { shared in
      defer { (shared.arriving, shared.left) = ([], []) }
      return (shared.arriving, shared.left, shared.isStopping)
    }
  }

  func waitForNews() { wake.wait() }

  func takeAudit() -> AuditWork? {
    shared.withLock { $0.audits.isEmpty ? nil : $0.audits.removeFirst() }
  }

  /// Audits that wait for an idle moment.
  var auditsWaiting: Int { shared.withLock(\.audits.count) }

  func noteEnd(of count: Int) { shared.withLock { $0.outstanding -= count } }

  private func end() {
    let waiting = shared.withLock { shared in
      shared.isOver = true
      // Came between the last look and now.
      for group in shared.arriving { group.continuation.finish(throwing: EngineError.stopping) }
      shared.arriving = []
      defer { shared.waitingForEnd = [] }
      return shared.waitingForEnd
    }
    for continuation in waiting { continuation.resume() }
  }
}

/// The outputs of a request while they come.
package struct EngineStream: Sendable {
  let id: Int
  /// What happens, in order; it ends when all outputs are complete.
  package let events: AsyncThrowingStream<EngineEvent, any Error>
  private let engine: ModelEngine
  private let continuation: ModelEngine.Continuation

  init(
    id: Int, events: AsyncThrowingStream<EngineEvent, any Error>, engine: ModelEngine,
    continuation: ModelEngine.Continuation
  ) {
    self.id = id
    self.events = events
    self.engine = engine
    self.continuation = continuation
  }

  /// Why there are no outputs where nobody gave a reason.
  var reason: APIError { engine.isStopping ? .stopping : .clientLeft }

  /// Gives the request up; ``events`` ends with `error` at once.
  package func cancel(throwing error: any Error = CancellationError()) {
    continuation.finish(throwing: error)
    engine.leave(id)
  }
}
