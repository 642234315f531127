import ArgumentParser
import Certification
import FileFormats
import Foundation
import RiskControl

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study",
    abstract: "Repeat calibration on random splits and measure what each rule really does.",
    discussion: """
      Each trial shuffles the samples, calibrates on the first of them and measures risk and cost on the rest. Prints \
      a table, or JSON; --figure draws test risk over epsilon above cost over epsilon. --risk selective reads the \
      answers that calibrate --risk selective has written, and shows which share of the questions is answered at each \
      epsilon.
      """)

  /// What is studied but a table of losses.
  enum SelectiveRisk: String, CaseIterable, ExpressibleByArgument { case selective }

  @Argument(help: "Table of losses, as for calibrate; NAME.answers.jsonl with --risk selective.")
  var table: String

  @Option(help: "selective: the risk among the answers that are given.")
  var risk: SelectiveRisk?

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
  var rules = Self.usualRules

  private static let usualRules = "empirical,crc,ucb/wsr,ltt/hb"

  @Option(help: "crc and empirical: full, or cautious to stop at the first violation.")
  var scan = ThresholdScan.full

  @Option(parsing: .unconditional, help: "Seed of the splits.")
  var seed: UInt64 = 0

  @Option(help: "Draw an SVG figure into this file.")
  var figure: String?

  @Option(help: "Print text or json.")
  var format = TableFormat.text

  func validate() throws {
    guard risk != nil else { return }
    if let name = reading.given.first {
      throw ValidationError("--\(name) has no effect with --risk selective.")
    }
    if rules != Self.usualRules || scan != .full {
      throw ValidationError("--rules and --scan have no effect with --risk selective.")
    }
  }

  func run() throws {
    let methods = try rules.split(separator: ",", omittingEmptySubsequences: false).map { name in
      guard let method = Study.Method(name: String(name)) else {
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
    if risk != nil { return try runOnAnswers(calibrationSizes) }
    let losses = try reading.read(table)
    let study = Study(
      methods: methods, trials: trials, calibrationSizes: calibrationSizes, epsilons: epsilons.values,
      delta: delta,
      scan: scan, seed: seed)
    let measurements: [Study.Measurement]
    let bar = ProgressBar(total: trials, what: "trials")
    defer { bar.clear() }
    do {
      measurements = try study.run(on: losses) { bar.show(done: $0) }
    } catch {
      throw usage(error.named(table))
    }
    let report = StudyReport(study: study, sampleCount: losses.sampleCount, measurements: measurements)
    try show(measurements, report: report, cost: "cost")
  }

  private func runOnAnswers(_ calibrationSizes: [Int]) throws {
    let samples = try AnswerLine.read(path: table).map(\.sample)
    let isBinary = samples.allSatisfy { $0.confidence == nil || $0.loss == 0 || $0.loss == 1 }
    let study = SelectiveStudy(
      trials: trials, calibrationSizes: calibrationSizes, epsilons: epsilons.values, delta: delta,
      bound: isBinary ? .binomial : .wsr, seed: seed)
    let bar = ProgressBar(total: trials, what: "trials")
    defer { bar.clear() }
    let measurements: [Study.Measurement]
    do {
      measurements = try study.run(on: samples) { bar.show(done: $0) }
    } catch {
      throw usage(error.named(table))
    }
    let report = StudyReport(study: study, sampleCount: samples.count, measurements: measurements)
    try show(measurements, report: report, cost: "answered")
  }

  /// - Parameter cost: What the cost of the measurements is.
  private func show(
    _ measurements: [Study.Measurement], report: StudyReport, cost: String
  ) throws {
    if let figure {
      let picture = StudyFigure(measurements, delta: delta, trials: trials, cost: cost).svg()
      do {
        try Data(picture.utf8).write(to: URL(fileURLWithPath: figure), options: .atomic)
      } catch {
        throw VerificationFailure(
          description: "\(figure): the figure could not be written (\(error.localizedDescription))")
      }
    }
    switch format {
    case .text: try TextOutput.standard.write(StudyText.table(measurements, cost: cost))
    case .json:
      try TextOutput.standard.write(Array(try CanonicalJSON.document(report)))
    }
  }
}
