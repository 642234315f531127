import Certification
import RiskControl

/// A study that is done: of a table of losses, or of answers.
struct StudyRun {
  let measurements: [Study.Measurement]
  let report: StudyReport
  /// What the cost of the measurements is.
  let cost: String

  /// Studies a table of losses.
  init(table: String, _ reading: TableArguments, _ settings: StudySettings) throws {
    let losses = try reading.read(table)
    let study = try settings.study()
    measurements = try Self.measure(table, settings) { bar throws(RiskControlError) in
      try study.run(on: losses) { bar.show(done: $0) }
    }
    report = StudyReport(study: study, sampleCount: losses.sampleCount, measurements: measurements)
    cost = "cost"
  }

  /// Studies the answers that calibrate --risk selective has written.
  init(answers path: String, _ settings: StudySettings) throws {
    let samples = try AnswerLine.read(path: path).map(\.sample)
    let study = try settings.study(of: samples)
    measurements = try Self.measure(path, settings) { bar throws(RiskControlError) in
      try study.run(on: samples) { bar.show(done: $0) }
    }
    report = StudyReport(study: study, sampleCount: samples.count, measurements: measurements)
    cost = "answered"
  }

  var figure: StudyFigure {
    StudyFigure(measurements, delta: report.delta, trials: report.trials, cost: cost)
  }

  /// Runs a study; an error about its settings is one of usage.
  private static func measure(
    _ path: String, _ settings: StudySettings,
    _ study: (ProgressBar) throws(RiskControlError) -> [Study.Measurement]
  ) throws -> [Study.Measurement] {
    let bar = ProgressBar(total: settings.trials, what: "trials")
    defer { bar.clear() }
    do {
      return try study(bar)
    } catch {
      throw usage(error.named(path))
    }
  }
}
