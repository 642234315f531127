import TensorKernels

/// Where the time of a model's passes goes, by part: see ``Transformer/timeline(of:)``.
public struct PassTimeline: Sendable, Equatable {
  /// What a pass does.
  public enum Part: String, Sendable, CaseIterable {
    /// Products of activations with the layers' matrices, and the activation function between two of them.
    case products
    /// Scores, softmax and the mixing of values.
    case attention
    /// What is done to single rows between products: norms, rounding to bytes, rotation, and writing to the cache.
    case rows
    /// The final norm and the product with the unembedding.
    case unembedding
  }

  /// Nothing measured.
  public init() {}

  /// Seconds of each part, waiting included.
  public private(set) var seconds: [Part: Double] = [:]
  /// Times that work was shared out among the threads.
  public internal(set) var forkCount = 0
  /// Seconds that the calling thread waited, its own share done, for the others.
  public internal(set) var waitingSeconds = 0.0

  mutating func add(_ duration: Duration, to part: Part) {
    let (seconds, attoseconds) = duration.components
    self.seconds[part, default: 0] += Double(seconds) + Double(attoseconds) / 1e18
  }
}

extension Transformer {
  /// Runs work that uses this model, and measures where the time of its passes goes. Passes of other threads in the
  /// meantime count too.
  ///
  /// - Complexity: Two readings of a clock for each part of a layer beside the work itself.
  public func timeline(of work: () throws -> Void) rethrows -> PassTimeline {
    pool.beginMeasuring()
    workspace.exclusively { workspace.timeline = PassTimeline() }
    defer {
      workspace.exclusively { workspace.timeline = nil }
      _ = pool.endMeasuring()
    }
    try work()
    var found = PassTimeline()
    workspace.exclusively { found = workspace.timeline ?? found }
    (found.forkCount, found.waitingSeconds) = pool.endMeasuring()
    return found
  }
}

extension ForwardPass {
  /// Does a part of the pass, on the clock where somebody measures.
  @inline(__always)
  func timed(_ part: PassTimeline.Part, _ work: () -> Void) {
    guard workspace.timeline != nil else { return work() }
    let start = ContinuousClock.now
    work()
    workspace.timeline?.add(ContinuousClock.now - start, to: part)
  }
}
