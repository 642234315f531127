/// The measures of confidence that come with the library, by the names that options, plans and certificates use.
public enum UsualMeasure: String, CaseIterable, Sendable {
  /// The probability of the best token less that of the second.
  case softmax
  /// The cosine of neighbouring hidden states.
  case saturation
  /// A classifier fitted to each exit, which comes with exit heads.
  case classifier

  /// The measure.
  ///
  /// - Parameter heads: Where the classifiers are; without them no token is confident.
  public func make(heads: ExitHeads?) -> any ConfidenceMeasure {
    switch self {
    case .softmax: SoftmaxConfidence()
    case .saturation: SaturationConfidence()
    case .classifier: ClassifierConfidence(heads?.classifiers ?? [:])
    }
  }
}
