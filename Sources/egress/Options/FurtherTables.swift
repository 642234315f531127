import ArgumentParser
import LossTables
import RiskControl

/// Tables beside the one that is calibrated: further risks, and how much each sample weighs.
struct FurtherTables: ParsableArguments {
  @Option(help: "Another risk to hold at the same threshold, as TABLE:EPSILON or TABLE:EPSILON:B.")
  var also: [FurtherRiskArgument] = []

  @Option(help: "File of density ratios, one a sample, where deployment differs from calibration.")
  var weights: String?

  @Option(
    name: .customLong("weight-bound"), parsing: .unconditional, help: "Upper bound on any density ratio.")
  var weightBound: Double?

  func validate() throws {
    if (weights == nil) != (weightBound == nil) {
      throw ValidationError("--weights and --weight-bound belong together")
    }
  }

  /// The further risks, read as the first table is.
  func risks(_ reading: TableArguments) throws -> [Calibration.FurtherRisk] {
    try also.map {
      Calibration.FurtherRisk(table: try reading.read($0.path, lossBound: $0.lossBound), epsilon: $0.epsilon)
    }
  }

  /// The weights of the samples; `nil` where all weigh alike.
  func ratios() throws -> SampleWeights? {
    try weights.map { try SampleWeights(try LossTable.numbers(path: $0), bound: weightBound ?? 1) }
  }
}
