import Certification

extension Evaluation.Result {
  /// For a person.
  var text: String {
    var lines: [(String, String)] = [
      ("documents", "\(documents), \(metric), \(risk)"),
      (
        "threshold",
        "\(TableText.short(threshold))"
          + (isOfPrompts
            ? ", the layer after which prompts stop"
            : exits.speculation == nil && threshold >= 1 ? ", full depth" : "")
          + (isOfPrompts ? "" : promptDepth.map { "; prompts stop after layer \($0)" } ?? "")
      ),
    ]
    let within = isWithinEpsilon.map { $0 ? " (at most epsilon)" : " (above epsilon)" } ?? ""
    let limit = epsilon.map { ", epsilon \(TableText.short($0))" } ?? ""
    lines.append(
      (
        "test risk",
        "\(testRisk.formatted(places: 4)) ± \(testRiskError.formatted(places: 4))\(limit)\(within)"
      ))
    if let brier, let hellinger {
      lines.append(
        (
          "distances",
          "Brier \(brier.formatted(places: 4)), Hellinger \(hellinger.formatted(places: 4)) a token of the full "
            + "model's output"
        ))
    }
    if let outsideShare {
      let rest = insideRisk.map { ", test risk of the others \($0.formatted(places: 4))" } ?? ""
      lines.append(("outside", "\((100 * outsideShare).formatted(places: 1)) % at full depth" + rest))
    }
    lines.append(("same output", "\(identicalOutputs) of \(documents) documents"))
    func row(_ name: String, _ value: (Evaluation.Way) -> String) {
      lines.append((name, Self.pad(value(full)) + Self.pad(value(exits))))
    }
    let name = exits.speculation != nil ? "with drafts" : isOfPrompts ? "this depth" : "early exits"
    lines.append(("", Self.pad("full depth") + Self.pad(name)))
    if full.quality != nil { row("quality") { ($0.quality ?? 0).formatted(places: 4) } }
    row("layers") { $0.averageLayer.formatted(places: 2) + " of \(layers)" }
    row("MB a token") { ($0.bytesPerToken / 1e6).formatted(places: 2) }
    row("ms a token") { $0.millisecondsPerToken.formatted(places: 2) }
    row("  layers") { $0.breakdown.layers.formatted(places: 2) }
    row("  heads") { $0.breakdown.heads.formatted(places: 2) }
    row("  cache") { $0.breakdown.cache.formatted(places: 2) }
    row("  the rest") { $0.breakdown.gatesAndSampling.formatted(places: 2) }
    row("documents/s") { $0.samplesPerSecond.formatted(places: 2) }
    if let drafts = exits.speculation {
      let share = Double(drafts.accepted) / Double(max(drafts.drafted, 1))
      lines.append(
        (
          "drafts",
          "\(drafts.drafted) tokens, \((100 * share).formatted(places: 1)) % kept, "
            + "\(drafts.substituted) of them not the model's own; \(exits.tokens) tokens in \(drafts.steps) passes"
        ))
    }
    lines.append(
      (
        "time",
        "\(timeRatio.formatted(places: 3)) of full depth a token, \(promptTimeRatio.formatted(places: 3)) a prompt, "
          + "\(documentTimeRatio.formatted(places: 3)) a document"
      ))
    return lines.map { $0.0.padding(to: 13) + $0.1 }.joined(separator: "\n") + "\n"
  }

  /// Whether prompts stop and nothing else is done.
  private var isOfPrompts: Bool { exits.speculation == nil && promptDepth.map(Double.init) == threshold }

  private static func pad(_ text: String) -> String {
    String(repeating: " ", count: max(14 - text.count, 1)) + text
  }
}

extension String {
  /// The text with spaces after it, up to a width.
  func padding(to width: Int) -> String {
    self + String(repeating: " ", count: max(width - count, 0))
  }
}
