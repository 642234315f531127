import ArgumentParser
import RiskControl

/// The statistical settings of a calibration.
struct RuleArguments: ParsableArguments {
  @Option(
    help: "Tolerated risk in (0, 1); several as 0.05,0.1 or 0.01:0.2:0.01 give one certificate each.")
  var epsilon: NumberList

  @Option(parsing: .unconditional, help: "Tolerated probability of an unlucky calibration set, in (0, 1).")
  var delta = 0.1

  @Option(help: "Threshold rule: \(TableArguments.names(of: ThresholdRule.self)).")
  var rule = ThresholdRule.ucb

  @Option(
    help: """
      Bound of ucb and ltt: \(TableArguments.names(of: RiskBound.self)). (default: wsr; with --data anytime, which \
      holds however often documents are added)
      """)
  var bound: RiskBound?

  @Option(help: "What is held at or below epsilon: mean, quantile:LEVEL or cvar:LEVEL.")
  var tail = "mean"

  @Option(help: "crc and empirical: full, or cautious to stop at the first violation.")
  var scan = ThresholdScan.full

  @Option(
    help: """
      Order of the samples for a betting bound: averaged over fifty orders, given, or shuffled by the seed. (default: \
      averaged; given for anytime)
      """)
  var order: OrderName?

  @Option(parsing: .unconditional, help: "Seed of a shuffled order. (default: 0)")
  var seed: UInt64?

  @Flag(help: "With several epsilons: divide delta by their number, so that all hold at once.")
  var simultaneous = false

  enum OrderName: String, CaseIterable, ExpressibleByArgument { case averaged, shuffled, given }

  /// - Parameter isGrowing: Whether samples may be added later, as they may where a model makes them.
  func settings(isGrowing: Bool) throws -> CalibrationSettings {
    guard let measure = RiskMeasure(name: tail) else {
      throw ValidationError("--tail must be mean, quantile:LEVEL or cvar:LEVEL, found \(tail)")
    }
    if seed != nil, order != nil, order != .shuffled {
      throw ValidationError("--seed draws a shuffled order; leave out --order, or give --order shuffled")
    }
    let isShuffled = order == .shuffled || seed != nil
    let order: SampleOrder? =
      isShuffled
      ? .shuffled(seed: seed ?? 0) : order == .given ? .given : order == .averaged ? .averaged : nil
    // Rules that give no probability have no bound.
    let isAnytime =
      isGrowing && rule.controlsWithHighProbability && !isShuffled && order != .averaged
    let settings = CalibrationSettings(
      epsilon: epsilon.values[0], delta: simultaneous ? delta / Double(epsilon.values.count) : delta,
      rule: rule,
      bound: bound ?? (isAnytime ? .anytime : .wsr), measure: measure, scan: scan, order: order)
    do {
      _ = try Calibration(settings)
      for value in epsilon.values {
        var one = settings
        one.epsilon = value
        _ = try Calibration(one)
      }
    } catch {
      throw ValidationError(error.description)
    }
    return settings
  }
}

/// A further risk on the command line: its table and ε, and B where it is not 1.
struct FurtherRiskArgument: ExpressibleByArgument {
  let path: String
  let epsilon: Double
  let lossBound: Double

  init?(argument: String) {
    let parts = argument.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2 || parts.count == 3, !parts[0].isEmpty, let epsilon = Double(parts[1]),
      let bound = parts.count == 3 ? Double(parts[2]) : 1
    else { return nil }
    path = String(parts[0])
    self.epsilon = epsilon
    lossBound = bound
  }
}
