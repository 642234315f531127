import Certification
import Foundation
import RiskControl

/// What calibrate prints for a person.
enum TableText {
  /// Six significant digits.
  static func short(_ value: Double) -> String { value.formatted(significant: 6) }

  static func describe(_ certificate: Certificate, path: String) -> String {
    var lines: [(String, String)] = [("outcome", certificate.outcome.rawValue)]
    if let threshold = certificate.threshold, let index = certificate.index {
      lines.append(
        ("threshold", "\(threshold) (index \(index) of \(certificate.thresholdCount) rows, counted from 0)"))
    }
    let settings = certificate.settings
    let rule =
      settings.rule.controlsWithHighProbability
      ? "\(settings.rule.rawValue) with \(settings.bound.rawValue), delta \(short(settings.delta))"
      : settings.rule.rawValue
    lines.append(
      (
        "epsilon",
        "\(short(settings.epsilon)) (\(settings.measure.name) loss; \(rule); n = \(certificate.sampleCount))"
      ))
    if let bound = certificate.upperBound { lines.append(("upper bound", short(bound))) }
    if let risk = certificate.empiricalRisk { lines.append(("observed", short(risk))) }
    for (number, risk) in certificate.furtherRisks.enumerated() {
      let bound = risk.upperBound.map { ", upper bound \(short($0))" } ?? ""
      let what = risk.metric.map { "\($0); " } ?? ""
      lines.append(("risk \(number + 2)", "\(what)epsilon \(short(risk.epsilon))\(bound)"))
    }
    if let cost = certificate.cost, let safest = certificate.safestCost {
      let change = safest == 0 ? "" : " (\((100 * (cost / safest - 1)).formattedChange(places: 1))%)"
      lines.append(("cost", "\(short(cost)), at the safest threshold \(short(safest))\(change)"))
      if certificate.outcome == .certified, certificate.pays == false {
        lines.append(("pays", "no: use the safest threshold, which is certified too and costs no more"))
      }
    }
    lines.append(
      (
        "smallest",
        "\(short(certificate.smallestCertifiableEpsilon)) is the smallest epsilon that n samples without loss certify"
      ))
    if let reason = certificate.reason { lines.append(("why", reason)) }
    lines.append(("guarantee", certificate.statement))
    lines.append(("limits", certificate.caution))
    lines.append(("certificate", path))
    return lines.map { $0.0.padding(toLength: 12, withPad: " ", startingAt: 0) + $0.1 }.joined(
      separator: "\n")
  }
}

/// What study prints for a person.
enum StudyText {
  static func table(_ cells: [RiskControl.Study.Measurement], cost: String = "cost") -> String {
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
