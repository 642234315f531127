import Foundation

/// Chooses a confidence threshold: answers at or above it are given, and their expected loss is at most ε.
///
/// The risk among the answers given, E[L | s ≥ τ], is a mean over the samples answered. So every bound on a mean bounds
/// it, whatever the number of answers (Geifman and El-Yaniv 2017; Angelopoulos et al. 2021). Thresholds are tested in
/// fixed sequence, from strict to lenient, at full δ.
///
/// The first threshold matters most. At the strictest one no question is answered, and nothing can be shown; at a
/// lenient one the risk is too high. So every fourth sample is a design sample. The sequence begins where the design
/// samples hold the most evidence for a risk below ε, and goes on through their lower confidences. The other samples
/// test it, and do not change it.
public struct SelectiveCalibration: Sendable {
  /// ε, δ, bound and order. Of the rule one thing counts: whether the bound must lie below ε (UCB) or may reach it
  /// (LTT).
  public let settings: CalibrationSettings

  /// One of so many samples designs the sequence.
  private static let designStride = 4
  /// The most thresholds of a sequence.
  private static let longestSequence = 200

  /// - Throws: ``RiskControlError`` for settings out of range, a rule that gives no probability, a tail, or
  ///   ``RiskBound/anytime``: the design would change with every sample.
  public init(_ settings: CalibrationSettings) throws(RiskControlError) {
    try settings.check()
    guard settings.rule.controlsWithHighProbability else {
      throw .setting("selective risk needs the rule ucb or ltt, found \(settings.rule.rawValue)")
    }
    guard settings.measure == .mean else {
      throw .setting("selective risk is the mean loss of the answers given; \(settings.measure.name) is not")
    }
    guard settings.bound != .anytime else {
      throw .setting(
        "selective risk is for a sample of fixed size: the samples that choose where to begin change as more arrive"
      )
    }
    self.settings = settings
  }

  /// What came out.
  public struct Result: Sendable, Equatable {
    /// τ: answers of at least this confidence are given; nil where no threshold could be certified.
    public let threshold: Double?
    /// Share of the test samples answered at τ; 0 without a threshold.
    public let answeredShare: Double
    /// The upper bound on the risk among the answers given; nil without a threshold.
    public let upperBound: Double?
    /// The mean loss of the test samples answered; nil without a threshold.
    public let observedRisk: Double?
    /// Mean loss of all test samples, each answered.
    public let riskOfAll: Double
    /// The threshold at which the sequence began.
    public let firstThreshold: Double
    /// How many thresholds the sequence had.
    public let sequenceLength: Int
    /// How many samples designed the sequence.
    public let designCount: Int
    /// How many samples tested the sequence.
    public let testCount: Int
    /// The bound on the risk at ``firstThreshold``, which says why nothing was certified where nothing was.
    public let firstUpperBound: Double
  }

  /// Chooses τ.
  ///
  /// - Parameters:
  ///   - confidences: (n), finite, in the order of the samples; larger is surer.
  ///   - losses: (n), each in [0, lossBound].
  ///   - lossBound: B.
  /// - Throws: ``RiskControlError`` for values out of range and fewer than eight samples. O(thresholds · n).
  public func calibrate(
    confidences: [Double], losses: [Double], lossBound: Double = 1
  ) throws(RiskControlError) -> Result {
    try check(confidences, losses, lossBound)
    let samples = zip(confidences, losses).map { (confidence: $0, loss: $1) }
    return calibrate(
      design: samples.indices.filter { $0 % Self.designStride == 0 }.map { samples[$0] },
      test: samples.indices.filter { $0 % Self.designStride != 0 }.map { samples[$0] }, lossBound: lossBound)
  }

  /// Chooses a way of decoding and τ together.
  ///
  /// The design samples choose the way: the fastest that answers nine tenths of what the best way answers, at an
  /// observed risk of at most ε. The test samples have no part in this, so τ is then tested at full δ.
  ///
  /// - Parameters:
  ///   - policies: Fastest first; the same questions, at least eight, in the same order for each.
  ///   - lossBound: B.
  /// - Returns: The chosen policy and what came out for it; shares are of its answers, as for one policy.
  /// - Throws: As ``calibrate(confidences:losses:lossBound:)``, and for policies with different numbers of questions.
  public func calibrate(
    policies: [[SelectiveStudy.Sample]], lossBound: Double = 1
  ) throws(RiskControlError) -> (chosen: Int, result: Result) {
    guard let first = policies.first else { throw .setting("there is no way of decoding to choose") }
    var parts: [(design: [Answer], test: [Answer])] = []
    for samples in policies {
      guard samples.count == first.count else {
        throw .table("\(samples.count) questions, where another way of decoding has \(first.count)")
      }
      let given = samples.filter { $0.confidence != nil }
      try check(given.map { $0.confidence ?? 0 }, given.map(\.loss), lossBound)
      func part(_ isDesign: Bool) -> [Answer] {
        samples.indices.compactMap { index in
          guard (index % Self.designStride == 0) == isDesign, let confidence = samples[index].confidence
          else {
            return nil
          }
          return (confidence, samples[index].loss)
        }
      }
      parts.append((part(true), part(false)))
      guard !parts[parts.count - 1].design.isEmpty, !parts[parts.count - 1].test.isEmpty else {
        throw .table("there are too few answers to choose where to begin, and to test that")
      }
    }
    let counts = parts.map { answeredCount($0.design, lossBound: lossBound) }
    let wanted = 0.9 * Double(counts.max() ?? 0)
    let chosen = counts.firstIndex { Double($0) >= wanted } ?? 0
    return (chosen, calibrate(design: parts[chosen].design, test: parts[chosen].test, lossBound: lossBound))
  }

