import Certification

/// What an adaptation came to, for a person.
enum AdaptationText {
  static func describe(_ found: Adaptation, folder: String) -> String {
    var lines = [
      "\(found.model): \(found.summary)",
      "fitted on \(found.fittedDocuments) documents, certified on \(found.certifyingDocuments): "
        + "\(found.metric), \(found.risk), epsilon \(TableText.short(found.epsilon)), "
        + "delta \(TableText.short(found.delta))",
      "",
    ]
    for attempt in found.attempts {
      var line = attempt.name.padding(to: 26) + attempt.outcome.rawValue
      if let threshold = attempt.threshold, attempt.outcome == .certified {
        line += " at \(TableText.short(threshold))"
        if let risk = attempt.risk, let bound = attempt.bound {
          line += ", loss \(risk.formatted(places: 4)), at most \(bound.formatted(places: 4))"
        }
      }
      if let layer = attempt.promptLayer { line += "; prompts to layer \(layer)" }
      lines.append(line)
    }
    lines += ["", "".padding(to: 26) + "ms a token  ms a document  same outputs of \(found.timedDocuments)"]
    for timing in found.timings {
      func number(_ value: Double, _ width: Int, _ places: Int = 2) -> String {
        let text = value.formatted(places: places)
        return String(repeating: " ", count: max(width - text.count, 1)) + text
      }
      lines.append(
        timing.name.padding(to: 26) + number(timing.tokenMilliseconds, 10)
          + number(timing.documentMilliseconds, 15) + number(Double(timing.identicalOutputs), 17, 0)
          + (timing == found.chosenTiming ? "  <- chosen" : ""))
    }
    lines += [
      "",
      "\(found.gain.token.formatted(places: 2)) times faster a token, "
        + "\(found.gain.document.formatted(places: 2)) a document; "
        + "report in \(Adaptation.File.report.path(in: folder))",
    ]
    return lines.joined(separator: "\n") + "\n"
  }
}
