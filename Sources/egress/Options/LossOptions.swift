import ArgumentParser
import Certification
import EarlyExit
import RiskControl
import TextLosses

/// What losses are, and what they are relative to.
struct LossOptions: ParsableArguments {
  @Option(
    help: """
      With --data gap, the loss against the references less that of the full model, or consistency, the loss against \
      the full model's output; or selective, the loss of the answers that are given, for which a confidence is \
      certified; with a table, any name for the certificate. (default: gap; with brier and hellinger consistency)
      """)
  var risk: String?

  @Option(
    help: """
      With --data, the loss: \(QualityMetric.names.joined(separator: ", ")), or several as rouge-l,repetition, which \
      then hold together at one threshold, each with the epsilon or with its own of as many; with a table, any name \
      for the certificate. (default: rouge-l; with a table loss)
      """)
  var metric: String?

  /// The value of --risk for certified answers.
  static let selective = "selective"

  var isSelective: Bool { risk == Self.selective }

  /// The names that --metric gives.
  var names: [String] {
    (metric ?? "rouge-l").split(separator: ",", omittingEmptySubsequences: false).map(String.init)
  }

  /// With --data, the metric and the risk; of several metrics, the first.
  func quality(exitCache: ExitCachePolicy?) throws -> (metric: QualityMetric, risk: QualityRisk) {
    guard let metric = QualityMetric(name: names.first ?? "") else {
      throw ValidationError("--metric must be one of \(QualityMetric.names.joined(separator: ", ")).")
    }
    let usual = metric.distance == nil ? QualityRisk.gap : .consistency
    guard let risk = QualityRisk(rawValue: risk ?? usual.rawValue) else {
      throw ValidationError("--risk must be gap or consistency.")
    }
    if metric.distance != nil, risk == .gap {
      throw ValidationError(
        "--metric \(metric.name) compares with the full model: --risk must be consistency.")
    }
    if !metric.readsReferences, risk == .consistency {
      throw ValidationError("--metric \(metric.name) is a property of one text: --risk must be gap.")
    }
    if metric.distance != nil, exitCache == .propagate {
      throw ValidationError("--metric \(metric.name) needs --exit-cache defer.")
    }
    return (metric, risk)
  }

  /// The losses after the first, each with its ε.
  func further(_ epsilons: [Double]) throws -> [Calibrator.FurtherLoss] {
    guard names.count > 1 else { return [] }
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
      return Calibrator.FurtherLoss(
        metric: metric, risk: metric.readsReferences ? asked : .gap,
        epsilon: epsilons.count == 1 ? epsilons[0] : epsilons[index])
    }
  }

  /// With --risk selective, the loss of an answer.
  func answerLoss() throws -> SequenceLoss {
    let name = metric ?? "token-f1"
    guard case .text(let loss)? = QualityMetric(name: name), loss.readsReferences else {
      throw ValidationError(
        "--risk selective takes a --metric of texts with references, such as token-f1 or exact-match.")
    }
    return loss
  }
}
