import Foundation
import Generation
import RiskControl
import Synchronization

/// Counts what a server does.
package final class ServerMetrics: Sendable {
  /// How often a number fell below each bound.
  struct Histogram: Sendable {
    let bounds: [Double]
    /// (bounds.count + 1), not cumulative.
    private(set) var counts: [Int]
    private(set) var sum = 0.0

    init(_ bounds: [Double]) {
      self.bounds = bounds
      counts = Array(repeating: 0, count: bounds.count + 1)
    }

    mutating func note(_ value: Double) {
      counts[bounds.firstIndex { value <= $0 } ?? bounds.count] += 1
      sum += value
    }

    var count: Int { counts.reduce(0, +) }
  }

  struct RequestKey: Hashable {
    var route: String
    var status: Int
  }

  struct DraftKey: Hashable {
    var place: Int
    var isKept: Bool
  }

  struct State {
    var requests: [RequestKey: Int] = [:]
    var promptTokens = 0
    var outputTokens = 0
    var finished = 0
    var cancelled = 0
    var waiting = 0
    var running = 0
    var prefixBytes = 0
    var reusedTokens = 0
    var tokensByLayer: [Int: Int] = [:]
    var tokensByWriter: [String: Int] = [:]
    /// Drafted tokens that were verified, by their place in the draft.
    var drafted: [DraftKey: Int] = [:]
    var guarded: [Bool: Int] = [:]
    /// By the beginning of a certificate's digest.
    var audits: [String: RiskMonitor] = [:]
    var auditsWaiting = 0
    var auditsDropped = 0
    // From a token of the smallest models to a long document on a slow machine.
    var firstToken = Histogram([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120])
    var betweenTokens = Histogram([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5])
    var durations = Histogram([0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600])
    /// A running mean of how long an output takes.
    var secondsPerOutput = 1.0
  }

  private let state = Mutex(State())

  package init() {}

  /// Outputs that were given up.
  package var cancelledCount: Int { state.withLock(\.cancelled) }

  /// Drafted tokens that were kept, or were not, by their place in the draft.
  package func draftedCounts(kept isKept: Bool) -> [Int: Int] {
    state.withLock { state in
      Dictionary(
        uniqueKeysWithValues: state.drafted.filter { $0.key.isKept == isKept }.map {
          ($0.key.place, $0.value)
        })
    }
  }

  /// Audits that were given up.
  package var auditsDroppedCount: Int { state.withLock(\.auditsDropped) }

  var snapshot: State { state.withLock { $0 } }

  func noteRequest(route: String, status: Int) {
    state.withLock { $0.requests[RequestKey(route: route, status: status), default: 0] += 1 }
  }

  func noteStart(promptTokens: Int) { state.withLock { $0.promptTokens += promptTokens } }

  func noteCancelled(_ count: Int) { state.withLock { $0.cancelled += count } }

  func noteFirstToken(_ step: TokenStep, since seconds: Double) {
    state.withLock { state in
      state.firstToken.note(seconds)
      Self.note(step, &state)
    }
  }

  func noteToken(_ step: TokenStep, since seconds: Double) {
    state.withLock { state in
      state.betweenTokens.note(seconds)
      Self.note(step, &state)
    }
  }

  private static func note(_ step: TokenStep, _ state: inout State) {
    state.outputTokens += 1
    state.tokensByLayer[step.layer, default: 0] += 1
    if let source = step.source { state.tokensByWriter[source.writer.rawValue, default: 0] += 1 }
  }

  func noteFinished(_ generation: Generation, since seconds: Double) {
    state.withLock { state in
      state.finished += 1
      state.durations.note(seconds)
      state.secondsPerOutput += (seconds - state.secondsPerOutput) / 8
      if let found = generation.applicability { state.guarded[found.isInside, default: 0] += 1 }
    }
  }

  func noteDrafted(place: Int, isKept: Bool) {
    state.withLock { $0.drafted[DraftKey(place: place, isKept: isKept), default: 0] += 1 }
  }

  func noteAudits(of certificate: String, _ monitor: RiskMonitor) {
    state.withLock { $0.audits[certificate] = monitor }
  }

  func noteAuditDropped() { state.withLock { $0.auditsDropped += 1 } }

  func noteLoad(waiting: Int, running: Int, prefixBytes: Int, reusedTokens: Int, audits: Int) {
    state.withLock { state in
      state.auditsWaiting = audits
      (state.waiting, state.running) = (waiting, running)
      (state.prefixBytes, state.reusedTokens) = (prefixBytes, reusedTokens)
    }
  }

  /// Seconds after which there may be room again.
  func expectedWait(outstanding: Int, slots: Int) -> Int {
    let seconds = state.withLock(\.secondsPerOutput) * Double(max(1, outstanding / max(1, slots)))
    return min(60, max(1, Int(seconds.rounded(.up))))
  }
}
