import EarlyExit
import RiskControl
import TextLosses

/// What an output is measured by: a loss of texts, or a distance of distributions.
public enum QualityMetric: Sendable, Equatable {
  /// A loss of the text.
  case text(SequenceLoss)
  /// How far the distributions of the tokens are from the full model's.
  case distribution(DistributionDistance)

  /// The names of all.
  public static let names =
    SequenceLoss.all.map(\.name) + DistributionDistance.allCases.map(\.rawValue)

  /// The metric of a name, or `nil`.
  public init?(name: String) {
    if let loss = SequenceLoss(name: name) {
      self = .text(loss)
    } else if let distance = DistributionDistance(rawValue: name) {
      self = .distribution(distance)
    } else {
      return nil
    }
  }

  /// What certificates and options call it.
  public var name: String {
    switch self {
    case .text(let loss): loss.name
    case .distribution(let distance): distance.rawValue
    }
  }

  /// The largest loss there is, B.
  public var bound: Double {
    switch self {
    case .text: 1
    case .distribution(let distance): distance.bound
    }
  }

  /// Whether it compares a text with another.
  public var readsReferences: Bool {
    if case .text(let loss) = self { loss.readsReferences } else { true }
  }

  /// The distance, where it is one.
  public var distance: DistributionDistance? {
    if case .distribution(let distance) = self { distance } else { nil }
  }
}

/// What a loss is relative to.
public enum QualityRisk: String, Sendable, CaseIterable {
  /// The loss against the references, less that of the full model.
  case gap
  /// The loss against the full model's output.
  case consistency

  /// As certificates call it.
  public var name: String { self == .gap ? "performance gap" : rawValue }

  /// The loss of a text, in [-1, 1].
  public func loss(_ text: String, full: String, references: [String], source: String, metric: SequenceLoss)
    -> Double
  {
    // Texts are the same where their scalars are: Swift takes composed and decomposed letters for equal.
    guard !text.utf8.elementsEqual(full.utf8) else { return 0 }
    return switch self {
    case .gap:
      metric.loss(text, references: references, source: source)
        - metric.loss(full, references: references, source: source)
    case .consistency: metric.loss(text, references: [full])
    }
  }
}