  private typealias Answer = (confidence: Double, loss: Double)

  /// The most of these answers that can be given at a mean loss of at most ε, half a loss more than was seen counted.
  private func answeredCount(_ answers: [Answer], lossBound: Double) -> Int {
    var (sum, most) = (0.5 * lossBound, 0)
    for (index, answer) in answers.sorted(by: { $0.confidence > $1.confidence }).enumerated() {
      sum += answer.loss
      if sum <= settings.epsilon * Double(index + 2) { most = index + 1 }
    }
    return most
  }

  private func calibrate(design: [Answer], test: [Answer], lossBound: Double) -> Result {
    let sequence = self.sequence(design, lossBound: lossBound)
    var best: (threshold: Double, losses: [Double])?
    for threshold in sequence {
      let answered = test.filter { $0.confidence >= threshold }.map(\.loss)
      guard passes(answered, lossBound: lossBound) else { break }
      best = (threshold, answered)
    }
    let first = test.filter { $0.confidence >= sequence[0] }.map(\.loss)
    func mean(_ values: [Double]) -> Double {
      values.withUnsafeBufferPointer { CompensatedSum.of($0) } / Double(max(values.count, 1))
    }
    return Result(
      threshold: best?.threshold, answeredShare: Double(best?.losses.count ?? 0) / Double(max(test.count, 1)),
      upperBound: best.map { bound($0.losses, lossBound: lossBound) },
      observedRisk: best.map { mean($0.losses) },
      riskOfAll: mean(test.map(\.loss)), firstThreshold: sequence[0], sequenceLength: sequence.count,
      designCount: design.count, testCount: test.count, firstUpperBound: bound(first, lossBound: lossBound))
  }

  private func check(
    _ confidences: [Double], _ losses: [Double], _ lossBound: Double
  ) throws(RiskControlError) {
    try LossTable.check(lossBound: lossBound)
    guard confidences.count == losses.count else {
      throw .table("\(confidences.count) confidences for \(losses.count) losses; expected one a sample")
    }
    guard losses.count >= 2 * Self.designStride else {
      throw .table(
        "\(losses.count) samples; selective risk needs at least \(2 * Self.designStride), of which a "
          + "quarter choose where to begin")
    }
    if let bad = confidences.firstIndex(where: { !$0.isFinite }) {
      throw .table("confidence \(bad + 1) is \(confidences[bad]), expected a finite number")
    }
    if let bad = losses.firstIndex(where: { !($0 >= 0 && $0 <= lossBound) }) {
      throw .table("loss \(bad + 1) is \(plain(losses[bad])), expected a number in [0, \(plain(lossBound))]")
    }
    if settings.bound == .binomial, let bad = losses.first(where: { $0 > 0 && $0 < lossBound }) {
      throw RiskBound.notBinary(bad, bound: lossBound)
    }
  }

  /// The thresholds to test, in order; never empty.
  private func sequence(_ design: [Answer], lossBound: Double) -> [Double] {
    let sorted = design.sorted { $0.confidence > $1.confidence }
    let target = min(settings.epsilon / lossBound, 1)
    var distinct: [Double] = []
    var (start, best) = (0, -1.0)
    var sum = 0.0
    for (number, sample) in sorted.enumerated() {
      sum += sample.loss / lossBound
      guard number + 1 == sorted.count || sorted[number + 1].confidence < sample.confidence else { continue }
      let count = Double(number + 1)
      // Half a loss more than was seen, so that a few lucky answers are not taken for certain ones.
      let risk = (sum + 0.5) / (count + 1)
      let evidence = risk < target ? count * HoeffdingBentkus.relativeEntropy(risk, target) : 0
      // Of equals the last, which answers more.
      if evidence >= best, evidence > 0 || best < 0 { (start, best) = (distinct.count, evidence) }
      distinct.append(sample.confidence)
    }
    let lower = Array(distinct[start...])
    guard lower.count > Self.longestSequence else { return lower }
    let step = Double(lower.count - 1) / Double(Self.longestSequence - 1)
    return (0..<Self.longestSequence).map { lower[Int((Double($0) * step).rounded())] }
  }

  private func makeTest(_ answered: [Double], lossBound: Double) -> MeanTest {
    let test = MeanTest(
      bound: settings.bound, sampleCount: answered.count, delta: settings.delta, range: lossBound,
      isAveraged: settings.order == .averaged)
    let order = settings.order.indices(count: answered.count).map { answered[Int($0)] }
    order.withUnsafeBufferPointer { test.load($0) }
    return test
  }

  private func passes(_ answered: [Double], lossBound: Double) -> Bool {
    guard !answered.isEmpty else { return false }
    return makeTest(answered, lossBound: lossBound).passes(settings.epsilon, strictly: settings.rule == .ucb)
  }

  private func bound(_ answered: [Double], lossBound: Double) -> Double {
    answered.isEmpty ? lossBound : makeTest(answered, lossBound: lossBound).upperBound()
  }
}
