/// Four digits, for sentences.
private func rounded(_ value: Double) -> String { plain((value * 1e4).rounded() / 1e4) }

extension CalibrationShortfall {
  /// Why no more was certified, for a person.
  func sentence(settings: CalibrationSettings) -> String {
    switch self {
    case .tooFewSamples(let smallest):
      return "too few samples: even losses that are all 0 would certify no epsilon below \(plain(smallest)); "
        + "epsilon is \(plain(settings.epsilon))"
    case .firstThresholdFailed(let index, let threshold, let bound):
      let statistic = settings.rule == .empirical ? "mean loss" : "upper bound"
      return
        "the first threshold tested, \(plain(threshold)) (index \(index)), has the \(statistic) \(plain(bound)); "
        + "epsilon is \(plain(settings.epsilon))"
    case .observedAboveBound(let index, let threshold, let observed, let bound):
      return
        "threshold \(plain(threshold)) (index \(index)) is not certified: its bets bound the risk by "
        + "\(rounded(bound)), but the "
        + "observed risk is \(rounded(observed)), above that and above epsilon; samples that are sorted do "
        + "this, and bad luck"
    case .noOtherThreshold:
      return "the table holds no threshold but the full model's"
    }
  }
}

extension Certificate {
  /// What is guaranteed, in one sentence.
  public var guarantee: String {
    guard let threshold else {
      return "Nothing is guaranteed: no threshold of the table could be certified."
    }
    if outcome == .onlySafest {
      return
        "Only the full model (threshold \(plain(threshold))) is certified: its loss against itself is 0 by "
        + "construction."
    }
    let epsilon = settings.epsilon
    let also =
      furtherRisks.isEmpty ? "" : ", and the further risks listed are at most their epsilon, all at once"
    switch settings.rule {
    case .empirical:
      return
        "Nothing is guaranteed: the mean calibration loss at threshold \(plain(threshold)) is at most "
        + "\(plain(epsilon)), which says little about new samples."
    case .crc:
      return
        "Averaged over calibration sets of \(sampleCount) samples, the expected loss of a new sample at the threshold "
        + "chosen (here \(plain(threshold))) is at most \(plain(epsilon)), provided that the loss of every "
        + "sample can only grow from one threshold to the next less safe one\(also)."
    case .ucb, .ltt:
      let what =
        switch settings.measure {
        case .mean: "the expected loss of a new sample"
        case .quantile(let level): "the \(plain(level))-quantile of the loss of a new sample"
        case .conditionalValueAtRisk(let level):
          "the mean of the worst \(plain(1 - level)) of the losses of new samples"
        }
      return
        "With probability at least 1 - \(plain(settings.delta)) over the draw of the "
        + "\(sampleCount) calibration samples, "
        + "\(what) at threshold \(plain(threshold)) is at most \(plain(epsilon))\(also)."
    }
  }

  /// Whether decoding at the threshold costs less than at the safest one; nil without costs.
  public var pays: Bool? {
    guard let cost, let safestCost else { return nil }
    return cost < safestCost
  }

  /// What is not guaranteed.
  public var limits: String {
    let data =
      weightsDigest == nil
      ? "It holds for new samples from the distribution that the calibration samples were drawn from independently"
      : "It holds for new samples from the distribution that the given weights describe exactly"
    let others =
      outsideShare.map {
        " Documents that its guard finds unlike those it was made of (\(plain(($0 * 1e3).rounded() / 10)) % of the "
          + "samples) are decoded as the full model does, which the guarantee counts in."
      } ?? ""
    return data
      + ", for an epsilon and settings fixed before the losses were seen; it says nothing about any single "
      + "sample. The loss "
      + "(\(subject.metric); \(subject.risk)) is relative to the full model's own output: the full model's "
      + "quality is not guaranteed." + others + fallback
  }

  private var fallback: String {
    guard outcome == .certified, pays == false, let cost, let safestCost else { return "" }
    return
      " Decoding at this threshold does not pay: it costs \(plain(cost)) on average, and the safest threshold "
      + "\(plain(safestCost)), which is therefore the one to use."
  }
}
