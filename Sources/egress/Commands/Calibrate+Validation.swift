import ArgumentParser
import RiskControl

/// Options that do not go together, or that have no effect.
extension Calibrate {
  func validate() throws {
    if tables.count > 1, !further.also.isEmpty || further.weights != nil || rule.epsilon.values.count > 1 {
      throw ValidationError("several policies take one epsilon, and neither --also nor --weights")
    }
    if !further.also.isEmpty, rule.epsilon.values.count > 1 || further.weights != nil {
      throw ValidationError("--also takes one epsilon a risk, and no --weights")
    }
    _ = try rule.settings(isGrowing: documents.data != nil && !loss.isSelective)
    try documents.data == nil ? validateTables() : validateDocuments()
  }

  private func validateTables() throws {
    guard !tables.isEmpty else { throw ValidationError("Give a table of losses, or --data.") }
    let given =
      documents.given + guarding.given + exits.given + drafting.given + subject.given
    if let name = given.first { throw ValidationError("--\(name) has no effect without --data.") }
  }

  private func validateDocuments() throws {
    guard tables.isEmpty else { throw ValidationError("Give either a table of losses or --data, not both.") }
    if policy != nil { throw ValidationError("--policy has no effect with --data.") }
    if let name = table.given.first { throw ValidationError("--\(name) has no effect with --data.") }
    if documents.promptDepth != nil, loss.isSelective {
      throw ValidationError(
        "--prompt-depth certifies prompts, alone or with exits or drafts, without --risk selective.")
    }
    if documents.promptDepth == .certified, drafting.draft != nil {
      throw ValidationError(
        "--prompt-depth with --draft takes the layer after which prompts stop, as --prompt-depth 24.")
    }
    if loss.isSelective { return try validateAnswers() }
    if documents.sharding.shard != nil, documents.prices != nil {
      throw ValidationError(
        "--prices has no effect with --shard: shards count, and egress merge prices them.")
    }
    let (metric, _) = try quality()
    try validateFurtherMetrics()
    if let several = severalPolicies {
      if rule.epsilon.values.count > 1 { throw ValidationError("\(several) take one epsilon") }
      if rule.rule == .crc {
        throw ValidationError(
          "\(several) take --rule ucb or ltt: crc controls an expectation, which does not hold for the best of several"
        )
      }
    }
    let isOfPrompts = documents.promptDepth == .certified
    if drafting.draft != nil {
      let sweep = [("lowest", documents.lowest != nil), ("every-threshold", documents.everyThreshold)]
      if let name = exits.given.first ?? sweep.first(where: { $0.1 })?.0 {
        throw ValidationError("--\(name) has no effect with --draft.")
      }
    } else if isOfPrompts, let name = exits.given.first {
      throw ValidationError(
        "--\(name) has no effect with --prompt-depth, unless it names the layer after which prompts stop.")
    } else if !isOfPrompts, let grid = documents.grid, !grid.values.allSatisfy({ $0 < 1 }) {
      throw ValidationError("--grid must hold thresholds at least 0 and below 1.")
    }
    if metric.distance != nil, drafting.draft != nil || documents.promptDepth != nil {
      throw ValidationError(
        "--metric \(metric.name) compares exits; with --\(drafting.draft == nil ? "prompt-depth" : "draft") give one "
          + "of texts.")
    }
  }

  private func validateAnswers() throws {
    let others: [(String, Bool)] = [
      ("lowest", documents.lowest != nil), ("fallback", drafting.fallback?.values.count ?? 0 > 1),
      ("every-threshold", documents.everyThreshold), ("prices", documents.prices != nil),
      ("sign", writing.sign != nil),
    ]
    let policy = documents.grid == nil ? exits.given + drafting.given : []
    if let name = policy.first ?? others.first(where: { $0.1 })?.0 {
      throw ValidationError(
        "--\(name) has no effect with --risk selective.")
    }
    guard rule.epsilon.values.count == 1 else {
      throw ValidationError("--risk selective takes one --epsilon.")
    }
    _ = try loss.answerLoss()
    do {
      _ = try SelectiveCalibration(answerSettings())
    } catch let error as RiskControlError {
      throw ValidationError(error.description)
    }
  }

  /// Checks what several metrics have to do with the other options.
  private func validateFurtherMetrics() throws {
    let others = try loss.further(rule.epsilon.values)
    guard !others.isEmpty else { return }
    if !further.also.isEmpty {
      throw ValidationError("--also takes tables; with --data give --metric all names.")
    }
    guard try quality().metric.distance == nil else {
      throw ValidationError("--metric takes several only of texts: brier and hellinger stand alone.")
    }
    if let severalPolicies { throw ValidationError("\(severalPolicies) take one --metric.") }
  }
}
