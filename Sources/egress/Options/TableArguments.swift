import ArgumentParser
import LossTables
import RiskControl

/// How a table of losses is read: shared by calibrate, study and verify.
struct TableArguments: ParsableArguments {
  @Option(name: .customLong("loss-bound"), parsing: .unconditional, help: "B: no loss lies outside [-B, B].")
  var lossBound = 1.0

  @Option(help: "File of costs: one value a row (an exit), or one a row and sample.")
  var costs: String?

  @Option(help: "File of the thresholds, for a table that has none in its first column.")
  var thresholds: String?

  @Option(help: "File of confidences, samples × exits, for a table of losses by exit.")
  var confidences: String?

  @Option(help: "What a confidence must do to exit: at-least (>=) or above (>) the threshold.")
  var exit = ExitComparison.atLeast

  @Option(
    name: .customLong("classifier-risk"),
    help: "Risk built from a classifier's logits: \(Self.names(of: ClassifierOutputs.Risk.self)).")
  var classifierRisk = ClassifierOutputs.Risk.predictionGap

  @Option(
    name: .customLong("class-confidence"),
    help: "Confidence of a classifier's or a pixel's distribution: \(Self.names(of: ConfidenceScore.self)).")
  var confidence = ConfidenceScore.top1

  @Option(
    help: """
      Confidence of a segmented image: mean, median, quantile:LEVEL; patch or patch:PIXELS:LEVEL, the quantile of the \
      means of all windows; tiles or tiles:PIXELS:LEVEL, of windows that do not overlap.
      """)
  var aggregate = SegmentationSweep.Aggregation.mean

  @Option(
    name: .customLong("segmentation-loss"),
    help: """
      Loss of a segmented image: \(Self.names(of: SegmentationSweep.Loss.self)). In miou classes absent from \
      prediction and labels do not count, in miou-all they count as 0.
      """)
  var segmentationLoss = SegmentationSweep.Loss.miscoverage

  @Option(
    name: .customLong("segmentation-target"),
    help: "What a segmented image is compared with: \(Self.names(of: SegmentationSweep.Target.self)).")
  var segmentationTarget = SegmentationSweep.Target.labels

  @Option(
    name: .customLong("ignore-label"), parsing: .unconditional,
    help:
      "Label of the pixels that have none, beside negative ones; a class where there are more classes than that."
  )
  var ignoredLabel = SegmentationSweep.usualIgnoredLabel

  @Flag(
    name: .customLong("no-full-model"),
    help: "The first row is not the full model: test it like any other, even if all its losses are 0.")
  var hasNoFullModel = false

  /// The options that name files or B, where they are given.
  var given: [String] {
    let all = [
      ("loss-bound", lossBound != 1), ("costs", costs != nil), ("thresholds", thresholds != nil),
      ("confidences", confidences != nil), ("no-full-model", hasNoFullModel),
    ]
    return all.filter(\.1).map(\.0)
  }

  /// Reads a table; `lossBound` and `hasFullModel` override the options where a certificate says them.
  func read(_ path: String, lossBound: Double? = nil, hasFullModel: Bool? = nil) throws -> LossTable {
    let costs = try costs.map { try LossTable.costs(path: $0) }
    let options = TableOptions(
      lossBound: lossBound ?? self.lossBound,
      firstRow: hasFullModel ?? !hasNoFullModel ? .fullModelWhereZero : .ordinary, comparison: exit,
      costs: costs,
      thresholdsPath: thresholds, confidencesPath: confidences, classifierRisk: classifierRisk,
      confidence: confidence,
      aggregation: aggregate, segmentationLoss: segmentationLoss, segmentationTarget: segmentationTarget,
      ignoredLabel: ignoredLabel)
    do {
      return try LossTable(path: path, options: options)
    } catch {
      throw usage(error)
    }
  }

  static func names<Value: CaseIterable & RawRepresentable<String>>(of: Value.Type) -> String {
    Value.allCases.map(\.rawValue).joined(separator: ", ")
  }
}

/// An error about settings is one of usage; any other stays what it is.
func usage(_ error: RiskControlError) -> any Error {
  error.isAboutSettings ? ValidationError(error.description) : error
}

extension ExitComparison: ExpressibleByArgument {}
extension ClassifierOutputs.Risk: ExpressibleByArgument {}
extension ConfidenceScore: ExpressibleByArgument {}
extension SegmentationSweep.Loss: ExpressibleByArgument {}
extension SegmentationSweep.Target: ExpressibleByArgument {}
extension SegmentationSweep.Aggregation: ExpressibleByArgument {
  public init?(argument: String) { self.init(name: argument) }
  public var defaultValueDescription: String { "mean" }
}
extension ThresholdRule: ExpressibleByArgument {}
extension RiskBound: ExpressibleByArgument {}
extension ThresholdScan: ExpressibleByArgument {}

/// How a command prints its result.
enum TableFormat: String, CaseIterable, ExpressibleByArgument { case text, json }

/// Numbers separated by commas, each a number or a range `first:last:step`, both ends included.
struct NumberList: ExpressibleByArgument {
  let values: [Double]

  init?(argument: String) {
    var values: [Double] = []
    for item in argument.split(separator: ",", omittingEmptySubsequences: false) {
      let parts = item.split(separator: ":", omittingEmptySubsequences: false).map { Double($0) }
      guard !parts.contains(nil) else { return nil }
      switch parts.compactMap({ $0 }) {
      case let one where one.count == 1: values += one
      case let range where range.count == 3:
        let count = ((range[1] - range[0]) / range[2] + 1e-9).rounded(.down)
        guard range[2] != 0, count >= 0, count < 100_000 else { return nil }
        // Rounding to the step's own digits: 0.01 + 2 × 0.01 is to be 0.03, not 0.030000000000000002.
        values += (0...Int(count)).map { (((range[0] + Double($0) * range[2]) * 1e12).rounded()) / 1e12 }
      default: return nil
      }
    }
    self.values = values
  }

  init(_ values: [Double]) { self.values = values }

  var defaultValueDescription: String { values.map { "\($0)" }.joined(separator: ",") }
}
