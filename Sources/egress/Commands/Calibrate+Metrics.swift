import ArgumentParser
import Certification
import RiskControl

extension Calibrate {
  /// A loss that is held beside the first.
  struct FurtherMetric {
    var metric: QualityMetric
    var risk: QualityRisk
    var epsilon: Double
  }

  /// Checks what several metrics have to do with the other options.
  func validateFurtherMetrics() throws {
    let further = try furtherMetrics()
    guard !further.isEmpty else { return }
    if !also.isEmpty { throw ValidationError("--also takes tables; with --data give --metric all names.") }
    guard try quality().metric.distance == nil else {
      throw ValidationError("--metric takes several only of texts: brier and hellinger stand alone.")
    }
    if let fallback = drafting.fallback, fallback.values.count > 1 {
      throw ValidationError("several values of --fallback take one --metric.")
    }
  }

  /// The losses after the first, each with its ε.
  func furtherMetrics() throws -> [FurtherMetric] {
    let names = metricNames
    guard names.count > 1 else { return [] }
    let epsilons = rule.epsilon.values
    guard Set(names).count == names.count else { throw ValidationError("--metric names one twice.") }
    guard epsilons.count == 1 || epsilons.count == names.count else {
      throw ValidationError(
        "--metric names \(names.count) losses, and --epsilon \(epsilons.count): give one for all, or one each."
      )
    }
    return try names.enumerated().dropFirst().map { index, name in
      guard let metric = QualityMetric(name: name) else {
        throw ValidationError("--metric must be one of \(QualityMetric.names.joined(separator: ", ")).")
      }
      guard metric.distance == nil else {
        throw ValidationError("--metric takes several only of texts: brier and hellinger stand alone.")
      }
      // A property of one text has nothing but its gap.
      let asked = self.risk.flatMap(QualityRisk.init(rawValue:)) ?? .gap
      return FurtherMetric(
        metric: metric, risk: metric.readsReferences ? asked : .gap,
        epsilon: epsilons.count == 1 ? epsilons[0] : epsilons[index])
    }
  }

  /// What a monitor of the certificate holds the risk against: ε where losses need no references, and otherwise the
  /// upper bound, at δ, of the loss against the full model's own output at the certified threshold.
  func auditEpsilon(
    _ certificate: Certificate, lines: [RunLine], records: [DocumentRecord], metric: QualityMetric,
    risk: QualityRisk
  ) throws -> Double? {
    guard metric.distance == nil, let threshold = certificate.threshold else { return nil }
    guard risk == .gap, metric.readsReferences else { return certificate.settings.epsilon }
    let losses = zip(lines, records).map { line, record in
      line.losses(metric, risk: .consistency, references: [], source: record.item.document)[
        line.piece(at: threshold)]
    }
    let bound = try RiskBound.wsr.upperBound(of: losses, delta: certificate.settings.delta)
    return min(max(bound, 0.001), 0.999)
  }
}
