extension CalibrationSettings {
  /// The smallest ε that this many samples can certify, which they do where no sample has a loss. It can be computed
  /// before anything is run.
  ///
  /// - Parameters:
  ///   - sampleCount: n.
  ///   - lossBound: B, times the bound of the weights where there are any.
  /// - Returns: A number in [0, lossBound]; 0 for the empirical rule, which certifies nothing. O(n).
  public func smallestCertifiableEpsilon(sampleCount: Int, lossBound: Double = 1) -> Double {
    guard sampleCount > 0 else { return lossBound }
    switch rule {
    case .empirical: return 0
    case .crc: return lossBound / Double(sampleCount + 1)
    case .ucb, .ltt:
      // Without any loss all orders are one, so that averaging over them would only take time.
      return RowTest(
        measure: measure, bound: bound, sampleCount: sampleCount, delta: delta, range: lossBound
      ).smallestCertifiable()
    }
  }

  /// The fewest samples that can certify ε; nil where ten million are too few. O(n log n).
  public func fewestSamples(lossBound: Double = 1) -> Int? {
    func isEnough(_ count: Int) -> Bool {
      let smallest = smallestCertifiableEpsilon(sampleCount: count, lossBound: lossBound)
      return rule == .ucb ? smallest < epsilon : smallest <= epsilon
    }
    var enough = 1
    while !isEnough(enough) {
      guard enough < 10_000_000 else { return nil }
      enough *= 2
    }
    var few = enough / 2
    while enough - few > 1 {
      let middle = few + (enough - few) / 2
      if isEnough(middle) { enough = middle } else { few = middle }
    }
    return enough
  }

  /// Refuses an ε that this many samples cannot reach, whatever their losses are.
  ///
  /// - Throws: ``RiskControlError`` with the smallest ε that they can reach, and how many samples this one needs.
  public func checkFeasibility(sampleCount: Int, lossBound: Double = 1) throws(RiskControlError) {
    let smallest = smallestCertifiableEpsilon(sampleCount: sampleCount, lossBound: lossBound)
    guard rule == .ucb ? smallest >= epsilon : smallest > epsilon else { return }
    let needed = fewestSamples(lossBound: lossBound).map { "; it takes at least \($0)" } ?? ""
    throw .table(
      "with \(sampleCount) samples no epsilon below \(plain((smallest * 1e4).rounded(.up) / 1e4)) can be "
        + "certified, even where none of them loses anything; epsilon is \(plain(epsilon))\(needed)")
  }
}
