import RiskControl
import TextLosses

/// A share in percent, of at most two digits after the point.
private func percent(_ share: Double) -> String { plain((share * 1e4).rounded() / 100) + " %" }

extension Certificate {
  /// What is guaranteed, as a person reads it: how many samples, what at most is lost, how surely, and for what.
  ///
  /// ```
  /// Calibrated on 100 documents. On average ROUGE-L falls by at most 0.05 (90 % confidence). Valid for documents like
  /// those.
  /// ```
  ///
  /// The sentence leaves out conditions: `guarantee` and `limits`, which the file holds, are exact.
  public var statement: String {
    let things = QualityMetric(name: subject.metric) == nil ? "samples" : "documents"
    let calibrated = "Calibrated on \(sampleCount) \(things)."
    guard let threshold else { return "\(calibrated) Nothing is guaranteed: no threshold was safe enough." }
    if outcome == .onlySafest {
      return "\(calibrated) Only the full model is certified: no faster threshold was safe enough."
    }
    let claim = "\(loss) by at most \(plain(settings.epsilon))"
    let also =
      furtherRisks.isEmpty
      ? "" : ", and the further risks stay at or below their epsilon"
    switch settings.rule {
    case .empirical:
      return "\(calibrated) Nothing is guaranteed: at threshold \(plain(threshold)) "
        + "\(loss) by at most \(plain(settings.epsilon)) on these \(things), which says little of others."
    case .crc:
      return
        "\(calibrated) On average over such calibrations \(claim)\(also), if a sample's loss never shrinks towards "
        + "faster thresholds. Valid for \(things) like those."
    case .ucb, .ltt:
      let confidence = "(\(percent(1 - settings.delta)) confidence)"
      let scope =
        switch settings.measure {
        case .mean: "On average \(claim)"
        case .quantile(let level): "For \(percent(level)) of \(things) \(claim)"
        case .conditionalValueAtRisk(let level):
          "Over the worst \(percent(1 - level)) of \(things), on average \(claim)"
        }
      return "\(calibrated) \(scope)\(also) \(confidence). Valid for \(things) like those."
    }
  }

  /// What the statement does not cover, in two sentences.
  public var caution: String {
    let others =
      outsideShare.map {
        " What the guard finds unlike those documents, \(percent($0)) of them, is decoded at full depth."
      } ?? ""
    return
      "Nothing is said about a single one, nor about how good the full model is.\(others) The exact "
      + "statement stands in the file."
  }

  /// What changes, as the beginning of "… by at most ε".
  private var loss: String {
    let isGap = subject.risk == QualityRisk.gap.name
    switch QualityMetric(name: subject.metric) {
    case .text(let metric) where isGap && metric.readsReferences:
      return metric.risesWithQuality ? "\(metric.title) falls" : "\(metric.title) rises"
    case .text(let metric) where isGap: return "\(metric.title) rises"
    case .text(let metric): return "outputs differ from the full model's in \(metric.title)"
    case .distribution(let distance):
      return
        "distributions of tokens differ from the full model's in the \(distance.rawValue.capitalized) distance"
    case nil: return "the loss (\(subject.metric); \(subject.risk)) is above the full model's"
    }
  }
}

extension AnswerCertificate {
  /// What is guaranteed, as a person reads it: `guarantee`, which the file holds, is exact.
  public var statement: String {
    let calibrated = "Calibrated on \(sampleCount) questions."
    guard threshold != nil else {
      return "\(calibrated) Nothing is guaranteed: at no confidence are answers good enough."
    }
    let claim =
      metric == SequenceLoss.exactMatch.name
      ? "at most \(percent(epsilon)) are wrong"
      : "their \(SequenceLoss(name: metric)?.title ?? metric) is at most \(plain(epsilon)) below 1"
    return "\(calibrated) Of the answers given, on average \(claim) (\(percent(1 - delta)) confidence). "
      + "Valid for questions and documents like those."
  }
}

extension SequenceLoss {
  /// What the score is called in sentences.
  package var title: String {
    switch self {
    case .rouge(let rouge):
      rouge.variant.rawValue.uppercased().replacing("LSUM", with: "Lsum")
        + (rouge.stemming ? " of stems" : "")
    case .tokenF1: "F1"
    case .exactMatch: "exact match"
    case .bleu: "BLEU"
    case .chrF: "chrF"
    case .editDistance: "edit distance"
    case .tokenDisagreement: "the share of other tokens"
    case .repetition: "the repeated share"
    case .unsupported: "the unsupported share of names and numbers"
    }
  }

  /// Whether the score is better where it is higher, as of all but distances.
  fileprivate var risesWithQuality: Bool { self != .editDistance && self != .tokenDisagreement }
}
