import RiskControl

/// How a file is to be read as a table of losses.
public struct TableOptions: Sendable {
  /// B.
  public var lossBound: Double
  /// Whether a first row of zeros is the full model.
  public var firstRow: LossTable.FirstRow
  /// What a confidence must do to exit, for tables by exit.
  public var comparison: ExitComparison
  /// Costs from a file of their own: one a row (or an exit), or one a row and sample.
  public var costs: LossTable.Costs?
  /// A file of the thresholds of a K×N array that does not carry them in its first column.
  public var thresholdsPath: String?
  /// A file of the N×L confidences of an N×L array of losses.
  public var confidencesPath: String?
  /// Which risk to build from a classifier's logits and labels; it sets B.
  public var classifierRisk: ClassifierOutputs.Risk
  /// The confidence of a distribution, for classifiers and segmentation.
  public var confidence: ConfidenceScore
  /// How the confidences of an image's pixels become one number.
  public var aggregation: SegmentationSweep.Aggregation
  /// The loss of a segmented image; it sets B.
  public var segmentationLoss: SegmentationSweep.Loss
  /// What a segmented image is compared with.
  public var segmentationTarget: SegmentationSweep.Target
  /// The label of pixels that have none; one of fewer classes than that is a class.
  public var ignoredLabel: Int

  /// Options; none is needed for a CSV table of losses in [−1, 1].
  public init(
    lossBound: Double = 1, firstRow: LossTable.FirstRow = .fullModelWhereZero,
    comparison: ExitComparison = .atLeast,
    costs: LossTable.Costs? = nil, thresholdsPath: String? = nil, confidencesPath: String? = nil,
    classifierRisk: ClassifierOutputs.Risk = .predictionGap, confidence: ConfidenceScore = .top1,
    aggregation: SegmentationSweep.Aggregation = .mean,
    segmentationLoss: SegmentationSweep.Loss = .miscoverage,
    segmentationTarget: SegmentationSweep.Target = .labels,
    ignoredLabel: Int = SegmentationSweep.usualIgnoredLabel
  ) {
    self.lossBound = lossBound
    self.firstRow = firstRow
    self.comparison = comparison
    self.costs = costs
    self.thresholdsPath = thresholdsPath
    self.confidencesPath = confidencesPath
    self.classifierRisk = classifierRisk
    self.confidence = confidence
    self.aggregation = aggregation
    self.segmentationLoss = segmentationLoss
    self.segmentationTarget = segmentationTarget
    self.ignoredLabel = ignoredLabel
  }

  /// The costs where the table is by exit.
  func exitCosts(_ sampleCount: Int) throws(RiskControlError) -> [Double]? {
    switch costs {
    case nil: return nil
    case .byThreshold(let values): return values
    case .bySample(let values): return values
    }
  }
}
