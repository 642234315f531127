import ArgumentParser
import RiskControl

/// What a study repeats, and how often.
struct StudySettings: ParsableArguments {
  @Option(parsing: .unconditional, help: "Number of random splits.")
  var trials = 100

  @Option(name: .customLong("calibration-size"), help: "Calibration sizes, as 100,500,1000.")
  var sizes: NumberList

  @Option(help: "Tolerated risks, as 0.01:0.2:0.01 or 0.05,0.1.")
  var epsilons = NumberList((1...20).map { Double($0) / 100 })

  @Option(parsing: .unconditional, help: "Tolerated probability of an unlucky calibration set, in (0, 1).")
  var delta = 0.1

  @Option(
    help: "Rules, as empirical,crc,ucb,ltt; a bound after a slash: ucb/wsr, ltt/hb.")
  var rules = Self.usualRules

  private static let usualRules = "empirical,crc,ucb/wsr,ltt/hb"

  @Option(help: "crc and empirical: full, or cautious to stop at the first violation.")
  var scan = ThresholdScan.full

  @Option(parsing: .unconditional, help: "Seed of the splits.")
  var seed: UInt64 = 0

  func validate() throws {
    _ = try methods()
    _ = try calibrationSizes()
  }

  /// Whether rules are asked for, of which a study of answers has one alone.
  var namesRules: Bool { rules != Self.usualRules || scan != .full }

  private func methods() throws -> [Study.Method] {
    try rules.split(separator: ",", omittingEmptySubsequences: false).map { name in
      guard let method = Study.Method(name: String(name)) else {
        throw ValidationError(
          "unknown rule '\(name)'; expected \(TableArguments.names(of: ThresholdRule.self)), the last two with a bound "
            + "(\(TableArguments.names(of: RiskBound.self))) after a slash if need be")
      }
      return method
    }
  }

  private func calibrationSizes() throws -> [Int] {
    try sizes.values.map { size in
      guard let whole = Int(exactly: size) else {
        throw ValidationError("calibration sizes must be whole numbers, found \(size)")
      }
      return whole
    }
  }

  /// A study of a table of losses.
  func study() throws -> Study {
    Study(
      methods: try methods(), trials: trials, calibrationSizes: try calibrationSizes(),
      epsilons: epsilons.values, delta: delta, scan: scan, seed: seed)
  }

  /// A study of answers.
  func study(of samples: [SelectiveStudy.Sample]) throws -> SelectiveStudy {
    SelectiveStudy(
      trials: trials, calibrationSizes: try calibrationSizes(), epsilons: epsilons.values, delta: delta,
      bound: SelectiveStudy.usualBound(for: samples), seed: seed)
  }
}
