import SpeculativeDecoding

/// What one document gave, decoded both ways.
package struct EvaluatedDocument: Codable, Sendable {
  /// Of one way of decoding.
  package struct Way: Codable, Sendable {
    /// 1 - loss against the references; `nil` without references.
    var quality: Double?
    /// Layers that its tokens passed, together.
    var layers = 0
    /// Bytes of weights read for the tokens after the first.
    var bytes = 0.0
    /// Seconds of decoding.
    var decode = 0.0
    /// Seconds of the prompt's pass.
    var prefill = 0.0
    var tokens = 0
    var times = TimedDecoder.Times()
    var speculation: SpeculationStatistics?

    /// Tokens after the first.
    var steps: Int { max(tokens - 1, 0) }
  }

  var full: Way
  var exits: Way
  var loss: Double
  /// Whether both outputs are the same text.
  var isIdentical: Bool
  /// What the guard found; `nil` without a guard.
  var isInside: Bool?
  /// `nil` where texts are compared only.
  var brier: Double?
  var hellinger: Double?
}

/// What an evaluation is of: the same for all of its documents.
package struct EvaluationFacts: Codable, Sendable, Equatable {
  var model: String
  var metric: String
  var risk: String
  var layers: Int
  var threshold: Double
  var epsilon: Double?
  var promptDepth: Int?
}

/// A line of an evaluation's shard.
package struct EvaluationLine: Codable {
  package var id: DocumentIdentifier
  package var result: EvaluatedDocument

  package init(id: DocumentIdentifier, result: EvaluatedDocument) {
    self.id = id
    self.result = result
  }
}

extension Evaluation.Result {
  /// What the documents come to; `nil` where there are none.
  ///
  /// The documents' order counts: sums of floating-point numbers are then the same wherever they were decoded.
  package init?(_ facts: EvaluationFacts, documents: [EvaluatedDocument]) {
    guard !documents.isEmpty else { return nil }
    let count = Double(documents.count)
    func mean(_ values: [Double]) -> Double { values.reduce(0, +) / Double(values.count) }
    func ratio(_ value: Double, _ other: Double) -> Double { other > 0 ? value / other : 1 }
    let losses = documents.map(\.loss)
    let average = mean(losses)
    let variance = losses.map { ($0 - average) * ($0 - average) }.reduce(0, +) / max(count - 1, 1)
    let guarded = documents.contains { $0.isInside != nil }
    let covered = documents.filter { $0.isInside == true }.map(\.loss)
    let (briers, hellingers) = (documents.compactMap(\.brier), documents.compactMap(\.hellinger))
    model = facts.model
    metric = facts.metric
    risk = facts.risk
    self.documents = documents.count
    layers = facts.layers
    threshold = facts.threshold
    epsilon = facts.epsilon
    testRisk = average
    testRiskError = (variance / count).squareRoot()
    brier = briers.isEmpty ? nil : mean(briers)
    hellinger = hellingers.isEmpty ? nil : mean(hellingers)
    isWithinEpsilon = facts.epsilon.map { average <= $0 }
    outsideShare = guarded ? 1 - Double(covered.count) / count : nil
    insideRisk = covered.isEmpty ? nil : mean(covered)
    identicalOutputs = documents.count(where: \.isIdentical)
    let sums = (Sums(documents.map(\.full)), Sums(documents.map(\.exits)))
    (full, exits) = (sums.0.way, sums.1.way)
    // The numbers of steps may differ, where one way writes more.
    timeRatio = ratio(exits.millisecondsPerToken, full.millisecondsPerToken)
    documentTimeRatio = ratio(full.samplesPerSecond, exits.samplesPerSecond)
    promptTimeRatio = ratio(sums.1.prefill, sums.0.prefill)
    promptDepth = facts.promptDepth
  }

  /// Sums of one way over documents.
  private struct Sums {
    var way = Evaluation.Way()
    var prefill = 0.0

    init(_ parts: [EvaluatedDocument.Way]) {
      var quality: Double? = 0
      var (layers, steps) = (0, 0)
      var (bytes, decode) = (0.0, 0.0)
      var times = TimedDecoder.Times()
      for part in parts {
        quality = part.quality.flatMap { own in quality.map { $0 + own } }
        layers += part.layers
        bytes += part.bytes
        decode += part.decode
        prefill += part.prefill
        way.tokens += part.tokens
        steps += part.steps
        times.add(part.times)
        if let own = part.speculation {
          way.speculation = way.speculation ?? SpeculationStatistics()
          way.speculation?.add(own)
        }
      }
      let each = Double(max(steps, 1))
      let found = [times.layers, times.heads, times.cache].map { 1000 * $0 / each }
      way.quality = quality.map { $0 / Double(parts.count) }
      way.averageLayer = Double(layers) / Double(max(way.tokens, 1))
      way.bytesPerToken = bytes / each
      way.millisecondsPerToken = 1000 * decode / each
      way.samplesPerSecond = Double(parts.count) / max(prefill + decode, 1e-9)
      way.breakdown = Evaluation.Breakdown(
        layers: found[0], heads: found[1], cache: found[2],
        gatesAndSampling: max(0, way.millisecondsPerToken - found.reduce(0, +)))
    }
  }
}
