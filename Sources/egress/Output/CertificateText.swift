import Certification
import Foundation
import RiskControl

/// What is printed of certificates.
enum CertificateText {
  static func describe(_ certificate: Certificate, path: String) -> String {
    var lines: [(String, String)] = [("outcome", certificate.outcome.rawValue)]
    if let threshold = certificate.threshold, let index = certificate.index {
      lines.append(
        ("threshold", "\(threshold) (index \(index) of \(certificate.thresholdCount) rows, counted from 0)"))
    }
    if let layer = certificate.promptLayer {
      lines.append(
        (
          "prompts",
          "stop after layer \(layer) but for the last tokens, at every threshold "
            + (certificate.isOfDrafts ? "above 0" : "below 1")
        ))
    }
    let settings = certificate.settings
    let rule =
      settings.rule.controlsWithHighProbability
      ? "\(settings.rule.rawValue) with \(settings.bound.rawValue), delta \(TableText.short(settings.delta))"
      : settings.rule.rawValue
    lines.append(
      (
        "epsilon",
        "\(TableText.short(settings.epsilon)) (\(settings.measure.name) loss; \(rule); n = \(certificate.sampleCount))"
      ))
    if let bound = certificate.upperBound { lines.append(("upper bound", TableText.short(bound))) }
    if let risk = certificate.empiricalRisk { lines.append(("observed", TableText.short(risk))) }
    for (number, risk) in certificate.furtherRisks.enumerated() {
      let bound = risk.upperBound.map { ", upper bound \(TableText.short($0))" } ?? ""
      let what = risk.metric.map { "\($0); " } ?? ""
      lines.append(("risk \(number + 2)", "\(what)epsilon \(TableText.short(risk.epsilon))\(bound)"))
    }
    if let cost = certificate.cost, let safest = certificate.safestCost {
      let change = safest == 0 ? "" : " (\((100 * (cost / safest - 1)).formattedChange(places: 1))%)"
      lines.append(
        ("cost", "\(TableText.short(cost)), at the safest threshold \(TableText.short(safest))\(change)"))
      if certificate.outcome == .certified, certificate.pays == false {
        lines.append(("pays", "no: use the safest threshold, which is certified too and costs no more"))
      }
    }
    lines.append(
      (
        "smallest",
        "\(TableText.short(certificate.smallestCertifiableEpsilon)) is the smallest epsilon that n samples without loss certify"
      ))
    if let reason = certificate.reason { lines.append(("why", reason)) }
    lines.append(("guarantee", certificate.statement))
    lines.append(("limits", certificate.caution))
    lines.append(("certificate", path))
    return lines.map { $0.0.padding(toLength: 12, withPad: " ", startingAt: 0) + $0.1 }.joined(
      separator: "\n")
  }

  /// What verify says of a certificate that recomputes.
  static func verified(_ certificate: Certificate, path: String, table: String) -> String {
    """
    verified    \(path) recomputes from \(table) to the last digit
    outcome     \(certificate.outcome.rawValue)
    guarantee   \(certificate.statement)
    limits      \(certificate.caution)

    """
  }

  /// One certificate, or an array of several.
  static func json(_ certificates: [Certificate]) throws -> String {
    let texts = try certificates.map { String(decoding: try $0.jsonData(), as: UTF8.self) }
    return texts.count == 1
      ? texts[0] : "[\n" + texts.map { String($0.dropLast()) }.joined(separator: ",\n") + "\n]\n"
  }

  /// What a certified threshold costs, for the user.
  static func cost(
    of certificate: Certificate, lines: [RunLine], facts: DecoderFacts, policy: PolicyDescription
  ) -> String? {
    guard let threshold = certificate.threshold else { return nil }
    func mean(_ values: (RunLine) -> Double) -> Double {
      lines.map(values).reduce(0, +) / Double(lines.count)
    }
    let megabytes = (mean { $0.costs[$0.piece(at: threshold)] }, mean { $0.costs[0] })
    let milliseconds = (
      (certificate.cost ?? 0).formatted(places: 2), (certificate.safestCost ?? 0).formatted(places: 2)
    )
    let isSlower = certificate.pays == false
    if case .drafts(let description) = policy, let prompt = description.prompt {
      return
        "at epsilon \(certificate.settings.epsilon), \(facts.draft ?? description.draft) drafting for "
        + "\(facts.model), prompts "
        + (threshold > 0 ? "stop after layer \(prompt.layer)" : "pass all layers")
        + ", a token of the output reads \(megabytes.0.formatted(places: 1)) MB of weights of both, and a document, "
        + "prompt and output, takes \(milliseconds.0) ms by what its parts cost on this machine; "
        + "\(facts.megabytes.formatted(places: 1)) MB without drafts, and \(milliseconds.1) ms at full depth with the "
        + "drafts that pay"
        + (isSlower && threshold > 0 ? ", so that is what decoding with this certificate takes" : "")
    }
    if let draft = facts.draft {
      return
        "at epsilon \(certificate.settings.epsilon), \(draft) drafting for \(facts.model), a token "
        + "reads \(megabytes.0.formatted(places: 1)) MB of weights of both and takes \(milliseconds.0) ms "
        + "by what passes cost on this machine; \(facts.megabytes.formatted(places: 1)) MB without drafts, and "
        + "\(milliseconds.1) ms with the drafts that pay"
        + (isSlower && threshold > 0
          ? ", so that is what decoding with this certificate takes" : "")
    }
    let layer = mean { $0.layers[$0.piece(at: threshold)] }
    if case .prompts = policy {
      return
        "at epsilon \(certificate.settings.epsilon), a prompt's token passes \(layer.formatted(places: 1)) of "
        + "\(facts.layers) layers on average, and a document, prompt and output, takes \(milliseconds.0) ms by what its parts "
        + "cost on this machine; \(milliseconds.1) ms at full depth"
        + (isSlower && threshold < Double(facts.layers)
          ? ", so that is what decoding with this certificate takes" : "")
    }
    if case .exits(let description) = policy, let prompt = description.prompt {
      return
        "at epsilon \(certificate.settings.epsilon), prompts "
        + (threshold < 1 ? "stop after layer \(prompt.layer)" : "pass all layers")
        + ", a token of the output passes \(layer.formatted(places: 1)) of \(facts.layers) on average and reads "
        + "\(megabytes.0.formatted(places: 1)) MB of weights, and a document, prompt and output, takes "
        + "\(milliseconds.0) ms by what its parts cost on this machine; \(megabytes.1.formatted(places: 1)) MB and "
        + "\(milliseconds.1) ms at full depth"
        + (isSlower && threshold < 1
          ? ", so that is what decoding with this certificate takes" : "")
    }
    return "at epsilon \(certificate.settings.epsilon), a token passes \(layer.formatted(places: 1)) of "
      + "\(facts.layers) layers on average, reads \(megabytes.0.formatted(places: 1)) MB of weights and takes "
      + "\(milliseconds.0) ms by what its parts cost on this machine; "
      + "\(megabytes.1.formatted(places: 1)) MB and \(milliseconds.1) ms at full depth"
      + (isSlower && threshold < 1
        ? ", so that is what decoding with this certificate takes" : "")
  }
}
