import EarlyExit

extension ExitHeadsDescription {
  /// For a person.
  var text: String {
    var lines = [
      "fitted on \(fittedTokens.grouped) tokens, classifiers on \(classifierTokens.grouped); "
        + "agreement with the full model on \(heldOutTokens.grouped) held-out tokens:",
      "layer  shared head  fitted map  classifier right",
    ]
    for row in agreement {
      let layer = String(repeating: " ", count: max(0, 5 - "\(row.layer)".count)) + "\(row.layer)"
      lines.append(
        "\(layer)  \(row.sharedHead.formatted(places: 3))        \(row.fittedMap.formatted(places: 3))       "
          + row.classifier.formatted(places: 3)
          + (row.regression.map { "; \($0.formatted(places: 3)) before refinement" } ?? ""))
    }
    return lines.joined(separator: "\n") + "\n"
  }
}
