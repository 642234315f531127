extension Calibration {
  /// One of several exit policies, each with its own thresholds: a confidence measure, a set of exits.
  public struct Policy: Sendable {
    /// What the policy is called in results.
    public let name: String
    /// Its losses and costs on the common calibration samples.
    public let table: LossTable

    /// A policy by name.
    public init(name: String, table: LossTable) {
      self.name = name
      self.table = table
    }
  }

  /// The best of several policies, and every policy's own result.
  public struct PolicyResult: Sendable, Equatable {
    /// Index of the policy to use; nil where nothing is certified. It is the cheapest of the policies with a certified
    /// threshold, or else of those whose full model is certified.
    public let chosen: Int?
    /// One result a policy, in order, each at δ divided by the number of policies.
    public let results: [CalibrationResult]
  }

  /// Chooses among policies by their cost, without losing the guarantee to the choice.
  ///
  /// Each of the M policies is calibrated at δ/M (Bonferroni). So all M thresholds hold together with probability 1 −
  /// δ, and any of them may be picked, by any criterion. The cheapest is picked. Keep the policies few: each makes the
  /// others' share of δ smaller.
  ///
  /// - Throws: ``RiskControlError`` for CRC, whose expectation does not survive a choice, and where a table has no
  ///   costs.
  public func choose(among policies: [Policy]) throws(RiskControlError) -> PolicyResult {
    guard !policies.isEmpty else { throw .setting("no policies; expected at least one") }
    guard policies.count == 1 || settings.rule != .crc else {
      throw .setting(
        "crc controls an expectation, which does not hold for the best of several policies; use ucb or ltt")
    }
    let count = policies[0].table.sampleCount
    for policy in policies where policies.count > 1 {
      guard policy.table.costs != nil else {
        throw .table("policy has no costs to choose by; expected costs for every policy", in: policy.name)
      }
      guard policy.table.sampleCount == count else {
        throw .table(
          "\(policy.table.sampleCount) samples, expected \(count) as in \(policies[0].name)", in: policy.name)
      }
    }
    var shared = settings
    shared.delta /= Double(policies.count)
    let calibration = try Calibration(shared)
    var results: [CalibrationResult] = []
    for policy in policies {
      do {
        results.append(try calibration.calibrate(policy.table))
      } catch {
        throw policies.count > 1 ? error.named(policy.name) : error
      }
    }
    func rank(_ index: Int) -> (Int, Double)? {
      guard let choice = results[index].outcome.choice else { return nil }
      if case .certified = results[index].outcome { return (0, choice.cost ?? 0) }
      return (1, choice.cost ?? 0)
    }
    let ranked = results.indices.compactMap { index in rank(index).map { (index, $0) } }
    return PolicyResult(chosen: ranked.min { $0.1 < $1.1 }?.0, results: results)
  }
}
