import Foundation
import Generation
import Transformers

/// What the engine's thread does: takes requests, runs passes, tells what came of them.
struct EngineLoop {
  /// An output that waits for a slot.
  private struct Waiting {
    var group: ModelEngine.Group
    var sequence: Int
  }

  /// An output in a slot.
  private struct Running {
    var group: ModelEngine.Group
    var sequence: Int
    /// When its last token came; `nil` before the first.
    var lastToken: ContinuousClock.Instant?
    /// Tokens of the draft under way that were kept.
    var drafted = 0
  }

  /// Parts of prompts that are read before everyone gets the next token: one, so that nobody waits long. Where nobody
  /// decodes it makes no difference.
  private static let promptParts = 1

  private let engine: ModelEngine
  private let decoder: BatchDecoder
  private let prefixes: PrefixCache?
  /// Decodes audits one by one, and keeps nothing of them: prompts of requests have the cache to themselves.
  private let auditor: BatchDecoder
  private var audit: AuditWork?
  private var waiting: [Waiting] = []
  private var running: [BatchDecoder.Ticket: Running] = [:]
  /// Outputs of each request that are not complete.
  private var remaining: [Int: Int] = [:]

  init(_ engine: ModelEngine) {
    self.engine = engine
    prefixes = engine.limits.prefixBytes > 0 ? PrefixCache(byteLimit: engine.limits.prefixBytes) : nil
    decoder = BatchDecoder(
      model: engine.model, width: engine.limits.slots, promptParts: Self.promptParts, prefixes: prefixes,
      shouldStop: { false })
    auditor = BatchDecoder(model: engine.model, width: 1, promptParts: 1, shouldStop: { false })
  }

  mutating func run() {
    while true {
      let news = engine.takeNews()
      for group in news.arrived {
        remaining[group.id] = group.works.count
        waiting += group.works.indices.map { Waiting(group: group, sequence: $0) }
      }
      for id in news.left { drop(id, throwing: CancellationError()) }
      fill()
      report()
      if decoder.isIdle {
        if news.isStopping, waiting.isEmpty { return }
        if !auditAStep() { engine.waitForNews() }
      } else {
        step()
      }
    }
  }

  /// One pass of an audit.
  ///
  /// - Returns: Whether there was something to audit.
  private mutating func auditAStep() -> Bool {
    if audit == nil {
      guard let next = engine.takeAudit() else { return false }
      guard let work = next.work else {
        next.finish(nil)
        return true
      }
      auditor.submit(prompt: work.prompt, options: work.options, strategy: work.strategy)
      audit = next
    }
    var output: Generation?
    // Only what is told could throw, and that does not.
    _ = try? auditor.step { _, event in
      if case .finished(let generation) = event { output = generation }
    }
    guard auditor.isIdle else { return true }
    if let output { audit?.finish(output) } else { engine.metrics.noteAuditDropped() }
    audit = nil
    return true
  }

  private mutating func fill() {
    while decoder.hasRoom, !waiting.isEmpty {
      let next = waiting.removeFirst()
      let work = next.group.works[next.sequence]
      let ticket = decoder.submit(prompt: work.prompt, options: work.options, strategy: work.strategy)
      running[ticket] = Running(group: next.group, sequence: next.sequence)
      engine.metrics.noteStart(promptTokens: work.prompt.count)
    }
  }

  /// Gives up what is left of a request.
  private mutating func drop(_ id: Int, throwing error: any Error) {
    guard remaining.removeValue(forKey: id) != nil else { return }
    var count = 0
    waiting.removeAll { entry in
      guard entry.group.id == id else { return false }
      entry.group.continuation.finish(throwing: error)
      count += 1
      return true
    }
    for (ticket, entry) in running where entry.group.id == id {
      decoder.cancel(ticket)
      running[ticket] = nil
      entry.group.continuation.finish(throwing: error)
      count += 1
    }
    engine.metrics.noteCancelled(count)
    engine.noteEnd(of: count)
  }

  private mutating func step() {
    var events: [(BatchDecoder.Ticket, BatchDecoder.Event)] = []
    do {
      try decoder.step { ticket, event in
        // Told at once, since a pass is long; only what changes the loop waits for the end of the step.
        tell(ticket, event)
        events.append((ticket, event))
      }
    } catch {
      // Nothing above throws; whoever waits must not wait for ever.
      for id in Array(remaining.keys) { drop(id, throwing: error) }
      return
    }
    for (ticket, event) in events { settle(ticket, event) }
  }

  private func tell(_ ticket: BatchDecoder.Ticket, _ event: BatchDecoder.Event) {
    guard case .token(let step) = event, let entry = running[ticket] else { return }
    entry.group.continuation.yield(.token(sequence: entry.sequence, step))
  }

  private mutating func settle(_ ticket: BatchDecoder.Ticket, _ event: BatchDecoder.Event) {
    guard var entry = running[ticket] else { return }
    switch event {
    case .token(let step):
      let now = ContinuousClock.now
      if let last = entry.lastToken {
        engine.metrics.noteToken(step, since: (now - last).seconds)
      } else {
        engine.metrics.noteFirstToken(step, since: (now - entry.group.arrival).seconds)
      }
      entry.lastToken = now
      noteDraft(step.source, &entry)
      running[ticket] = entry
    case .finished(let generation):
      running[ticket] = nil
      engine.metrics.noteFinished(generation, since: (ContinuousClock.now - entry.group.arrival).seconds)
      engine.noteEnd(of: 1)
      entry.group.continuation.yield(.finished(sequence: entry.sequence, generation))
      let left = (remaining[entry.group.id] ?? 1) - 1
      remaining[entry.group.id] = left > 0 ? left : nil
      if left <= 0 { entry.group.continuation.finish() }
    case .failed(let error):
      running[ticket] = nil
      engine.noteEnd(of: 1)
      entry.group.continuation.finish(throwing: error)
      drop(entry.group.id, throwing: error)
    }
  }

  /// Counts a drafted token by its place in the draft. What the model writes itself ends one.
  private func noteDraft(_ source: TokenSource?, _ entry: inout Running) {
    switch source?.writer {
    case .draft?, .lookup?:
      entry.drafted += 1
      engine.metrics.noteDrafted(place: entry.drafted, isKept: true)
    case .corrected?:
      engine.metrics.noteDrafted(place: entry.drafted + 1, isKept: false)
      entry.drafted = 0
    case .target?, nil: entry.drafted = 0
    }
  }

  private func report() {
    engine.metrics.noteLoad(
      waiting: waiting.count, running: running.count, prefixBytes: prefixes?.byteCount ?? 0,
      reusedTokens: prefixes?.reusedTokens ?? 0,
      audits: engine.auditsWaiting + (audit == nil ? 0 : 1))
  }
}
