import ArgumentParser
import Foundation
import RiskControl

struct Study: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Repeat calibration on random splits and measure what each rule really does.",
    discussion: """
      Each trial shuffles the samples, calibrates on the first of them and measures risk and cost on the rest. Prints a table, or \
      JSON; --figure draws test risk over epsilon above cost over epsilon.
      """)

  @Argument(help: "Table of losses, as for calibrate.")
  var table: String

  @OptionGroup var reading: TableArguments

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
  var rules = "empirical,crc,ucb/wsr,ltt/hb"

  @Option(help: "crc and empirical: full, or cautious to stop at the first violation.")
  var scan = ThresholdScan.full

  @Option(parsing: .unconditional, help: "Seed of the splits.")
  var seed: UInt64 = 0

  @Option(help: "Draw an SVG figure into this file.")
  var figure: String?

  @Option(help: "Print text or json.")
  var format = TableFormat.text

  func run() throws {
    let methods = try rules.split(separator: ",", omittingEmptySubsequences: false).map { name in
      guard let method = RiskControl.Study.Method(name: String(name)) else {
        throw ValidationError(
          "unknown rule '\(name)'; expected \(TableArguments.names(of: ThresholdRule.self)), the last two with a bound "
            + "(\(TableArguments.names(of: RiskBound.self))) after a slash if need be")
      }
      return method
    }
    let calibrationSizes = try sizes.values.map { size in
      guard let whole = Int(exactly: size) else {
        throw ValidationError("calibration sizes must be whole numbers, found \(size)")
      }
      return whole
    }
    let losses = try reading.read(table)
    let study = RiskControl.Study(
      methods: methods, trials: trials, calibrationSizes: calibrationSizes, epsilons: epsilons.values,
      delta: delta,
      scan: scan, seed: seed)
    let measurements: [RiskControl.Study.Measurement]
    let bar = ProgressBar(total: trials, what: "trials")
    defer { bar.clear() }
    do {
      measurements = try study.run(on: losses) { bar.show(done: $0) }
    } catch {
      throw usage(error.named(table))
    }
    if let figure {
      let picture = StudyFigure(measurements, delta: delta, trials: trials).svg()
      do {
        try Data(picture.utf8).write(to: URL(fileURLWithPath: figure), options: .atomic)
      } catch {
        throw VerificationFailure(
          description: "\(figure): the figure could not be written (\(error.localizedDescription))")
      }
    }
    switch format {
    case .text: try TextOutput.standard.write(StudyText.table(measurements))
    case .json:
      let report = StudyReport(study: study, sampleCount: losses.sampleCount, measurements: measurements)
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes]
      try TextOutput.standard.write(Array(try encoder.encode(report)) + Array("\n".utf8))
    }
  }
}
