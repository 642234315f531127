import Foundation
import RiskControl

/// What tables of results are written with.
enum TableText {
  /// Six significant digits.
  static func short(_ value: Double) -> String { value.formatted(significant: 6) }
}

/// What study prints for a person.
enum StudyText {
  static func table(_ cells: [Study.Measurement], cost: String = "cost") -> String {
    func pad(_ text: String, _ width: Int) -> String {
      String(repeating: " ", count: max(width - text.count, 0)) + text
    }
    let hasCosts = cells.contains { $0.cost != nil }
    var text = "     n  rule            epsilon        test risk     violations  certified"
    text += (hasCosts ? pad(cost, 16) : "") + "\n"
    for cell in cells {
      text += pad("\(cell.calibrationSize)", 6) + "  "
      text += cell.method.name.padding(toLength: 14, withPad: " ", startingAt: 0) + "  "
      text += pad(TableText.short(cell.epsilon), 7) + "  "
      text +=
        pad("\(cell.risk.mean.formatted(places: 4)) ± \(cell.risk.deviation.formatted(places: 4))", 16) + "  "
      text += pad("\((100 * cell.violationRate).formatted(places: 1))%", 9) + "  "
      text += pad("\((100 * cell.certifiedRate).formatted(places: 1))%", 9)
      if let cost = cell.cost {
        text +=
          "  "
          + pad(
            "\(cost.mean.formatted(significant: 4)) ± \(cost.deviation.formatted(significant: 2))", 14)
      }
      text += "\n"
    }
    return text
  }
}
