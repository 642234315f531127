import ArgumentParser
import FileFormats
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

  @OptionGroup var settings: StudySettings

  @Option(help: "Draw an SVG figure into this file.")
  var figure: String?

  @Option(help: "Print text or json.")
  var format = TableFormat.text

  func validate() throws {
    guard risk != nil else { return }
    if let name = reading.given.first {
      throw ValidationError("--\(name) has no effect with --risk selective.")
    }
    if settings.namesRules {
      throw ValidationError("--rules and --scan have no effect with --risk selective.")
    }
  }

  func run() throws {
    let work =
      try risk == nil
      ? StudyRun(table: table, reading, settings) : StudyRun(answers: table, settings)
    if let figure { try work.figure.write(to: figure) }
    switch format {
    case .text: try TextOutput.standard.write(StudyText.table(work.measurements, cost: work.cost))
    case .json: try TextOutput.standard.write(Array(try CanonicalJSON.document(work.report)))
    }
  }
}
