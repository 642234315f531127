import Foundation
import RiskControl

/// The evidence of a monitor over its audits: ln K, and the line ln(1/δ) at which the alarm is raised.
struct MonitorFigure {
  private let header: AuditLog.Header
  /// ln K after each audit, from 0 before the first.
  private let evidence: [Double]
  private let alarmAt: Int?

  private static let (width, height) = (640.0, 300.0)
  private static let (left, right, top, bottom) = (60.0, 620.0, 36.0, 250.0)

  /// - Throws: `RiskControlError` for losses out of range.
  init(header: AuditLog.Header, losses: [Double]) throws {
    self.header = header
    var monitor = try RiskMonitor(
      epsilon: header.epsilon, delta: header.delta, lossBound: header.lossBound, leastLoss: header.leastLoss)
    var evidence = [0.0]
    for loss in losses {
      try monitor.add(loss)
      evidence.append(monitor.logCapital)
    }
    self.evidence = evidence
    alarmAt = monitor.alarmAt
  }

  /// - Throws: ``CommandError`` for a file that cannot be written.
  func write(to path: String) throws {
    do {
      try Data(svg().utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
    } catch {
      throw CommandError("cannot write to \(path): \(error.localizedDescription)")
    }
  }

  func svg() -> String {
    let goal = -log(header.delta)
    let low = min(evidence.min() ?? 0, -0.5)
    let high = max(evidence.max() ?? 0, goal) * 1.1
    func x(_ index: Int) -> Double {
      Self.left + (Self.right - Self.left) * Double(index) / Double(max(evidence.count - 1, 1))
    }
    func y(_ value: Double) -> Double {
      Self.bottom - (Self.bottom - Self.top) * (value - low) / (high - low)
    }
    func number(_ value: Double) -> String { value.formatted(places: 1) }
    let points = evidence.enumerated().map { "\(number(x($0))),\(number(y($1)))" }.joined(separator: " ")
    func line(_ value: Double, _ style: String) -> String {
      "<line x1=\"\(number(Self.left))\" x2=\"\(number(Self.right))\" y1=\"\(number(y(value)))\" y2=\"\(number(y(value)))\" "
        + "\(style)/>\n"
    }
    func label(_ text: String, _ x: Double, _ y: Double, anchor: String = "start") -> String {
      "<text x=\"\(number(x))\" y=\"\(number(y))\" font-size=\"12\" text-anchor=\"\(anchor)\">\(text)</text>\n"
    }
    let mark = alarmAt.map {
      "<circle cx=\"\(number(x($0)))\" cy=\"\(number(y(evidence[$0])))\" r=\"4\" fill=\"#D55E00\"/>\n"
    }
    return """
      <svg xmlns="http://www.w3.org/2000/svg" width="640" height="300" viewBox="0 0 640 300" \
      font-family="Helvetica, Arial, sans-serif">
      <title>Evidence that the loss is above epsilon, over \(evidence.count - 1) audits</title>
      <rect width="100%" height="100%" fill="white"/>
      \(line(0, "stroke=\"#bbbbbb\""))\(line(goal, "stroke=\"#D55E00\" stroke-dasharray=\"6 3\""))\
      <polyline points="\(points)" fill="none" stroke="#0072B2" stroke-width="1.5"/>
      \(mark ?? "")\(label("alarm: ln 1/delta", Self.left + 4, y(goal) - 5))\
      \(label("ln K against \"the loss is at most \(TableText.short(header.epsilon))\"", Self.left, 20))\
      \(label("0", Self.left - 6, y(0) + 4, anchor: "end"))\(label(number(goal), Self.left - 6, y(goal) + 4, anchor: "end"))\
      \(label("\(evidence.count - 1) audits", Self.right, Self.bottom + 24, anchor: "end"))</svg>

      """
  }
}
