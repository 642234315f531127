import ArgumentParser
import FileFormats
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
    if let figure { try MonitorFigure(header: header, losses: entries.map(\.loss)).write(to: figure) }
    let report = MonitorReport(header, monitor)
    try TextOutput.standard.write(format == .json ? JSONOutput.line(report) + "\n" : report.text)
    if monitor.isAlarmed { throw ExitCode(Self.alarmStatus) }
  }
}
