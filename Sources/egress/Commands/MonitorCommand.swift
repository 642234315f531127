import ArgumentParser
import FileFormats
import Foundation
import RiskControl

struct MonitorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "monitor",
    abstract: "Say whether a deployed certificate still holds, from the log of its audits.",
    discussion: """
      summarize, answer and serve write the log with --audit SHARE. While the expected loss of the outputs against full depth \
      is at most epsilon, the alarm is ever raised with probability at most delta, however often the log is looked at.

      EXAMPLES
        egress summarize --certificate docs.certificate.json --audit 0.02 --input in.jsonl --output out.jsonl
        egress monitor docs.audit.jsonl
        egress monitor docs.audit.jsonl --certificate docs.certificate.json --figure audit.svg

      Exit status: 0 no alarm; 4 the alarm was raised; 1 the log cannot be read; 64 the options are wrong.
      """)

  @Argument(help: "Log of audits.")
  var log: String

  @Option(help: ArgumentHelp("Refuse a log of another certificate than this.", valueName: "cert.json"))
  var certificate: String?

  @Option(help: ArgumentHelp("Draw the evidence over the audits.", valueName: "figure.svg"))
  var figure: String?

  @Option(help: "Print text or json.")
  var format = TableFormat.text

  /// The exit status of an alarm.
  static let alarmStatus: Int32 = 4

  private struct Result: Encodable {
    var certificateSha256: String
    var metric: String
    var epsilon: Double
    var delta: Double
    var audits: Int
    var meanLoss: Double
    var pValue: Double
    var alarm: Bool
    var alarmAt: Int?
  }

  func run() throws {
    let (header, entries, monitor) = try AuditLog.read(path: log)
    if let certificate {
      let digest = try Certificate.read(path: certificate).digest()
      guard digest == header.certificate else {
        throw CommandError(
          "\(log) is the audit log of another certificate: SHA-256 \(header.certificate), that of "
            + "\(certificate) is \(digest)"
        )
      }
    }
    if let figure {
      let text = try MonitorFigure(header: header, losses: entries.map(\.loss)).svg()
      do {
        try Data(text.utf8).write(to: URL(fileURLWithPath: figure), options: .atomic)
      } catch {
        throw CommandError("cannot write to \(figure): \(error.localizedDescription)")
      }
    }
    let result = Result(
      certificateSha256: header.certificate, metric: header.metric, epsilon: header.epsilon,
      delta: header.delta, audits: monitor.count, meanLoss: monitor.meanLoss, pValue: monitor.pValue,
      alarm: monitor.isAlarmed, alarmAt: monitor.alarmAt)
    try TextOutput.standard.write(
      format == .json ? JSONOutput.line(result) + "\n" : Self.describe(result))
    if monitor.isAlarmed { throw ExitCode(Self.alarmStatus) }
  }

  private static func describe(_ result: Result) -> String {
    let state =
      result.alarmAt.map {
        "alarm, at audit \($0): the loss is above epsilon, or what has a probability of at most delta has happened"
      } ?? (result.audits == 0 ? "no audits yet" : "no alarm")
    return """
      state       \(state)
      audits      \(result.audits), mean loss \(result.meanLoss.formatted(places: 4)) (\(result.metric))
      epsilon     \(TableText.short(result.epsilon)), delta \(TableText.short(result.delta))
      evidence    p = \(TableText.short(result.pValue)) of "the expected loss was at most epsilon all along"
      certificate \(result.certificateSha256)

      """
  }
}
