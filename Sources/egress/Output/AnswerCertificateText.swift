import Certification
import RiskControl

/// What is printed of certificates of answers.
enum AnswerCertificateText {
  /// Which way of decoding was chosen.
  static func choice(_ names: [String], _ lines: [[AnswerLine]], _ chosen: Int) -> String {
    let layers = lines[chosen].compactMap(\.layers)
    let mean = layers.isEmpty ? nil : layers.reduce(0, +) / Double(layers.count)
    return "of \(names.joined(separator: ", ")), the fastest that answers about as many is \(names[chosen])"
      + (mean.map { "; a token passes \($0.formatted(places: 1)) layers on average" } ?? "")
  }

  /// What the certificate says.
  static func describe(
    _ certificate: AnswerCertificate, _ result: SelectiveCalibration.Result, path: String
  ) -> String {
    var lines: [(String, String)] = [("outcome", certificate.outcome)]
    if let threshold = certificate.threshold { lines.append(("confidence", TableText.short(threshold))) }
    lines.append(
      (
        "epsilon",
        "\(TableText.short(certificate.epsilon)) (\(certificate.metric) of the answers given; "
          + "\(certificate.bound.rawValue), delta "
          + "\(TableText.short(certificate.delta)); \(certificate.sampleCount) tested, "
          + "\(certificate.designCount) chose where to begin)"
      ))
    if let bound = certificate.upperBound, let risk = certificate.observedRisk {
      lines.append(("upper bound", TableText.short(bound)))
      lines.append(("observed", TableText.short(risk)))
    } else {
      lines.append(
        (
          "why",
          "the first confidence tested, \(TableText.short(result.firstThreshold)), has the upper bound "
            + TableText.short(result.firstUpperBound)
        ))
    }
    lines.append(("answered", "\((100 * certificate.answeredShare).formatted(places: 1)) % of the questions"))
    lines.append(
      (
        "all answers",
        "loss \(certificate.riskOfAll.formatted(places: 4)); \(certificate.declinedCount) questions declined or outside"
      ))
    lines.append(("guarantee", certificate.statement))
    lines.append(("certificate", path))
    return lines.map { $0.0.padding(to: 12) + $0.1 }.joined(separator: "\n") + "\n"
  }

  /// What other ε would give, which certifies nothing: one ε has to be chosen before the losses are seen.
  static func curve(
    _ settings: CalibrationSettings, _ lines: [AnswerLine]
  ) throws -> String {
    var text = "\nof other epsilons, to choose for the next calibration:\n  epsilon  answered  confidence\n"
    let given = lines.count { $0.isCandidate }
    for epsilon in [0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5] {
      var one = settings
      one.epsilon = epsilon
      let result = try SelectiveCalibration(one).calibrate(lines)
      let share = result.answeredShare * Double(given) / Double(max(lines.count, 1))
      text +=
        "  " + TableText.short(epsilon).padding(to: 9)
        + "\((100 * share).formatted(places: 1)) %".padding(to: 10)
        + (result.threshold.map { $0.formatted(places: 3) } ?? "-") + "\n"
    }
    return text
  }
}
